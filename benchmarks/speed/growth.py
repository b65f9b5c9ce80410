"""How the time of a dense CoFi step grows with rows in a batch, rows in the table, tokens, layers and classes.

Rows in the table grow under L0, which is CoFi without a teacher: whether a step looks its rows up is asked, not how long a
teacher takes for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.duel import Duel
from benchmarks.speed.rows import words_of
from benchmarks.speed.runs import TINY, Effort, Scale, loop_for, method_for

STEPS = 4
"""Of a point; the first one warms up."""
SWEEPS: dict[str, tuple[int, ...]] = {
    "rows in a batch": (8, 16, 32, 64),
    "rows in the table": (1_000, 10_000, 100_000),
    "tokens a row": (16, 32, 64, 128),
    "layers": (3, 6, 12),
    "classes": (2, 20, 200),
}
QUICK_SWEEPS: dict[str, tuple[int, ...]] = {
    "rows in a batch": (4, 8),
    "rows in the table": (32, 64),
    "tokens a row": (8, 16),
    "layers": (4, 5),
    "classes": (2, 3),
}
LENGTH = 32
"""Tokens of each row where another thing grows."""


def step_seconds(method_name: str, scale: Scale, length: int, rows: int, folder: Path) -> float:
    """Median seconds of a step on rows of one length."""
    table = words_of([length] * rows, scale.vocabulary, scale.classes)
    method = method_for(method_name, STEPS, batch_size=scale.batch)
    student, teacher = (scale.model("classification", seed) for seed in (1, 2))
    return Duel(loop_for(method, student, teacher, table, folder, device=scale.device)).fight().our_seconds


def at(what: str, size: int, effort: Effort, folder: Path) -> float:
    """Seconds of a step where one thing has this size and all else is as usual."""
    scale, length, rows = effort.scale, LENGTH, STEPS * effort.scale.batch
    if what == "rows in a batch":
        scale, rows = replace(scale, batch=size), STEPS * size
    if what == "rows in the table":
        rows = size
    if what == "tokens a row":
        length = size
    if what == "layers":
        scale = replace(scale, shape={**scale.shape, "num_hidden_layers": size})
    if what == "classes":
        scale = replace(scale, classes=size)
    return step_seconds("l0" if what == "rows in the table" else "cofi", scale, length, rows, folder)


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Slope of the line through the logarithms: 1 where time grows in proportion, 0 where it does not grow."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def sweeps(effort: Effort, folder: Path) -> dict[str, dict[str, Any]]:
    """Every sweep, with its fitted exponent."""
    chosen = QUICK_SWEEPS if effort.scale.shape is TINY else SWEEPS
    found = {}
    for what, sizes in chosen.items():
        seconds = [at(what, size, effort, folder) for size in sizes]
        found[what] = {"sizes": list(sizes), "step_seconds": seconds, "exponent": exponent(sizes, seconds)}
    return found
