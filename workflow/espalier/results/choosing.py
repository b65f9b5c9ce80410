"""Which model to take: the best one under limits on size, latency and score, and the fronts that no model beats.

Pure functions over deploy.csv, which has a row for each model, folder and format. Formats that failed the guard are never
offered, and neither is the linear rival, of which no file is written. Scores are higher where they are better.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from espalier.config.project import LINEAR, TEACHER
from espalier.results.formats import read_formats
from espalier.runtime.errors import UserError

BestIn = Literal["score", "size", "latency"]
"""What the best model is best in."""
IDENTITY = ("base", "task", "plan", "percent", "folder", "format", "metric", "set")
"""Columns of text that tell one model in one format from the others; its seeds share a line of `over_seeds`."""
TIME = re.compile(r"ms_b(\d+)_l(\d+|rows)")
OFFERED = "offered"
"""Column of `over_seeds`: whether there is a file to take, and it passed the guard."""


class MeasuredBatch(NamedTuple):
    """Which of the measured latencies counts."""

    batch: int
    length: str
    """Tokens of a row, or `rows`: the lengths that the task's rows really have."""

    @property
    def column(self) -> str:
        """Its column: milliseconds of one forward pass, the median."""
        return f"ms_b{self.batch}_l{self.length}"

    def __str__(self) -> str:
        return f"batch {self.batch}, {'rows as the task has them' if self.length == 'rows' else f'{self.length} tokens a row'}"


@dataclass(frozen=True)
class Limit:
    """A bound that a model has to keep."""

    column: str
    """`total_mib`, `score` or the column of a latency."""
    bound: float

    @property
    def at_least(self) -> bool:
        """Whether larger values are better."""
        return self.column == "score"

    def excess(self, models: pd.DataFrame) -> pd.Series:
        """How far each model is beyond the bound, in the column's unit; 0 where it keeps it, infinite where it has no value."""
        values = models[self.column].astype(float)
        beyond = self.bound - values if self.at_least else values - self.bound
        return beyond.clip(lower=0.0).fillna(float("inf"))


class Step(NamedTuple):
    """What giving way on one limit would buy."""

    limit: Limit
    given: float
    """How much further the limit has to be, in its unit."""
    gained: float
    """How much better the model is in what is aimed at."""
    model: pd.Series


class Recommendation(NamedTuple):
    """The answer to a question."""

    best: pd.Series | None
    runner_up: pd.Series | None
    """The next best model that keeps all limits."""
    steps: list[Step]
    """For each limit the smallest step to a better model, and the next one to a still better one."""
    closest: pd.Series | None
    """Where nothing keeps all limits: the model that is least beyond them."""
    failed: list[tuple[Limit, float]]
    """The limits that the closest model fails, and by how much."""


