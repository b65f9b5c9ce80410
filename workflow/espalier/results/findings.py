"""What analyses found, of each base and task: numbers of students, from their files to means over seeds.

Definitions are ours, as the specifications of SDP (section 6) and SPD (section 6) write them down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from espalier.config.data import TRAIN
from espalier.results.curves import Curves
from espalier.results.places import Place, by_place, read_fields
from espalier.results.recovery import overfitting_gap
from espalier.results.summary import Mean

REPRESENTATIONS = {
    "separability": "class separability R²",
    "class_signal_to_noise": "class signal-to-noise ratio",
    "signal_to_noise_db": "signal-to-noise ratio (dB)",
    "scaled_signal_to_noise_db": "the same on the teacher’s scale (dB)",
}
"""Keys of analysis.json that are drawn against sparsity; a student's class statistics stand beside its teacher's."""
DIFFERENCES = {"gap_loss": "loss: held-out less training rows", "gap_metric": "score: training less held-out rows"}
GAPS = {**DIFFERENCES, "held_out_loss": "loss on held-out rows", "train_score": "score on training rows"}
"""Overfitting; beside it the loss it ends in, and what is known of training rows at all: who fits them no longer has no gap."""


class Value(NamedTuple):
    """A number of one student."""

    plan: str
    group: str
    """What its seeds have in common: the target, or the task."""
    x: float
    """What it stands against: measured sparsity of the encoder in [0, 1), or number of training rows."""
    value: float


class Lost(NamedTuple):
    """How far one student's last layer is from its teacher's, and its score below its teacher's."""

    plan: str
    error: float
    """Relative, accumulated over the layers."""
    score: float


class Errors(NamedTuple):
    """Relative errors of the layers of one plan's students of one target, means over seeds; first the embeddings."""

    plan: str
    percent: str
    local: list[float]
    accumulated: list[float]


class Noise(NamedTuple):
    """How far the layers of one plan's students of one target are from their teacher's: signal-to-noise ratios, mean-pooled."""

    plan: str
    percent: str
    decibels: list[float]
    """Means over seeds, from the first layer on."""


class Weights(NamedTuple):
    """How sparse the matrices of one plan's students of one target are by themselves."""

    plan: str
    percent: str
    means: dict[str, Mean | None]
    """Means over matrices under their keys of analysis.json, `score`, and the score that each percent removed leaves."""


class Recoveries(NamedTuple):
    """How the score of one plan's students came back after the removals on the way to one target."""

    plan: str
    percent: str
    removals: int
    means: dict[str, Mean | None]
    """`drop`, `t90` and `regret`: means over removals, then over seeds."""


class Findings(NamedTuple):
    """Of one base and task."""

    base: str
    task: str
    metric: str
    values: dict[str, list[Value]]
    """Keys of `REPRESENTATIONS` and of `GAPS`, where there are any."""
    teacher: dict[str, float]
    """Of the teachers, mean over seeds, where they have such a number."""
    noise: list[Noise]
    errors: list[Errors]
    lost: list[Lost]
    left_out: dict[str, list[str]]
    """Why errors of layers cannot be told → the students of which this holds, as plan/percent."""
    weights: list[Weights]
    rows: int | None
    """Rows that representations and scores of pruned matrices were found on."""
    recoveries: list[Recoveries]
    curves: list[Curves]
    """Of plans that were scored on training rows, or just after removals, too."""

    @property
    def title(self) -> str:
        """Base and task."""
        return f"{self.base} on {self.task}"


def read_findings(
    analyses: Sequence[Path], curves: Sequence[Curves], table: pd.DataFrame, goals: Mapping[tuple[str, str], tuple[str, str]]
) -> list[Findings]:
    """The findings of every base and task that has some, in table order.

    Args:
        analyses: analysis.json of every student that was analysed.
        curves: of all plans.
        table: table.csv, for the sparsities.
        goals: (base, task) → set and metric that give the score.
    """
    keys = zip(*(table[name] for name in ("base", "task", "seed", "plan", "stage")), strict=True)
    rows = dict(zip((Place(*key) for key in keys), table.to_dict("records"), strict=True))
    contents = {place: read_fields(path, ("rows",)) for place, path in by_place(analyses).items()}
    watched = [each for each in curves if each.overfitting or each.recoveries]
    found = []
    for base, task in goals:
        inside = {place: content for place, content in contents.items() if (place.base, place.task) == (base, task)}
        here = [each for each in watched if (each.base, each.task) == (base, task)]
        if inside or here:
            found.append(_findings(base, task, goals[base, task], inside, here, rows))
    return found


