"""CoFi over a whole stage and over a whole path, sampled: a few steps at several places, summed up over the stage's steps.

A stage has pre-pruning epochs without gates, a ramp on which the expected sparsity rises to the target, and epochs at the
target. Time is measured at points of the ramp and taken to be linear between them. Ours starts a later stage of a path from
the smaller student that the stage before has left; the reference, like the public trainer, runs every target by itself with a
student of full size. Both have the epochs that the paper has for small tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from benchmarks.speed.duel import Duel
from benchmarks.speed.ramp import Values, standing
from benchmarks.speed.references import CofiReference
from benchmarks.speed.rows import padding, seed_for, table_like, words_of
from benchmarks.speed.runs import Effort, loop_for, method_for, put_gates
from espalier.config.project import Precision
from espalier.data.batches import TokenisedRows
from espalier.pruning.masks import Masks

PREPRUNING, RAMP, HOLD = 4.0, 20.0, 76.0
"""Epochs of a stage: 100 in all, as in the paper for small tasks; later stages of a path have no pre-pruning."""
Times = Mapping[float, Mapping[str, float]]
"""Expected sparsity → numbers of a duel."""


@dataclass
class Start:
    """What a stage starts from."""

    student: PreTrainedModel
    masks: Masks | None = None
    reached: float = 0.0


@dataclass
class Field:
    """What all points of one task have in common."""

    effort: Effort
    rows: TokenisedRows
    theirs: TokenisedRows
    """The reference's batches."""
    every: int
    """Our steps to one of the reference."""
    seed: int
    dense: Mapping[float, Values]
    """Gates of the dense student, which the reference has to the end."""
    folder: Path
    precision: Precision = "fp32"
    against: bool = True
    """Whether the reference runs beside ours."""

    @classmethod
    def of(cls, task: str, effort: Effort, folder: Path, precision: Precision = "fp32", against: bool = True) -> Field:
        """Rows of a task, and the gates of a dense student at every point."""
        scale = effort.scale
        lengths, theirs = (table_like(task, scale.batch, effort.batches, by_length) for by_length in (True, False))
        points = sorted({*effort.points, *effort.path})
        return cls(
            effort=effort,
            rows=words_of(lengths, scale.vocabulary, scale.classes),
            theirs=words_of(theirs, scale.vocabulary, scale.classes),
            every=effort.every_of(task),
            seed=seed_for(lengths, scale.batch),
            dense=standing(scale.model("classification", 1), None, points),
            folder=folder,
            precision=precision,
            against=against,
        )

    def at(self, start: Start, sparsity: float | None, values: Values | None, target: float) -> Duel:
        """Steps at one place of a stage; no sparsity and no values before pruning."""
        scale = self.effort.scale
        teacher = scale.model("classification", 2)
        steps = self.effort.batches + 1
        way = {"target": target, "before": start.reached} if values else {"target": 0.0}
        method = method_for("cofi", steps, seed=self.seed, batch_size=scale.batch, **way)
        if values:
            put_gates(method, values)

        reference = None
        if self.against:
            reference = CofiReference(scale.model("classification", 1), teacher, self.theirs, scale.batch, scale.device)
            reference.gated = values is not None
            if sparsity is not None:
                reference.put_gates(self.dense[sparsity])

        options: dict[str, Any] = {"precision": self.precision, "device": scale.device, "masks": start.masks}
        loop = loop_for(method, start.student, teacher, self.rows, self.folder, **options)
        return Duel(loop, reference, self.every).fight()


def first_stage(field: Field) -> tuple[dict[str, float], Times, Start]:
    """Numbers before pruning; numbers at every point; the student that the path's first target leaves."""
    effort = field.effort
    before = field.at(Start(effort.scale.model("classification", 1)), None, None, 0.0).numbers()

    times, left = {}, None
    for point in effort.points:
        target = effort.path[0] if point == effort.path[0] else effort.points[-1]
        duel = field.at(Start(effort.scale.model("classification", 1)), point, field.dense[point], target)
        times[point] = duel.numbers()
        if point == effort.path[0]:
            left = after(duel, point)
    return before, times, left


def after(duel: Duel, reached: float) -> Start:
    """The student that a stage leaves which ended at this point."""
    method = duel.loop.method
    return Start(method.shrink(duel.loop.student), method.end(), reached)