def read_choices(path: Path) -> pd.DataFrame:
    """deploy.csv, or a UserError that says how to get one."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; a run of the study with `deploy: formats` writes it")
    return read_formats(path)


def measured_timings(table: pd.DataFrame) -> list[MeasuredBatch]:
    """The latencies that a table holds, in its order."""
    matches = [TIME.fullmatch(name) for name in table.columns]
    return [MeasuredBatch(int(match[1]), match[2]) for match in matches if match and table[match[0]].notna().any()]


def default_timing(measured: Iterable[MeasuredBatch]) -> MeasuredBatch | None:
    """The latency that counts where nobody says which: the smallest batch, of rows as the task has them; None of none."""
    return min(measured, key=lambda timing: (timing.batch, timing.length != "rows"), default=None)


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """One line a model and format: means over its seeds, the first `seed`, the number of `seeds`, and whether it is offered.

    A format passed the guard where it did so for every seed.
    """
    grouped = table.groupby(list(IDENTITY), sort=False, dropna=False)
    numbers = [name for name in table.select_dtypes("number").columns if name != "seed"]
    models = grouped[numbers].mean()
    models["seed"], models["seeds"] = grouped["seed"].min(), grouped["seed"].nunique()
    models["passed"] = grouped["passed"].agg(lambda values: "yes" if (values == "yes").all() else "no")

    models = models.reset_index()
    models[OFFERED] = (models["passed"] == "yes") & (models["plan"] != LINEAR)
    return models


def dense_score(models: pd.DataFrame) -> float | None:
    """The score of the dense teacher in PyTorch and fp32, the best one of several bases; None where the table has no teacher.

    Every format's row tells it: it is the format's own score and what that lost.

    Args:
        models: as `over_seeds` gives them, of one task.
    """
    dense = models[(models["plan"] == TEACHER) & (models["folder"] == "compact")]
    return None if dense.empty else float((dense["score"] + dense["drop"]).max())


def loses_at_most(loss: float, dense: float) -> Limit:
    """The limit on the score of a model that may lose so much against the dense one."""
    # six digits, as in the table, so that a model at the bound keeps it
    return Limit("score", round(dense - loss, 6))


def best(models: pd.DataFrame, limits: Sequence[Limit], aim: BestIn, timing: MeasuredBatch) -> Recommendation:
    """The best model that keeps all limits; among equals the smaller one, then the faster one, counts.

    Args:
        models: as `over_seeds` gives them, of one task.
        limits: at most one for each column.
        aim: what the best model is best in.
        timing: the latency that counts.
    """
    offered = ranked(models[models[OFFERED]], aim, timing)
    fitting = offered[_kept(offered, limits)]
    if fitting.empty:
        return Recommendation(None, None, [], *_closest(offered, limits))

    first = fitting.iloc[0]
    steps = [step for limit in limits for step in _steps(offered, limits, limit, first, _aimed_at(aim, timing))]
    return Recommendation(first, fitting.iloc[1] if len(fitting) > 1 else None, steps, None, [])


def ranked(models: pd.DataFrame, aim: BestIn, timing: MeasuredBatch) -> pd.DataFrame:
    """The models, best first; those that lack a value of what is aimed at are left out."""
    first = _aimed_at(aim, timing)
    others = [name for name in ("score", "total_mib", timing.column) if name != first]
    keys = [first, *others]
    ascending = [name != "score" for name in keys]
    return models.dropna(subset=[first]).sort_values(keys, ascending=ascending, kind="stable")


def pareto(models: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The models that no other beats: none has a higher score at no higher cost, or a lower cost at no lower score.

    Args:
        models: as `over_seeds` gives them, of one task; formats that failed the guard are left out, the linear rival is not.
        cost: column that is better where it is lower: `total_mib`, or that of a latency.

    Returns:
        The models, cheapest first; both cost and score rise from line to line.
    """
    passed = models[models["passed"] == "yes"].dropna(subset=[cost, "score"])
    in_order = passed.sort_values([cost, "score"], ascending=[True, False], kind="stable")
    highest_before = in_order["score"].cummax().shift(fill_value=-float("inf"))
    return in_order[in_order["score"] > highest_before]


def _aimed_at(aim: BestIn, timing: MeasuredBatch) -> str:
    return {"score": "score", "size": "total_mib", "latency": timing.column}[aim]


def _kept(models: pd.DataFrame, limits: Sequence[Limit]) -> pd.Series:
    kept = pd.Series(True, index=models.index)
    for limit in limits:
        kept &= limit.excess(models) <= 0
    return kept


def _closest(offered: pd.DataFrame, limits: Sequence[Limit]) -> tuple[pd.Series | None, list[tuple[Limit, float]]]:
    """The model with the smallest excess, as a fraction of the bound that it exceeds most, and the limits that it fails."""
    if offered.empty:
        return None, []

    shares = pd.DataFrame({limit.column: limit.excess(offered) / max(abs(limit.bound), 1e-9) for limit in limits})
    row = shares.max(axis=1).argmin()
    failed = [(limit, float(limit.excess(offered).iloc[row])) for limit in limits]
    return offered.iloc[row], [(limit, excess) for limit, excess in failed if excess > 0]


def _steps(offered: pd.DataFrame, limits: Sequence[Limit], limit: Limit, first: pd.Series, column: str) -> list[Step]:
    """The two smallest ways of giving way on one limit, of which the second buys more than the first."""
    others = offered[_kept(offered, [other for other in limits if other != limit])]
    given = limit.excess(others)
    gained = (others[column] - first[column]) * (1 if column == "score" else -1)

    steps: list[Step] = []
    for row in given[(given < float("inf")) & (gained > 0)].sort_values(kind="stable").index:
        if not steps or gained[row] > steps[-1].gained:
            # of equally small steps the one that buys most; `others` is ranked, so it comes first
            steps.append(Step(limit, float(given[row]), float(gained[row]), others.loc[row]))
    return steps[:2]
