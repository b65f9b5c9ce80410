"""Reading what the stages left behind: where a result belongs, and the tidy table of a project."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from espalier.config.project import TEACHER
from espalier.config.targets import PERCENT, position
from espalier.core.runtime import UserError, read_json

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

_PLACE = re.compile(rf"([^/]+)/([^/]+)/seed(\d+)/([^/]+)/({PERCENT})/(?:recovered/)?[^/]+$")


class Place(NamedTuple):
    """Where a student (or a teacher) stands in a project; read from the end of its path."""

    base: str
    task: str
    seed: int
    plan: str
    percent: str

    @property
    def target(self) -> float | None:
        """Target sparsity, in [0, 1); None where the path aims at something else."""
        return round(float(self.percent) / 100, 6) if self.percent[-1].isdigit() else None

    @property
    def position(self) -> float:
        """Place in the path: the larger, the smaller the model."""
        return position(self.percent)

    @property
    def order(self) -> tuple[str, str, bool, str, float, int]:
        """Sorts by base, task, plan (the teacher first), place in the path and seed."""
        return self.base, self.task, self.plan != TEACHER, self.plan, self.position, self.seed

    def __str__(self) -> str:
        return f"{self.base}/{self.task}/seed{self.seed}/{self.plan}/{self.percent}"


def place_of(path: Path) -> Place:
    """The student a file belongs to.

    Raises:
        UserError: the path does not end like one of the pipeline.
    """
    match = _PLACE.search(path.as_posix())
    if not match:
        raise UserError(f"{path}: the path must end in base/task/seed<number>/plan/percent/[recovered/]file")
    base, task, seed, plan, percent = match.groups()
    return Place(base, task, int(seed), plan, percent)


def is_recovery(path: Path) -> bool:
    """Whether a file comes from the recovery of a student rather than from its compression."""
    return path.parent.name == "recovered"


def by_place(paths: Sequence[Path]) -> dict[Place, Path]:
    """Place → file, in table order.

    Raises:
        UserError: two files claim the same place.
    """
    found: dict[Place, Path] = {}
    for path in paths:
        place = place_of(path)
        if place in found:
            raise UserError(f"{place} has two files of one kind: {found[place]} and {path}")
        found[place] = path
    return dict(sorted(found.items(), key=lambda item: item[0].order))


def split_recoveries(paths: Sequence[Path]) -> tuple[dict[Place, Path], dict[Place, Path]]:
    """Files of the stages, and files of the recoveries."""
    return by_place([path for path in paths if not is_recovery(path)]), by_place([path for path in paths if is_recovery(path)])


def read_fields(path: Path, needed: Sequence[str]) -> dict[str, Any]:
    """A JSON object that has at least the `needed` keys.

    Raises:
        UserError: it lacks one.
    """
    content = read_json(path)
    if missing := [key for key in needed if key not in content]:
        raise UserError(f"{path}: no {', '.join(missing)}; it has {', '.join(content)}")
    return content


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
    return place._replace(**dict(zip(("task", "plan", "percent"), source.split("/"), strict=True))) if source else None


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


def digits(value: float | int | None) -> float | int | None:
    """Six significant digits; whole numbers of Python's own kind stay as they are."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def read_table(path: Path) -> pd.DataFrame:
    """table.csv; names stay text, even those that look like numbers or like nothing."""
    return pd.read_csv(path, dtype=dict.fromkeys(NAMES, str), keep_default_na=False, na_values=[""])[list(COLUMNS)]
