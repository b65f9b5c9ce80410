"""Scores on each of the evaluation sets whose mean gives the score, such as the languages of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from espalier.config.data import MEAN
from espalier.config.project import LINEAR, TEACHER
from espalier.results.places import Place
from espalier.results.summary import Mean, target_label


class SetLine(NamedTuple):
    """One plan's students at one target."""

    plan: str
    percent: str
    means: list[Mean | None]
    """Score on each set, over seeds; None where a set was not scored."""
    mean: Mean | None
    """The mean over the sets."""

    @property
    def label(self) -> str:
        """Plan and target; the plan alone where there is no target."""
        return self.plan if self.percent == "0" else f"{self.plan}, {target_label(self.percent)}"


class BySet(NamedTuple):
    """The scores of one base and task, set by set."""

    title: str
    metric: str
    sets: list[str]
    """What the names of the sets say besides what they share: de for test-de."""
    lines: list[SetLine]
    """The teacher first."""

    @property
    def drawn(self) -> list[SetLine]:
        """The lines of the picture: of each plan the smallest models."""
        last = {line.plan: line for line in self.lines}
        return list(last.values())


def short_names(names: list[str]) -> list[str]:
    """The sets' names without the parts, between hyphens, that all of them begin with; at least one part is left."""
    parts, shared = [name.split("-") for name in names], 0
    while all(len(own) > shared + 1 and own[shared] == parts[0][shared] for own in parts):
        shared += 1
    return ["-".join(own[shared:]) for own in parts]


def read_by_set(
    scored: Mapping[Place, Mapping[str, Any]], linear: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]
) -> list[BySet]:
    """One item for each base and task whose score is a mean over sets.

    Args:
        scored: scores.json of every teacher and student.
        linear: task → evaluation set → metric → score of its linear model.
        tasks: name → task.json.
    """
    shown = []
    for base, task in dict.fromkeys((place.base, place.task) for place in scored):
        names = list(tasks.get(task, {}).get("mean", ()))
        own = {place: content for place, content in scored.items() if (place.base, place.task) == (base, task)}
        if not names:
            continue

        metric = next(iter(own.values()))["metric"]
        groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for place in sorted(own, key=lambda place: place.order):
            groups.setdefault((place.plan, place.percent), []).append(own[place]["sets"])
        if task in linear:
            groups[LINEAR, "0"] = [linear[task]]
        lines = [_line(*key, seeds, names, metric) for key, seeds in groups.items()]
        lines.sort(key=lambda line: line.plan != TEACHER)
        shown.append(BySet(f"{base} on {task}", metric, short_names(names), lines))
    return shown


def _line(plan: str, percent: str, seeds: list[Mapping[str, Any]], names: list[str], metric: str) -> SetLine:
    def mean(name: str) -> Mean | None:
        return Mean.of(pd.Series([sets.get(name, {}).get(metric) for sets in seeds], dtype=float))

    return SetLine(plan, percent, [mean(name) for name in names], mean(MEAN))
