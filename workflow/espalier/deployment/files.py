"""Which files of a model's folder one needs who serves it in a format."""

from __future__ import annotations

from pathlib import Path

from espalier.config.deployment.formats import FORMATS, Format
from espalier.config.layout import TOKENIZER
from espalier.models.modeling_espalier import MODULE
from espalier.runtime.files import read_json


def served_files(folder: Path, format: Format) -> list[Path]:
    """Weights, tokenizer and config.json, which names the classes; in PyTorch also the code of unequal layers."""
    names = [*FORMATS[format].weights, "config.json", *TOKENIZER]
    if format == "torch" and "auto_map" in read_json(folder / "config.json"):
        names.append(f"{MODULE}.py")
    return [folder / name for name in names]
