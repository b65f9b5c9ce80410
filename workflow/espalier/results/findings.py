"""Findings of the analyses for each base and task: from the files of single students to means over seeds.

The definitions are ours: docs/methods/sdp.md §6 and docs/methods/spd.md §6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from espalier.config.data import TRAIN
from espalier.results.curves import Curves
from espalier.results.places import Place, files_by_place, read_fields
from espalier.results.recovery import overfitting_gap
from espalier.results.summary import Mean

REPRESENTATIONS = {
    "separability": "class separability R²",
    "class_signal_to_noise": "class signal-to-noise ratio",
    "signal_to_noise_db": "signal-to-noise ratio (dB)",
    "scaled_signal_to_noise_db": "the same on the teacher’s scale (dB)",
}
"""Key of analysis.json → title of its picture against sparsity. Class statistics are known of the teacher, too."""
DIFFERENCES = {"gap_loss": "loss: held-out less training rows", "gap_metric": "score: training less held-out rows"}
"""The two overfitting gaps, with the titles of their pictures."""
GAPS = {**DIFFERENCES, "held_out_loss": "loss on held-out rows", "train_score": "score on training rows"}
"""The gaps, and the two numbers that tell them apart: a student that no longer fits its training rows has no gap either."""
VALUE_COLUMNS = ("plan", "group", "x", "value")
"""Columns of a table of values, which has one line for each student.

`group` is what the student's seeds have in common: its target, or its task. `x` is the measured sparsity of the encoder, in
[0, 1), or the number of training rows.
"""


class Errors(NamedTuple):
    """Relative errors of the layers of one plan's students at one target: means over seeds. The embeddings come first."""

    plan: str
    percent: str
    local: list[float]
    accumulated: list[float]


class Noise(NamedTuple):
    """Signal-to-noise ratios of the layers of one plan's students at one target, against the teacher's, mean-pooled."""

    plan: str
    percent: str
    decibels: list[float]
    """Means over seeds, from the first layer on."""


class Weights(NamedTuple):
    """How sparse the matrices of one plan's students at one target are, apart from what was removed."""

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
    """All findings for one base and task."""

    base: str
    task: str
    metric: str
    values: dict[str, pd.DataFrame]
    """Key of `REPRESENTATIONS` or `GAPS` → table with the columns `VALUE_COLUMNS`. Keys without values are left out."""
    teacher: dict[str, float]
    """Key of `REPRESENTATIONS` → the teacher's number, mean over seeds, where the teacher has one."""
    noise: list[Noise]
    errors: list[Errors]
    lost: pd.DataFrame
    """One line for each student: its plan, the accumulated relative `error` of its last layer, and how far its `score` is
    below its teacher's."""
    left_out: dict[str, list[str]]
    """Reason why errors of layers are not defined → students to which it applies, as plan/percent."""
    weights: list[Weights]
    rows: int | None
    """Number of rows on which representations and scores of pruned matrices were measured."""
    recoveries: list[Recoveries]
    curves: list[Curves]
    """Curves of the plans that were scored on training rows or just after removals."""

    @property
    def title(self) -> str:
        """Base and task."""
        return f"{self.base} on {self.task}"


def read_findings(
    analyses: Sequence[Path], curves: Sequence[Curves], table: pd.DataFrame, scoring: Mapping[tuple[str, str], tuple[str, str]]
) -> list[Findings]:
    """The findings of every base and task that has some, in table order.

    Args:
        analyses: analysis.json of every student that was analysed.
        curves: of all plans.
        table: table.csv, for the sparsities.
        scoring: (base, task) → set and metric that give the score.
    """
    keys = zip(*(table[name] for name in ("base", "task", "seed", "plan", "stage")), strict=True)
    rows = dict(zip((Place(*key) for key in keys), table.to_dict("records"), strict=True))
    contents = {place: read_fields(path, ("rows",)) for place, path in files_by_place(analyses).items()}

    findings = []
    for (base, task), (set_name, metric) in scoring.items():
        own = {place: content for place, content in contents.items() if (place.base, place.task) == (base, task)}
        watched = [plan for plan in curves if (plan.base, plan.task) == (base, task) and (plan.overfitting or plan.recoveries)]
        if own or watched:
            findings.append(_findings(base, task, set_name, metric, own, watched, rows))
    return findings


def _findings(
    base: str,
    task: str,
    set_name: str,
    metric: str,
    contents: Mapping[Place, Any],
    curves: list[Curves],
    rows: Mapping[Place, Mapping[str, Any]],
) -> Findings:
    left_out: dict[str, list[str]] = {}
    for place, content in contents.items():
        if reason := content.get("errors", {}).get("left_out"):
            left_out.setdefault(reason, []).append(f"{place.plan}/{place.percent}, seed {place.seed}")

    return Findings(
        base=base,
        task=task,
        metric=metric,
        values=_values([*_representations(contents), *_gaps(curves, set_name, metric)], rows),
        teacher=_teacher_means(contents),
        noise=list(_noise(contents)),
        errors=list(_errors(contents)),
        lost=_lost(contents, rows),
        left_out=left_out,
        weights=list(_weights(contents)),
        rows=next((content["rows"] for content in contents.values()), None),
        recoveries=list(_recovery_means(curves)),
        curves=curves,
    )


