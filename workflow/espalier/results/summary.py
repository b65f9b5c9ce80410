"""Means over seeds, and summaries of a project's table and records: speeds, timing conditions, selected checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import pandas as pd

from espalier.config.data import TEXT_METRICS
from espalier.config.project import RIVALS, TEACHER
from espalier.config.targets import percent_of
from espalier.results.table import BATCHES, RUNTIMES, SPEED_COLUMNS
from espalier.runtime.files import digits

SUMMARISED = (
    *("score", "sparsity_encoder", "sparsity_total", "sparsity_relative", "params_total", "params_nonzero", "size_mib", "macs"),
    *("total_mib", "updates", *SPEED_COLUMNS),
    *("train_seconds", "samples_per_second", "unlabelled_rows"),
)
SAME_SPEED = (0.9, 1.1)
"""Speed-ups in this range count as none: repeated timings of one model differ by as much on a shared machine."""


class Mean(NamedTuple):
    """A mean over seeds, with its spread and count."""

    mean: float
    sd: float | None
    """Sample standard deviation; None for one seed."""
    n: int

    @classmethod
    def of(cls, values: pd.Series) -> Mean | None:
        """Mean of the values that are not missing; None where all are missing."""
        known = values.dropna()
        if known.empty:
            return None

        sd = float(known.std(ddof=1)) if len(known) > 1 else None
        return cls(float(known.mean()), sd, len(known))

    @property
    def bar(self) -> float:
        """Half the length of its error bar; not-a-number for one seed, so that no bar is drawn."""
        return math.nan if self.sd is None else self.sd

    def rounded(self) -> dict[str, Any]:
        """Its parts for JSON, see `_six_digits`."""
        return {"mean": _six_digits(self.mean), "sd": None if self.sd is None else _six_digits(self.sd), "n": self.n}


def _six_digits(value: float) -> float | int:
    """Six significant digits; whole numbers from 10 on, such as counts of parameters, keep all of theirs."""
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

    @property
    def is_rival(self) -> bool:
        """Whether it is what one could take instead of a student of this base."""
        return self.method in RIVALS

    @property
    def label(self) -> str:
        """Its target as people read it; the name of a rival, which has none."""
        return self.plan if self.is_rival else target_label(self.percent)


def groups(table: pd.DataFrame) -> list[Group]:
    """Every base, task, plan and target of the table, in its order."""
    keys = ["base", "task", "plan", "method", "stage", "metric"]
    grouped = []
    for (base, task, plan, method, percent, metric), rows in _with_stage(table).groupby(keys, sort=False):
        target, start = (_first(rows[column]) if column in rows else None for column in ("target", "start"))
        grouped.append(Group(base, task, plan, method, target, percent, metric, _means(rows), start))
    return grouped


def over_tasks(table: pd.DataFrame) -> list[Group]:
    """Means over all tasks of a base, each with its own metric, for the plans and targets that all tasks have.

    A seed counts where it has every task. Text tasks, which have no labels, are left out; so is a base with a single task.
    """
    labelled = _with_stage(table)[~table["metric"].isin(TEXT_METRICS)].dropna(subset=["score"])
    numbers = [name for name in (*SUMMARISED, "target", "teacher_score") if name in labelled]

    grouped = []
    for _, inside in labelled.groupby("base", sort=False):
        tasks = inside["task"].unique()
        if len(tasks) == 1:
            continue

        runs = inside.groupby(["base", "plan", "method", "stage", "seed"], sort=False)
        complete = runs["task"].nunique() == len(tasks)
        means = runs[numbers].mean()[complete].reset_index()
        grouped += groups(means.assign(task=", ".join(tasks), metric="mean over tasks"))
    return grouped


def _with_stage(table: pd.DataFrame) -> pd.DataFrame:
    """Add the column `stage` to tables that were written before targets other than sparsities existed."""
    return table if "stage" in table else table.assign(stage=table["target"].map(percent_of))


def _first(values: pd.Series) -> Any:
    return None if pd.isna(values.iloc[0]) else values.iloc[0]


def _means(rows: pd.DataFrame) -> dict[str, Mean | None]:
    means = {column: Mean.of(pd.to_numeric(rows[column])) for column in SUMMARISED if column in rows}
    means["gain"] = Mean.of(rows["score"] - rows["teacher_score"])
    return means


def panels(grouped: list[Group]) -> Iterator[tuple[tuple[str, str], list[Group]]]:
    """(base, task) and its groups, in the order in which they first appear."""
    for key in dict.fromkeys((group.base, group.task) for group in grouped):
        yield key, [group for group in grouped if (group.base, group.task) == key]


def target_label(percent: str) -> str:
    """A target as people read it, from the word in paths: `60 %`, `4×`, `12.5 ms`, `5M parameters`."""
    for ending, unit in (("-parameters", " parameters"), ("ms", " ms"), ("x", "×")):
        if percent.endswith(ending):
            return percent.removesuffix(ending) + unit
    return f"{percent} %"


def size_text(mib: float) -> str:
    """A size in MiB with one decimal; with two digits where it is smaller than 1, as a linear model may be."""
    return f"{mib:.1f}" if mib >= 1.0 else f"{mib:.2g}"


def smaller(grouped: list[Group]) -> list[Group]:
    """Groups that store fewer parameters than their teacher, rivals among them.

    Args:
        grouped: groups of one base and task; without a teacher's size, no group counts as smaller.
    """
    teachers = [group for group in grouped if group.plan == TEACHER and group.means.get("params_total")]
    if not teachers:
        return []

    dense = teachers[0].means["params_total"].mean
    return [group for group in grouped if (size := group.means.get("params_total")) and size.mean < dense]


def nested(grouped: list[Group]) -> dict[str, Any]:
    """Base → task → plan → percent → column → mean, sd, n: the form of metrics.json."""
    tree: dict[str, Any] = {}
    for group in grouped:
        leaf = tree.setdefault(group.base, {}).setdefault(group.task, {}).setdefault(group.plan, {})
        leaf[group.percent] = {key: mean.rounded() for key, mean in group.means.items() if mean and key != "gain"}
    return tree


class Speed(NamedTuple):
    """Measured speed-ups of structured or of unstructured students, in one runtime at one batch size."""

    runtime: str
    batch: int
    structured: bool
    """Whether the students have fewer stored parameters than their teacher."""
    students: int
    lowest: float
    highest: float
    sparsest: float
    """Largest measured sparsity of the encoder among them."""

    @property
    def none(self) -> bool:
        """Whether every student is about as fast as its teacher."""
        return SAME_SPEED[0] <= self.lowest and self.highest <= SAME_SPEED[1]


def speeds(table: pd.DataFrame) -> list[Speed]:
    """Speed-ups of the pruned students of a table, unstructured ones first; empty when nothing was timed."""
    teachers = table[table["plan"] == TEACHER].set_index(["base", "task", "seed"])["params_total"]
    own_teacher = pd.MultiIndex.from_frame(table[["base", "task", "seed"]])
    structured = table["params_total"].to_numpy() < teachers.reindex(own_teacher).to_numpy()
    is_student = (table["plan"] != TEACHER) & ~table["method"].isin(RIVALS)
    pruned = table.assign(structured=structured)[is_student & (table["sparsity_encoder"] > 0)]

    # one long table: a line for each student, runtime and batch size
    tables = []
    for runtime, prefix in RUNTIMES.items():
        for batch in BATCHES:
            speedup = pruned[f"{prefix}speedup_b{batch}"]
            students = pruned[["structured", "sparsity_encoder"]]
            tables.append(students.assign(runtime=runtime, batch=batch, speedup=speedup))
    timed = pd.concat(tables).dropna(subset=["speedup"]).sort_values("structured", kind="stable")

    limits = timed.groupby(["runtime", "batch", "structured"], sort=False).agg(
        students=("speedup", "size"),
        lowest=("speedup", "min"),
        highest=("speedup", "max"),
        sparsest=("sparsity_encoder", "max"),
    )
    return [Speed(**line) for line in limits.reset_index().to_dict("records")]


class Conditions(NamedTuple):
    """Conditions under which some models were timed."""

    device: str
    precision: str
    """In PyTorch."""
    threads: int
    length: int
    repeats: int
    """Least number of timed passes of each model."""
    batches: tuple[str, ...]
    spreads: tuple[float, ...]
    """For each model at each batch size: interquartile range of its passes, as a fraction of their median."""

    @property
    def models(self) -> int:
        """Number of models that were timed under these conditions."""
        return len(self.spreads) // len(self.batches)

    @property
    def spread(self) -> float:
        """Median of the spreads."""
        return median(self.spreads)


def conditions(costs: Iterable[Mapping[str, Any]]) -> list[Conditions]:
    """The distinct conditions of these cost.json contents, in the order in which they first appear."""
    spreads_of: dict[tuple[Any, ...], list[float]] = {}
    for cost in costs:
        times = cost["latency_ms"]
        spreads = [(time["q75"] - time["q25"]) / time["median"] for time in times.values()]
        key = (cost["device"], cost["precision"], cost["threads"], cost["length"], cost["repeats"], tuple(times))
        spreads_of.setdefault(key, []).extend(spreads)
    return [Conditions._make((*key, tuple(spreads))) for key, spreads in spreads_of.items()]


class Selection(NamedTuple):
    """How the checkpoints of some runs were selected, and on which rows these runs were scored."""

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
    """The distinct ways of selecting a checkpoint, each with the plans and the number of runs that used it.

    Args:
        records: run.json contents with their `place`.
        scored_on: (base, task) → name of the set that gives the score.
    """
    plans_of: dict[tuple[str, str, str, str | None], list[str]] = {}
    for record in records:
        place, selected = record["place"], record["selected"]
        key = (place.base, place.task, selected["checkpoint"], selected["set"])
        plans_of.setdefault(key, []).append(place.plan)

    ways = []
    for (base, task, rule, chosen), plans in plans_of.items():
        scored = scored_on.get((base, task), "?")
        ways.append(Selection(base, task, rule, chosen, scored, tuple(dict.fromkeys(plans)), len(plans)))
    return ways
