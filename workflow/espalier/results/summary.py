"""Means over seeds, and what can be said of a project from its table and its records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import pandas as pd

from espalier.config.data import TEXT_METRICS
from espalier.config.project import TEACHER
from espalier.config.targets import percent_of
from espalier.results.table import BATCHES, RUNTIMES, SPEED_COLUMNS
from espalier.runtime.files import digits

SUMMARISED = (
    *("score", "sparsity_encoder", "sparsity_total", "sparsity_relative", "params_total", "params_nonzero", "size_mib", "macs"),
    *SPEED_COLUMNS,
    *("train_seconds", "samples_per_second"),
)
SAME_SPEED = (0.9, 1.1)
"""Speed-ups in this range are called none: what repeated timings of one model differ by on a shared machine."""


class Mean(NamedTuple):
    """A mean over seeds, with its spread and count."""

    mean: float
    sd: float | None
    """Sample standard deviation; None for one seed."""
    n: int

    @classmethod
    def of(cls, values: pd.Series) -> Mean | None:
        """Over the values that are there; None when there are none."""
        there = values.dropna()
        if there.empty:
            return None
        return cls(float(there.mean()), float(there.std(ddof=1)) if len(there) > 1 else None, len(there))

    @property
    def bar(self) -> float:
        """Half of its error bar; no number, which is not drawn, for one seed."""
        return math.nan if self.sd is None else self.sd

    def rounded(self) -> dict[str, Any]:
        """For JSON: six significant digits, and whole numbers as they are."""
        return {"mean": _digits(self.mean), "sd": None if self.sd is None else _digits(self.sd), "n": self.n}


def _digits(value: float) -> float | int:
    return int(value) if value.is_integer() and abs(value) >= 10 else digits(value)


class Group(NamedTuple):
    """All seeds of one base, task, plan and target."""

    base: str
    task: str
    plan: str
    method: str
    target: float | None
    """Target sparsity; None where the path aims at something else."""
    percent: str
    """The target as it stands in paths."""
    metric: str
    means: dict[str, Mean | None]
    """Column → mean, None where there is no value; `gain` is the score minus the teacher's, seed by seed."""
    start: str | None = None
    """Student of another plan that the path began with, as task/plan/percent."""


def groups(table: pd.DataFrame) -> list[Group]:
    """Every base, task, plan and target of the table, in its order."""
    keys = ["base", "task", "plan", "method", "stage", "metric"]
    found = []
    for (base, task, plan, method, percent, metric), rows in _staged(table).groupby(keys, sort=False):
        target, start = (_first(rows[column]) if column in rows else None for column in ("target", "start"))
        found.append(Group(base, task, plan, method, target, percent, metric, _means(rows), start))
    return found


def over_tasks(table: pd.DataFrame) -> list[Group]:
    """Means over all tasks of a base, each with its own metric, for plans and targets that all of them have.

    A seed counts where it has every task. Text tasks, which have no labels, are left out; so is a base with a single task.
    """
    labelled = _staged(table)[~table["metric"].isin(TEXT_METRICS)].dropna(subset=["score"])
    numbers = [name for name in (*SUMMARISED, "target", "teacher_score") if name in labelled]
    found = []
    for _, inside in labelled.groupby("base", sort=False):
        tasks = inside["task"].unique()
        if len(tasks) == 1:
            continue
        runs = inside.groupby(["base", "plan", "method", "stage", "seed"], sort=False)
        means = runs[numbers].mean()[runs["task"].nunique() == len(tasks)].reset_index()
        found += groups(means.assign(task=", ".join(tasks), metric="mean over tasks"))
    return found


def _staged(table: pd.DataFrame) -> pd.DataFrame:
    """With the column `stage`, also where the table is of before a path could aim at anything but a sparsity."""
    return table if "stage" in table else table.assign(stage=table["target"].map(percent_of))


def _first(values: pd.Series) -> Any:
    return None if pd.isna(values.iloc[0]) else values.iloc[0]


def _means(rows: pd.DataFrame) -> dict[str, Mean | None]:
    columns = {column: rows[column] for column in SUMMARISED if column in rows}
    gain = rows["score"] - rows["teacher_score"]
    return {column: Mean.of(pd.to_numeric(values)) for column, values in (columns | {"gain": gain}).items()}


def panels(found: list[Group]) -> Iterator[tuple[tuple[str, str], list[Group]]]:
    """The groups of each (base, task)."""
    for key in dict.fromkeys((group.base, group.task) for group in found):
        yield key, [group for group in found if (group.base, group.task) == key]


def goal(word: str) -> str:
    """How the word for a target in paths is said: `60 %`, `4×`, `12.5 ms`, `5M parameters`."""
    for ending, said in (("-parameters", " parameters"), ("ms", " ms"), ("x", "×")):
        if word.endswith(ending):
            return word.removesuffix(ending) + said
    return f"{word} %"


