"""Findings over tasks that are parts of the same training rows; and the numbers of all findings for a file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from espalier.config.data import TRAIN
from espalier.results.comparisons import Comparison
from espalier.results.findings import GAPS, Findings, Value
from espalier.results.summary import goal
from espalier.runtime.files import digits

ALIKE = ("sources", "kind", "classes")
"""What tasks have in common, beside their metric, that are parts of the same training rows."""


class Fractions(NamedTuple):
    """The overfitting gap of one base at one target, over tasks that are parts of the same training rows."""

    base: str
    percent: str
    tasks: list[str]
    values: dict[str, list[Value]]
    """Keys of `GAPS`."""

    @property
    def title(self) -> str:
        """Base, tasks and target."""
        return f"{self.base} on {', '.join(self.tasks)}, {goal(self.percent)}"


def read_fractions(findings: Sequence[Findings], tasks: Mapping[str, Mapping[str, Any]]) -> list[Fractions]:
    """The gaps against the number of training rows, wherever tasks differ in that alone.

    Args:
        findings: of every base and task.
        tasks: name → task.json.
    """
    known: dict[tuple[str, str], dict[str, Findings]] = {}
    for each in findings:
        task = tasks.get(each.task, {})
        if task.get("sources") and "gap_loss" in each.values:
            alike = json.dumps([each.metric, *(task.get(name) for name in ALIKE)], sort_keys=True)
            known.setdefault((each.base, alike), {})[each.task] = each
    found = []
    for (base, _), parts in known.items():
        names = sorted(parts, key=lambda name: tasks[name]["rows"][TRAIN])
        for percent in dict.fromkeys(value.group for part in parts.values() for value in part.values["gap_loss"]):
            values = {
                key: [
                    Value(value.plan, name, tasks[name]["rows"][TRAIN], value.value)
                    for name in names
                    for value in parts[name].values[key]
                    if value.group == percent
                ]
                for key in GAPS
            }
            if len({value.x for value in values["gap_loss"]}) > 1:
                found.append(Fractions(base, percent, names, values))
    return found


def numbers_of(findings: Sequence[Findings], fractions: Sequence[Fractions], compared: Sequence[Comparison]) -> dict[str, Any]:
    """All of them for a file; of curves those of text tasks alone, and of these the ends."""
    return {
        "tasks": [_plain({name: part for name, part in each._asdict().items() if name != "curves"}) for each in findings],
        "fractions": [_plain(each) for each in fractions],
        "texts": [
            _plain({name: getattr(each, name) for name in ("base", "task", "teacher_loss", "ends")}) for each in compared
        ],
    }


def _plain(item: Any) -> Any:
    """With fields under their names, and numbers of six digits; null for those that are none."""
    if hasattr(item, "_asdict"):
        item = item._asdict()
    if isinstance(item, dict):
        return {name: _plain(part) for name, part in item.items()}
    if isinstance(item, list | tuple):
        return [_plain(part) for part in item]
    return (None if math.isnan(item) else digits(item)) if isinstance(item, float) else item
