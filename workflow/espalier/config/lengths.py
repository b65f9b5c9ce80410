"""How long a base's rows may be, and what asks for longer ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espalier.config.data import LocalBase
from espalier.config.project import Config

AFTER_PADDING = ("roberta", "xlm-roberta", "camembert")
"""Families whose first position is the one after the padding token's number, which is 1 where nothing is said."""


def positions(model: Mapping[str, Any]) -> int | None:
    """Tokens of the longest row, by a base's config.json; None where it names no limit, or positions are only relative."""
    most = model.get("max_position_embeddings")
    if not isinstance(most, int) or model.get("position_biased_input") is False:
        return None
    padding = 1 if model.get("pad_token_id") is None else model["pad_token_id"]
    return most - padding - 1 if model.get("model_type") in AFTER_PADDING else most


def positions_in(folder: Path) -> int | None:
    """The same for the base in a folder."""
    try:
        return positions(json.loads((folder / "config.json").read_bytes()))
    except (OSError, ValueError, AttributeError, TypeError):  # not there yet, or what `fetch` refuses
        return None


def length_problems(config: Config) -> list[str]:
    """Rows that are too long for a base which is at hand: in a folder of the user's, or fetched."""
    wanted = {f"tasks.{name}.max_length": task.max_length for name, task in config.tasks.items()}
    wanted["measure.length"] = config.measure.length
    problems = []
    for name, base in config.bases.items():
        folder = base.path if isinstance(base, LocalBase) else f"results/{config.project}/bases/{name}"
        most = positions_in(Path(folder))
        problems += [too_long(key, length, name, most) for key, length in wanted.items() if most is not None and length > most]
    return problems


def too_long(key: str, length: int, base: str, most: int) -> str:
    """What is wrong with a length."""
    return f"{key}: got {length}; the base {base} takes at most {most} tokens"
