"""How long the rows of a base may be, and which keys ask for longer ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espalier.config.data import LocalBase
from espalier.config.project import Config

AFTER_PADDING = ("roberta", "xlm-roberta", "camembert")
"""Families whose first position is the padding token's number plus one; that number is 1 unless config.json says otherwise."""


def longest_row(model: Mapping[str, Any]) -> int | None:
    """Most tokens of a row, from the contents of config.json; None if there is no limit or positions are only relative."""
    most = model.get("max_position_embeddings")
    if not isinstance(most, int) or model.get("position_biased_input") is False:
        return None
    padding = 1 if model.get("pad_token_id") is None else model["pad_token_id"]
    if model.get("model_type") == "mpnet":
        return most - 2  # it counts from 2, whatever the padding token is
    return most - padding - 1 if model.get("model_type") in AFTER_PADDING else most


def longest_row_in(folder: Path) -> int | None:
    """Most tokens of a row of the base in a folder; None if there is no limit, or no readable base yet."""
    try:
        return longest_row(json.loads((folder / "config.json").read_bytes()))
    except (OSError, ValueError, AttributeError, TypeError):  # not there yet, or what `fetch` refuses
        return None


def length_problems(config: Config) -> list[str]:
    """Problems of rows that are too long for a base at hand, which is in a folder of the user or fetched already."""
    wanted = {f"tasks.{name}.max_length": task.max_length for name, task in config.tasks.items()}
    wanted["measure.length"] = config.measure.length
    for name, plan in config.plans.items():
        lengths = {getattr(config.plan_for(name, task), "pad_to", None) or 0 for task in config.tasks_of(*plan.kinds)}
        wanted[f"plans.{name}.pad_to"] = max(lengths, default=0)
    problems = []
    for name, base in config.bases.items():
        folder = base.path if isinstance(base, LocalBase) else f"results/{config.project}/bases/{name}"
        most = longest_row_in(Path(folder))
        problems += [too_long(key, length, name, most) for key, length in wanted.items() if most is not None and length > most]
    return problems


def too_long(key: str, length: int, base: str, most: int) -> str:
    """The problem with a length that exceeds what a base takes."""
    return f"{key}: got {length}; the base {base} takes at most {most} tokens"