def _findings(
    base: str,
    task: str,
    goal: tuple[str, str],
    contents: Mapping[Place, Any],
    curves: list[Curves],
    rows: Mapping[Place, Mapping[str, Any]],
) -> Findings:
    values: dict[str, list[Value]] = {}
    for place, key, number in (*_of_representations(contents), *_of_gaps(curves, goal)):
        values.setdefault(key, []).append(Value(place.plan, place.percent, rows[place]["sparsity_encoder"], number))
    teachers = [content["representations"]["teacher"] for content in contents.values() if "representations" in content]
    teacher = {key: Mean.of(pd.Series([each[key] for each in teachers], dtype=float)) for key in (teachers or [{}])[0]}
    left_out: dict[str, list[str]] = {}
    for place, content in contents.items():
        if reason := content.get("errors", {}).get("left_out"):
            left_out.setdefault(reason, []).append(f"{place.plan}/{place.percent}, seed {place.seed}")
    return Findings(
        base=base,
        task=task,
        metric=goal[1],
        values=values,
        teacher={key: mean.mean for key, mean in teacher.items() if mean},
        noise=list(_noise(contents)),
        errors=list(_errors(contents)),
        lost=list(_lost(contents, rows)),
        left_out=left_out,
        weights=list(_weights(contents)),
        rows=next((content["rows"] for content in contents.values()), None),
        recoveries=list(_recoveries(curves)),
        curves=curves,
    )


def _of_representations(contents: Mapping[Place, Any]) -> Iterator[tuple[Place, str, float]]:
    for place, content in contents.items():
        found = content.get("representations", {})
        numbers = {**found.get("student", {}), **found}
        yield from ((place, key, numbers[key]) for key in REPRESENTATIONS if numbers.get(key) is not None)


def _of_gaps(curves: Sequence[Curves], goal: tuple[str, str]) -> Iterator[tuple[Place, str, float]]:
    """At the last evaluation of each stage."""
    for each in (each for each in curves if each.overfitting):
        last = {
            (line.seed, line.percent, line.quantity, name): line.values[-1]
            for name, panel in zip(("loss", goal[1]), each.overfitting, strict=True)
            for line in panel.lines
        }
        for seed, percent in dict.fromkeys(key[:2] for key in last):
            train, held_out = (
                {name: last[seed, percent, part, name] for name in ("loss", goal[1])} for part in (TRAIN, goal[0])
            )
            gap = overfitting_gap(goal[1], train, held_out)
            place = Place(each.base, each.task, seed, each.plan, percent)
            numbers = {"gap_loss": gap.loss, "gap_metric": gap.metric}
            numbers |= {"held_out_loss": held_out["loss"], "train_score": train[goal[1]]}
            yield from ((place, key, number) for key, number in numbers.items())


def _recoveries(curves: Sequence[Curves]) -> Iterator[Recoveries]:
    for each in curves:
        for percent in dict.fromkeys(percent for _, percent, _ in each.recoveries):
            seeds = [found for _, other, found in each.recoveries if other == percent]
            means = pd.DataFrame([pd.DataFrame(found).mean() for found in seeds])
            yield Recoveries(each.plan, percent, len(seeds[0]), {str(key): Mean.of(means[key]) for key in means})


def _by_target(contents: Mapping[Place, Any], name: str) -> Iterator[tuple[str, str, list[Any]]]:
    """Plan, percent and what its seeds have under this name."""
    for plan, percent in dict.fromkeys((place.plan, place.percent) for place in contents):
        there = [content for place, content in contents.items() if (place.plan, place.percent) == (plan, percent)]
        yield plan, percent, [content[name] for content in there if name in content]


def _noise(contents: Mapping[Place, Any]) -> Iterator[Noise]:
    for plan, percent, seeds in _by_target(contents, "representations"):
        layers = [each["layers_signal_to_noise_db"] for each in seeds if each["layers_signal_to_noise_db"]]
        if means := pd.DataFrame(layers).mean().tolist():
            yield Noise(plan, percent, means)


def _errors(contents: Mapping[Place, Any]) -> Iterator[Errors]:
    for plan, percent, seeds in _by_target(contents, "errors"):
        if known := [each for each in seeds if "local" in each]:
            means = (pd.DataFrame([each[key] for each in known]).mean().tolist() for key in ("local", "accumulated"))
            yield Errors(plan, percent, *means)


def _lost(contents: Mapping[Place, Any], rows: Mapping[Place, Mapping[str, Any]]) -> Iterator[Lost]:
    for place, content in contents.items():
        if accumulated := content.get("errors", {}).get("accumulated"):
            yield Lost(place.plan, accumulated[-1], rows[place]["teacher_score"] - rows[place]["score"])


def _weights(contents: Mapping[Place, Any]) -> Iterator[Weights]:
    for plan, percent, seeds in _by_target(contents, "weights"):
        flat = pd.DataFrame(
            each["mean"] | {"score": each["score"]} | {removed: pruned["score"] for removed, pruned in each["one_shot"].items()}
            for each in seeds
        )
        if seeds:
            yield Weights(plan, percent, {str(key): Mean.of(pd.to_numeric(flat[key])) for key in flat})
