"""The rows of linear models in the table of a project: one for each base and task, beside the teachers of all seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from espalier.config.project import LINEAR, TEACHER
from espalier.results.places import read_fields
from espalier.results.table import BATCHES, COLUMNS, RUNTIMES
from espalier.runtime.files import digits

ScoredRow = dict[str, Any]
"""A row of table.csv; its keys are `COLUMNS`."""


def with_linear(rows: Sequence[ScoredRow], linear: Sequence[Path]) -> list[ScoredRow]:
    """These rows, and those of linear models at their place in the order of plans.

    Args:
        rows: of teachers and students, in table order.
        linear: linear.json of every task that has one, in a folder with the task's name.
    """
    models = {path.parent.name: read_fields(path, ("params_total", "size_mib", "latency_ms", "set", "sets")) for path in linear}

    joined: list[ScoredRow] = []
    for base, task in dict.fromkeys((row["base"], row["task"]) for row in rows):
        own = [row for row in rows if (row["base"], row["task"]) == (base, task)]
        if task in models:
            before = sum(row["plan"] == TEACHER or row["plan"] < LINEAR for row in own)
            own.insert(before, _linear_row(models[task], [row for row in own if row["plan"] == TEACHER]))
        joined += own
    return joined


def _linear_row(model: Mapping[str, Any], teachers: Sequence[ScoredRow]) -> ScoredRow:
    """A model that depends on no seed, compared with the means of the teachers of all seeds."""
    first = teachers[0]
    row = dict.fromkeys(COLUMNS) | {key: first[key] for key in ("base", "task", "seed", "metric")}
    row |= {"plan": LINEAR, "method": LINEAR, "stage": "0", "params_total": model["params_total"]}
    row |= {"size_mib": digits(model["size_mib"]), "score": digits(model["sets"][model["set"]][first["metric"]])}
    row["teacher_score"] = digits(fmean(teacher["score"] for teacher in teachers))

    # It runs in no runtime of encoders: each has its latency, and its speed-up over the teachers in that runtime.
    for prefix in RUNTIMES.values():
        for size in BATCHES:
            name = f"{prefix}latency_b{size}_ms"
            dense = [teacher[name] for teacher in teachers if teacher[name] is not None]
            if dense and str(size) in model["latency_ms"]:
                median = model["latency_ms"][str(size)]["median"]
                row |= {name: digits(median), f"{prefix}speedup_b{size}": digits(fmean(dense) / median)}
    return row