def _values(numbers: Sequence[tuple[Place, str, float]], rows: Mapping[Place, Mapping[str, Any]]) -> dict[str, pd.DataFrame]:
    """Key → table of its values, from (student, key, number)."""
    lines = [(key, place.plan, place.percent, rows[place]["sparsity_encoder"], number) for place, key, number in numbers]
    table = pd.DataFrame(lines, columns=["key", *VALUE_COLUMNS])
    return {str(key): inside.drop(columns="key") for key, inside in table.groupby("key", sort=False)}


def _representations(contents: Mapping[Place, Any]) -> Iterator[tuple[Place, str, float]]:
    """(student, key of `REPRESENTATIONS`, number) for all numbers that are known."""
    for place, content in contents.items():
        part = content.get("representations", {})
        numbers = {**part.get("student", {}), **part}
        for key in REPRESENTATIONS:
            if numbers.get(key) is not None:
                yield place, key, numbers[key]


def _gaps(curves: Sequence[Curves], set_name: str, metric: str) -> Iterator[tuple[Place, str, float]]:
    """(student, key of `GAPS`, number) at the last evaluation of each stage."""
    for plan in (plan for plan in curves if plan.overfitting):
        last: dict[tuple[int, str], dict[str, dict[str, float]]] = {}
        for name, panel in zip(("loss", metric), plan.overfitting, strict=True):
            for line in panel.lines:
                sets = last.setdefault((line.seed, line.percent), {TRAIN: {}, set_name: {}})
                sets[line.quantity][name] = line.values[-1]

        for (seed, percent), sets in last.items():
            gap = overfitting_gap(metric, sets[TRAIN], sets[set_name])
            place = Place(plan.base, plan.task, seed, plan.plan, percent)
            yield place, "gap_loss", gap.loss
            yield place, "gap_metric", gap.metric
            yield place, "held_out_loss", sets[set_name]["loss"]
            yield place, "train_score", sets[TRAIN][metric]


def _teacher_means(contents: Mapping[Place, Any]) -> dict[str, float]:
    """Means of the teacher's numbers over all analyses; numbers that no analysis has are left out."""
    teachers = [content["representations"]["teacher"] for content in contents.values() if "representations" in content]
    means = pd.DataFrame(teachers, dtype=float).mean()
    return {str(key): float(mean) for key, mean in means.dropna().items()}


def _lost(contents: Mapping[Place, Any], rows: Mapping[Place, Mapping[str, Any]]) -> pd.DataFrame:
    lines = []
    for place, content in contents.items():
        if accumulated := content.get("errors", {}).get("accumulated"):
            lines.append((place.plan, accumulated[-1], rows[place]["teacher_score"] - rows[place]["score"]))
    return pd.DataFrame(lines, columns=["plan", "error", "score"])


def _by_target(contents: Mapping[Place, Any], name: str) -> dict[tuple[str, str], list[Any]]:
    """(plan, percent) → what the analyses of its seeds have under this name."""
    parts: dict[tuple[str, str], list[Any]] = {}
    for place, content in contents.items():
        if name in content:
            parts.setdefault((place.plan, place.percent), []).append(content[name])
    return parts


def _noise(contents: Mapping[Place, Any]) -> Iterator[Noise]:
    for (plan, percent), seeds in _by_target(contents, "representations").items():
        layers = [seed["layers_signal_to_noise_db"] for seed in seeds if seed["layers_signal_to_noise_db"]]
        if means := pd.DataFrame(layers).mean().tolist():
            yield Noise(plan, percent, means)


def _errors(contents: Mapping[Place, Any]) -> Iterator[Errors]:
    for (plan, percent), seeds in _by_target(contents, "errors").items():
        if known := [seed for seed in seeds if "local" in seed]:
            local = pd.DataFrame([seed["local"] for seed in known]).mean()
            accumulated = pd.DataFrame([seed["accumulated"] for seed in known]).mean()
            yield Errors(plan, percent, local.tolist(), accumulated.tolist())


def _weights(contents: Mapping[Place, Any]) -> Iterator[Weights]:
    for (plan, percent), seeds in _by_target(contents, "weights").items():
        numbers = []
        for seed in seeds:
            one_shot = {removed: pruned["score"] for removed, pruned in seed["one_shot"].items()}
            numbers.append(seed["mean"] | {"score": seed["score"]} | one_shot)
        yield Weights(plan, percent, _column_means(pd.DataFrame(numbers)))


def _recovery_means(curves: Sequence[Curves]) -> Iterator[Recoveries]:
    for plan in curves:
        for percent in dict.fromkeys(percent for _, percent, _ in plan.recoveries):
            seeds = [recoveries for _, other, recoveries in plan.recoveries if other == percent]
            means = pd.DataFrame([pd.DataFrame(recoveries).mean() for recoveries in seeds])
            yield Recoveries(plan.plan, percent, len(seeds[0]), _column_means(means))


def _column_means(table: pd.DataFrame) -> dict[str, Mean | None]:
    """Column → mean over the lines, one for each seed."""
    return {str(name): Mean.of(pd.to_numeric(table[name])) for name in table}