def later_stages(field: Field, start: Start) -> list[Times]:
    """Numbers at the beginning and at the end of each further stage of the path."""
    stages = []
    for target in field.effort.path[1:]:
        ends = (start.reached, target)
        values = standing(start.student, start.masks, ends)
        times = {}
        for point in ends:
            # A step changes the student a little, and gates change its modules: each point has a copy of its own.
            duel = field.at(_copied(start), point, values[point], target)
            times[point] = duel.numbers()
        stages.append(times)
        start = after(duel, target)
    return stages


def _copied(start: Start) -> Start:
    student = type(start.student)(start.student.config)
    student.load_state_dict(start.student.state_dict())
    return Start(student, start.masks, start.reached)


def epochs_at(times: Times, start: float, target: float, key: str) -> float:
    """Seconds a step times epochs, over ramp and hold: the mean over the ramp, the value at the target after it."""
    points = [point for point in sorted(times) if start <= point <= target]
    values = [times[point][key] for point in points]
    mean = np.trapezoid(values, points) / (points[-1] - points[0])
    return float(RAMP * mean + HOLD * values[-1])


def whole_stage(before: Mapping[str, float], times: Times, target: float) -> dict[str, float]:
    """Seconds of an average step over a whole first stage, for both sides."""
    return _both(
        lambda key: (PREPRUNING * before[key] + epochs_at(times, 0.0, target, key)) / (PREPRUNING + RAMP + HOLD), before
    )


def whole_path(before: Mapping[str, float], times: Times, later: Sequence[Times], path: Sequence[float]) -> dict[str, float]:
    """Seconds of an average step over all stages of a path; and the path against so many first stages."""
    ours, first = "step_seconds", PREPRUNING * before["step_seconds"] + epochs_at(times, 0.0, path[0], "step_seconds")
    starts = [0.0, *path[:-1]]
    rest = sum(epochs_at(stage, *ends, ours) for stage, *ends in zip(later, starts[1:], path[1:], strict=True))
    length = PREPRUNING + len(path) * (RAMP + HOLD)
    found = {"step_seconds": (first + rest) / length, "of_first_stages": (first + rest) / (len(path) * first)}

    # The reference runs every target by itself, from the dense student, pre-pruning included; samples are counted for both.
    if "reference_step_seconds" in before:
        key = "reference_step_seconds"
        everywhere = {**times, **{point: stage[point] for stage in later for point in stage}}
        theirs = sum(PREPRUNING * before[key] + epochs_at(everywhere, 0.0, target, key) for target in path)
        found[key] = theirs / (len(path) * (PREPRUNING + RAMP + HOLD))
        found["ratio"] = found[key] / found["step_seconds"]
    return found


def by_weights(path: Sequence[float]) -> float:
    """The path against so many first stages, if the time of a step were in proportion to the weights that are left."""

    def times(*points: float) -> Times:
        return {point: {"step_seconds": 1.0 - point} for point in points}

    later = [times(*ends) for ends in pairwise(path)]
    return whole_path({"step_seconds": 1.0}, times(0.0, path[0]), later, path)["of_first_stages"]


def _both(average: Any, before: Mapping[str, float]) -> dict[str, float]:
    found = {"step_seconds": average("step_seconds")}
    if "reference_step_seconds" in before:
        found["reference_step_seconds"] = average("reference_step_seconds")
        found["ratio"] = found["reference_step_seconds"] / found["step_seconds"]
    return found


def study(task: str, effort: Effort, folder: Path, precision: Precision = "fp32", against: bool = True) -> dict[str, Any]:
    """Everything about CoFi on rows of a task's lengths."""
    field = Field.of(task, effort, folder, precision, against)
    before, times, left = first_stage(field)
    later = later_stages(field, left)

    goal, batch = effort.points[-1], effort.scale.batch
    points = len(times) + 1
    stage, path = whole_stage(before, times, goal), whole_path(before, times, later, effort.path)
    for found, count in ((stage, points), (path, points + 2 * len(later))):
        found["samples_per_second"] = batch / found["step_seconds"]
        found["method"] = f"integrated over {count} points"
    return {
        "precision": precision,
        "padded_tokens_a_step": padding(task, batch, effort.batches),
        "before_pruning": before,
        "points": {f"{point:g}": numbers for point, numbers in times.items()},
        "later_stages": [{f"{point:g}": numbers for point, numbers in stage.items()} for stage in later],
        "whole_stage": {"target": goal, **stage},
        "whole_path": {"targets": list(effort.path), **path},
    }
