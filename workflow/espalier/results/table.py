"""The tidy table of a project: one row for each student and each teacher, from the files that the stages wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from espalier.config.project import TEACHER
from espalier.results.places import Place, files_by_place, read_fields, split_recoveries
from espalier.runtime.errors import UserError
from espalier.runtime.files import digits

RUNTIMES = {"PyTorch eager": "", "onnxruntime": "onnx_"}
"""Runtime → prefix of its columns."""
BATCHES = (1, 32)
"""Batch sizes that have columns of their own."""
SPEED_MEASURES = (*(f"latency_b{size}_ms" for size in BATCHES), *(f"speedup_b{size}" for size in BATCHES))
SPEED_COLUMNS = tuple(prefix + measure for prefix in RUNTIMES.values() for measure in SPEED_MEASURES)
NAMES = ("base", "task", "plan", "method", "stage", "start", "metric")
"""Columns of text."""
COLUMNS = (
    *("base", "task", "plan", "method", "seed", "target", "stage", "start"),
    *("sparsity_encoder", "sparsity_total", "sparsity_relative"),
    *("params_total", "params_encoder", "params_nonzero", "size_mib", "macs", "metric", "score", "teacher_score"),
    *("updates", *SPEED_COLUMNS),
    *("train_seconds", "samples_per_second", "unlabelled_rows"),
)
COUNTED = ("sparsity_encoder", "sparsity_total", "params_total", "params_encoder", "params_nonzero", "size_mib", "macs")
"""Columns that cost.json holds under the same name."""


def gather(
    scores: Sequence[Path],
    costs: Sequence[Path],
    records: Sequence[Path],
    methods: Mapping[str, str],
    starts: Mapping[str, str],
    before: Mapping[str, str],
) -> list[dict[str, Any]]:
    """One row for each student and each teacher, with the keys `COLUMNS`, in table order.

    `samples_per_second` is the rate of the student's last stage. `sparsity_relative` is the fraction of the encoder's weights
    removed since the student `start` of another plan; since the teacher where there is no such student.

    Args:
        scores: scores.json of every student and teacher; each becomes a row.
        costs: cost.json of every student and teacher.
        records: run.json of every stage, teacher and recovery.
        methods: plan → method.
        starts: student → student of another plan that its path began with, both as task/plan/percent.
        before: student → student that its own stage started from, both as task/plan/percent.

    Raises:
        UserError: a cost, record, teacher or method is missing.
    """
    score_of = _read_all(files_by_place(scores), ("score", "metric"))
    cost_of = _read_all(files_by_place(costs), (*COUNTED, "latency_ms", "speedup", "onnx"))
    needed = ("train_seconds", "samples_per_second", "steps")
    stages, recoveries = (_read_all(files, needed) for files in split_recoveries(records))

    rows = []
    for place in score_of:
        row = _score_and_cost(place, score_of, _known(cost_of, place, "cost.json"), methods)
        row |= _start_columns(_other(place, starts), cost_of, cost_of[place])
        row |= _training(place, stages, recoveries, before)
        rows.append(row)
    return rows


def _read_all(files: Mapping[Place, Path], needed: Sequence[str]) -> dict[Place, dict[str, Any]]:
    return {place: read_fields(path, needed) for place, path in files.items()}


def _score_and_cost(
    place: Place, score_of: Mapping[Place, Any], cost: Mapping[str, Any], methods: Mapping[str, str]
) -> dict[str, Any]:
    teacher = _known(score_of, place._replace(plan=TEACHER, percent="0"), "scores.json")
    if place.plan != TEACHER and place.plan not in methods:
        raise UserError(f"{place}: plan '{place.plan}' has no method; known plans: {', '.join(methods)}")

    return {
        "base": place.base,
        "task": place.task,
        "plan": place.plan,
        "method": TEACHER if place.plan == TEACHER else methods[place.plan],
        "seed": place.seed,
        "target": place.target,
        "stage": place.percent,
        **{key: digits(cost[key]) for key in COUNTED},
        "metric": score_of[place]["metric"],
        "score": digits(score_of[place]["score"]),
        "teacher_score": digits(teacher["score"]),
        **_speed(cost, ""),
        **_speed(cost["onnx"], "onnx_"),
    }


def _speed(times: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The columns of one runtime; None at batch sizes that were not timed."""
    latency, speedup = times["latency_ms"], times["speedup"]
    return {
        **{f"{prefix}latency_b{size}_ms": digits(latency.get(str(size), {}).get("median")) for size in BATCHES},
        **{f"{prefix}speedup_b{size}": digits(speedup.get(str(size))) for size in BATCHES},
    }


def _known(contents: Mapping[Place, Any], place: Place, name: str) -> Any:
    if place not in contents:
        raise UserError(f"{place}: its {name} was not given")
    return contents[place]


def _other(place: Place, students: Mapping[str, str]) -> Place | None:
    """The student that stands for this one in such a mapping; None where there is none."""
    other = students.get(f"{place.task}/{place.plan}/{place.percent}")
    if not other:
        return None

    task, plan, percent = other.split("/")
    return place._replace(task=task, plan=plan, percent=percent)


def _start_columns(start: Place | None, cost_of: Mapping[Place, Any], cost: Mapping[str, Any]) -> dict[str, Any]:
    """The columns on the student of another plan that the path began with."""
    before = _known(cost_of, start, "cost.json")["sparsity_encoder"] if start else 0.0
    # with sparsity s0 at the start and s now, (s - s0) / (1 - s0) of the weights that were left then are gone
    relative = (cost["sparsity_encoder"] - before) / (1.0 - before)
    return {"start": f"{start.task}/{start.plan}/{start.percent}" if start else None, "sparsity_relative": digits(relative)}


def _training(
    place: Place, stages: Mapping[Place, Any], recoveries: Mapping[Place, Any], before: Mapping[str, str]
) -> dict[str, Any]:
    """The columns on training: `updates` and `train_seconds` count all that led to a student.

    That is its own stage, the stage of the student that this one started from, and so on to the base or the teacher, and its
    own recovery. Fine-tuning the teacher does not count, since plans share the teacher; the teacher's own row has it.
    `unlabelled_rows` are texts without labels that its own stage drew from; empty where it read none.
    """
    path = [recoveries[place]] if place in recoveries else []
    last: Place | None = place
    while last is not None:
        path.append(_known(stages, last, "run.json"))
        last = _other(last, before)

    return {
        "updates": sum(record["steps"] for record in path),
        "train_seconds": digits(sum(record["train_seconds"] for record in path)),
        "samples_per_second": digits(stages[place]["samples_per_second"]),
        "unlabelled_rows": stages[place].get("unlabelled_rows") or None,
    }


def read_results(path: Path) -> pd.DataFrame:
    """table.csv; names stay text, even names such as `1` or `nan`, which pandas would read as numbers or as missing."""
    return pd.read_csv(path, dtype=dict.fromkeys(NAMES, str), keep_default_na=False, na_values=[""])[list(COLUMNS)]
