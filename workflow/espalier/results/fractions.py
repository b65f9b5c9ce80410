"""Overfitting gaps of tasks that are parts of the same training rows; and all findings as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from espalier.config.data import TRAIN
from espalier.results.comparisons import Comparison
from espalier.results.findings import GAPS, VALUE_COLUMNS, Findings
from espalier.results.summary import target_label
from espalier.runtime.files import digits

ALIKE = ("sources", "kind", "classes")
"""Keys of task.json, and the metric besides, in which tasks agree that are parts of the same training rows."""


class Fractions(NamedTuple):
    """The overfitting gap of one base at one target, over tasks that are parts of the same training rows."""

    base: str
    percent: str
    tasks: list[str]
    values: dict[str, pd.DataFrame]
    """Key of `GAPS` → table with the columns `VALUE_COLUMNS`; `group` is the task, `x` its number of training rows."""

    @property
    def title(self) -> str:
        """Base, tasks and target."""
        return f"{self.base} on {', '.join(self.tasks)}, {target_label(self.percent)}"


def read_fractions(findings: Sequence[Findings], tasks: Mapping[str, Mapping[str, Any]]) -> list[Fractions]:
    """The gaps against the number of training rows, for tasks that differ only in that number.

    Args:
        findings: of every base and task.
        tasks: name → task.json.
    """
    alike: dict[tuple[str, str], list[Findings]] = {}
    for finding in findings:
        task = tasks.get(finding.task, {})
        if task.get("sources") and "gap_loss" in finding.values:
            shared = json.dumps([finding.metric, *(task.get(name) for name in ALIKE)], sort_keys=True)
            alike.setdefault((finding.base, shared), []).append(finding)

    fractions = []
    for (base, _), parts in alike.items():
        rows = {part.task: tasks[part.task]["rows"][TRAIN] for part in parts}
        names = sorted(rows, key=lambda name: rows[name])
        for percent, inside in _gap_table(parts, rows).groupby("percent", sort=False):
            if inside["x"].nunique() > 1:
                ascending = inside.sort_values("x", kind="stable")
                values = {str(key): of_key[[*VALUE_COLUMNS]] for key, of_key in ascending.groupby("key", sort=False)}
                fractions.append(Fractions(base, str(percent), names, values))
    return fractions


def _gap_table(parts: Sequence[Findings], rows: Mapping[str, int]) -> pd.DataFrame:
    """The gaps of several tasks in one table, with two more columns: `percent`, the target, and `key` of `GAPS`."""
    tables = []
    for part in parts:
        for key in GAPS:
            values = part.values[key].rename(columns={"group": "percent"})
            tables.append(values.assign(key=key, group=part.task, x=rows[part.task]))
    return pd.concat(tables)


def numbers_of(findings: Sequence[Findings], fractions: Sequence[Fractions], compared: Sequence[Comparison]) -> dict[str, Any]:
    """All findings as JSON for analyses.json. Curves only for text tasks, reduced to first, last and largest value."""
    tasks = []
    for finding in findings:
        fields = finding._asdict()
        del fields["curves"]
        tasks.append(_as_json(fields))

    texts = []
    for comparison in compared:
        texts.append(_as_json({name: getattr(comparison, name) for name in ("base", "task", "teacher_loss", "ends")}))

    return {"tasks": tasks, "fractions": [_as_json(part) for part in fractions], "texts": texts}


def _as_json(item: Any) -> Any:
    """Dictionaries and lists only: fields and columns under their names, numbers of six digits, null for not-a-number."""
    if isinstance(item, pd.DataFrame):
        item = item.to_dict("records")
    if hasattr(item, "_asdict"):
        item = item._asdict()

    if isinstance(item, dict):
        return {name: _as_json(part) for name, part in item.items()}
    if isinstance(item, list | tuple):
        return [_as_json(part) for part in item]
    if isinstance(item, float):
        return None if math.isnan(item) else digits(item)
    return item