def smaller(found: list[Group]) -> list[Group]:
    """Those of one base and task that store fewer parameters than their teacher."""
    sizes = [size.mean for group in found if group.plan == TEACHER and (size := group.means.get("params_total"))]
    return [group for group in found if sizes and (size := group.means.get("params_total")) and size.mean < sizes[0]]


def nested(found: list[Group]) -> dict[str, Any]:
    """Base → task → plan → percent → column → mean, sd, n: the form of metrics.json."""
    tree: dict[str, Any] = {}
    for group in found:
        leaf = tree.setdefault(group.base, {}).setdefault(group.task, {}).setdefault(group.plan, {})
        leaf[group.percent] = {key: mean.rounded() for key, mean in group.means.items() if mean and key != "gain"}
    return tree


class Speed(NamedTuple):
    """Measured speed-ups of a kind of student in one runtime at one batch size."""

    runtime: str
    batch: int
    structured: bool
    """Whether the students have fewer stored parameters than their teacher."""
    students: int
    lowest: float
    highest: float
    sparsest: float

    @property
    def none(self) -> bool:
        """Whether every one of them is as fast as its teacher."""
        return SAME_SPEED[0] <= self.lowest and self.highest <= SAME_SPEED[1]


def speeds(table: pd.DataFrame) -> list[Speed]:
    """What was measured for students that lost parameters, unstructured first; empty when nothing was."""
    teachers = table[table["plan"] == TEACHER].set_index(["base", "task", "seed"])["params_total"]
    keys = pd.MultiIndex.from_frame(table[["base", "task", "seed"]])
    compact = table["params_total"].to_numpy() < teachers.reindex(keys).to_numpy()
    pruned = (table["plan"] != TEACHER) & (table["sparsity_encoder"] > 0)
    found = []
    for structured in (False, True):
        for runtime, prefix in RUNTIMES.items():
            for batch in BATCHES:
                column = f"{prefix}speedup_b{batch}"
                rows = table[pruned & (compact == structured)].dropna(subset=[column])
                if len(rows):
                    lowest, highest = (float(limit) for limit in rows[column].agg(["min", "max"]))
                    sparsest = float(rows["sparsity_encoder"].max())
                    found.append(Speed(runtime, batch, structured, len(rows), lowest, highest, sparsest))
    return found


class Conditions(NamedTuple):
    """Under which some models were timed."""

    device: str
    threads: int
    length: int
    repeats: int
    """Timed passes of each model."""
    batches: tuple[str, ...]
    spreads: tuple[float, ...]
    """Of each model at each batch size: width of the middle half of its passes, as a fraction of their median."""

    @property
    def models(self) -> int:
        """How many were timed so."""
        return len(self.spreads) // len(self.batches)

    @property
    def spread(self) -> float:
        """That of a typical model."""
        return median(self.spreads)


def conditions(costs: Iterable[Mapping[str, Any]]) -> list[Conditions]:
    """The distinct conditions of these cost.json contents, in the order in which they come."""
    found: dict[tuple[Any, ...], list[float]] = {}
    for cost in costs:
        times = cost["latency_ms"]
        spreads = [(time["q75"] - time["q25"]) / time["median"] for time in times.values()]
        key = (cost["device"], cost["threads"], cost["length"], cost["repeats"], tuple(times))
        found.setdefault(key, []).extend(spreads)
    return [Conditions._make((*key, tuple(spreads))) for key, spreads in found.items()]


class Selection(NamedTuple):
    """How the checkpoints of some runs were selected, against the rows that give their score."""

    base: str
    task: str
    rule: str
    selected_on: str | None
    scored_on: str
    plans: tuple[str, ...]
    runs: int

    @property
    def same_rows(self) -> bool:
        """Whether the rows that selected the checkpoint also give the score."""
        return self.rule == "best" and self.selected_on == self.scored_on


def selections(records: Sequence[Mapping[str, Any]], scored_on: Mapping[tuple[str, str], str]) -> list[Selection]:
    """The distinct ways of selecting a checkpoint, with the runs that used each.

    Args:
        records: run.json contents with their `place`.
        scored_on: (base, task) → name of the set that gives the score.
    """
    found: dict[tuple[str, str, str, str | None], list[str]] = {}
    for record in records:
        place, selected = record["place"], record["selected"]
        key = (place.base, place.task, selected["checkpoint"], selected["set"])
        found.setdefault(key, []).append(place.plan)
    return [
        Selection(base, task, rule, chosen, scored_on.get((base, task), "?"), tuple(dict.fromkeys(plans)), len(plans))
        for (base, task, rule, chosen), plans in found.items()
    ]
