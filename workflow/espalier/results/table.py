"""Reading what the stages left behind: where a result belongs, and the tidy table of a project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from espalier.config.project import TEACHER
from espalier.results.places import Place, by_place, read_fields, split_recoveries
from espalier.runtime.errors import UserError
from espalier.runtime.files import digits

RUNTIMES = {"PyTorch eager": "", "onnxruntime": "onnx_"}
"""Runtime → what its columns begin with."""
BATCHES = (1, 32)
SPEED_COLUMNS = tuple(
    f"{prefix}{measure}"
    for prefix in RUNTIMES.values()
    for measure in (*(f"latency_b{size}_ms" for size in BATCHES), *(f"speedup_b{size}" for size in BATCHES))
)
NAMES = ("base", "task", "plan", "method", "stage", "start", "metric")
COLUMNS = (
    *("base", "task", "plan", "method", "seed", "target", "stage", "start"),
    *("sparsity_encoder", "sparsity_total", "sparsity_relative"),
    *("params_total", "params_encoder", "params_nonzero", "size_mib", "macs", "metric", "score", "teacher_score"),
    *SPEED_COLUMNS,
    *("train_seconds", "samples_per_second"),
)
COUNTED = ("sparsity_encoder", "sparsity_total", "params_total", "params_encoder", "params_nonzero", "size_mib", "macs")
"""Columns that cost.json holds under the same name."""


def gather(
    scores: Sequence[Path],
    costs: Sequence[Path],
    records: Sequence[Path],
    methods: Mapping[str, str],
    starts: Mapping[str, str],
) -> list[dict[str, Any]]:
    """One row for each student and each teacher, with the keys `COLUMNS`, in table order.

    `train_seconds` of a student counts all training that led to it: the stages of its path up to its own, those of the
    plan that it started from, and its own recovery. Fine-tuning the teacher is not in it, since plans share the teacher.
    `samples_per_second` is that of its last stage. `sparsity_relative` is the fraction of the encoder's weights removed
    since the student `start` of another plan; against the teacher where there is none.

    Args:
        scores: scores.json of every student and teacher; each becomes a row.
        costs: cost.json of the same.
        records: run.json of every stage, teacher and recovery.
        methods: plan → method.
        starts: student → student of another plan that its path began with, both as task/plan/percent.

    Raises:
        UserError: a cost, record, teacher or method is missing.
    """
    score_of = {place: read_fields(path, ("score", "metric")) for place, path in by_place(scores).items()}
    cost_of = {place: read_fields(path, (*COUNTED, "latency_ms", "speedup", "onnx")) for place, path in by_place(costs).items()}
    stages, recoveries = (
        {place: read_fields(path, ("train_seconds", "samples_per_second")) for place, path in files.items()}
        for files in split_recoveries(records)
    )
    return [
        _row(place, score_of, _known(cost_of, place, "cost.json"), methods)
        | _begun(begun_with(place, starts), cost_of, cost_of[place])
        | {"train_seconds": digits(_train_seconds(place, stages, recoveries, starts))}
        | {"samples_per_second": digits(_known(stages, place, "run.json")["samples_per_second"])}
        for place in score_of
    ]


def _row(place: Place, score_of: Mapping[Place, Any], cost: Mapping[str, Any], methods: Mapping[str, str]) -> dict[str, Any]:
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
    """The columns on one runtime; None at batch sizes that were not timed."""
    latency, speedup = times["latency_ms"], times["speedup"]
    return {
        **{f"{prefix}latency_b{size}_ms": digits(latency.get(str(size), {}).get("median")) for size in BATCHES},
        **{f"{prefix}speedup_b{size}": digits(speedup.get(str(size))) for size in BATCHES},
    }


def _known(found: Mapping[Place, Any], place: Place, name: str) -> Any:
    if place not in found:
        raise UserError(f"{place}: its {name} was not given")
    return found[place]


def begun_with(place: Place, starts: Mapping[str, str]) -> Place | None:
    """The student of another plan that a student's path began with; None where it began otherwise."""
    source = starts.get(f"{place.task}/{place.plan}/{place.percent}")
    if source is None:
        return None
    task, plan, percent = source.split("/")
    return place._replace(task=task, plan=plan, percent=percent)


def _begun(source: Place | None, cost_of: Mapping[Place, Any], cost: Mapping[str, Any]) -> dict[str, Any]:
    """The columns on what the path began with."""
    before = _known(cost_of, source, "cost.json")["sparsity_encoder"] if source else 0.0
    relative = (cost["sparsity_encoder"] - before) / (1.0 - before)
    return {"start": f"{source.task}/{source.plan}/{source.percent}" if source else None, "sparsity_relative": digits(relative)}


def _train_seconds(
    place: Place, stages: Mapping[Place, Any], recoveries: Mapping[Place, Any], starts: Mapping[str, str]
) -> float:
    path, last = [recoveries[place]] if place in recoveries else [], place
    while last is not None:
        source = begun_with(last, starts)
        there = [each for each in stages if each[:4] == last[:4] and each.position <= last.position]
        path += [stages[each] for each in there if begun_with(each, starts) == source]
        last = source
    return sum(record["train_seconds"] for record in path)


def read_table(path: Path) -> pd.DataFrame:
    """table.csv; names stay text, even those that look like numbers or like nothing."""
    return pd.read_csv(path, dtype=dict.fromkeys(NAMES, str), keep_default_na=False, na_values=[""])[list(COLUMNS)]
