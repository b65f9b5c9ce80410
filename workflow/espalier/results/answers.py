"""The answer that a report begins with: the best models of a task for score, size and latency, and what one could take instead.

Pure functions over deploy.csv. `choosing` finds the best models, as the command `choose` does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import pandas as pd

from espalier.config.project import LINEAR, TEACHER
from espalier.results.choosing import (
    IDENTITY,
    BestIn,
    Limit,
    MeasuredBatch,
    best,
    default_timing,
    dense_score,
    loses_at_most,
    measured_timings,
    over_seeds,
)
from espalier.results.summary import Mean, target_label

SCORE_SPREAD = "score_sd"
"""Column of `Answer.models`: sample standard deviation of the score over seeds, not-a-number for one seed."""
FAILED = "failed"
"""Column of `Answer.models`: number of seeds with which the format lost more score than it may."""
LOSSES = (1, 5)
"""Losses of score against the dense model that the answer is given for, in units of `max_drop`."""
UNTIMED = MeasuredBatch(1, "rows")
"""What stands for a latency where none was measured: no model has a value of it."""


class AnswerLine(NamedTuple):
    """A line of the table of answers."""

    says: tuple[str, ...]
    """What the model is best for; for a rival what it is."""
    model: pd.Series
    rival: bool


class Answer(NamedTuple):
    """Everything that is known of one task's models in all formats."""

    task: str
    metric: str
    set: str
    models: pd.DataFrame
    """As `over_seeds` gives them, with `SCORE_SPREAD` and `FAILED`. The linear rival is there once for all bases."""
    timings: list[MeasuredBatch]
    timing: MeasuredBatch | None
    """The latency that counts: the smallest batch, of rows as the task has them; None where nothing was timed."""
    dense: float | None
    """The best score of a dense teacher in PyTorch and fp32; None where the table has no teacher."""
    lines: list[AnswerLine]

    @property
    def bases(self) -> list[str]:
        """The bases of its models."""
        return list(dict.fromkeys(self.models["base"]))


def answers(table: pd.DataFrame, max_drop: float, ready_made: Collection[str]) -> list[Answer]:
    """One answer for each task, in the order of the table.

    Args:
        table: deploy.csv, as `read_formats` gives it.
        max_drop: largest loss of score with which a format passes.
        ready_made: plans of ready-made encoders, which are rivals.
    """
    grouped = table.groupby(list(IDENTITY), sort=False, dropna=False)
    more = grouped.agg(**{SCORE_SPREAD: ("score", "std"), FAILED: ("passed", lambda values: int((values == "no").sum()))})
    every = over_seeds(table).merge(more.reset_index(), on=list(IDENTITY), how="left") if len(table) else table
    losses = tuple(dict.fromkeys(round(factor * max_drop, 6) for factor in LOSSES))
    return [_answer(inside, losses, ready_made) for _, inside in every.groupby("task", sort=False)]


def _answer(inside: pd.DataFrame, losses: Iterable[float], ready_made: Collection[str]) -> Answer:
    models = inside[(inside["plan"] != LINEAR) | ~inside.duplicated("plan")].reset_index(drop=True)
    timings = measured_timings(models)
    timing = default_timing(timings)

    dense = dense_score(models)
    lines = [*_best_lines(models, timing, dense, losses), *_rival_lines(models, ready_made)]
    first = models.iloc[0]
    return Answer(first["task"], first["metric"], first["set"], models, timings, timing, dense, lines)


def _best_lines(
    models: pd.DataFrame, timing: MeasuredBatch | None, dense: float | None, losses: Iterable[float]
) -> list[AnswerLine]:
    """The best models; one that is best for several things stands once."""
    timed = models if timing else models.assign(**{UNTIMED.column: float("nan")})
    said: dict[int, list[str]] = {}

    for words, limits, aim in _questions(timing, dense, losses):
        choice = best(timed, limits, aim, timing or UNTIMED)
        if choice.best is not None:
            said.setdefault(int(choice.best.name), []).append(words)
    return [AnswerLine(tuple(words), models.loc[row], False) for row, words in said.items()]


def _questions(
    timing: MeasuredBatch | None, dense: float | None, losses: Iterable[float]
) -> Iterator[tuple[str, list[Limit], BestIn]]:
    """What is asked for: in words, as limits, and what the best model is best in."""
    yield "best score", [], "score"
    if dense is None:
        return

    for loss in losses:
        limits = [loses_at_most(loss, dense)]
        yield f"smallest that loses at most {loss:g}", limits, "size"
        if timing:
            yield f"fastest that loses at most {loss:g}", limits, "latency"


def _rival_lines(models: pd.DataFrame, ready_made: Collection[str]) -> Iterator[AnswerLine]:
    """The dense model whole and at its smallest in int8, ready-made encoders at their smallest, the linear model."""
    teachers = models[models["plan"] == TEACHER]
    for _, own in teachers.groupby("base", sort=False):
        whole = own[(own["format"] == "torch") & (own["folder"] == "compact")]
        yield from (AnswerLine(("dense model",), row, True) for row in _rows(whole))
        yield from (
            AnswerLine(("dense model in int8",), row, True) for row in _smallest(own[own["format"].str.endswith("int8")])
        )

    encoders = models[models["plan"].isin(ready_made)]
    for _, own in encoders.groupby(["base", "plan", "percent"], sort=False):
        yield from (AnswerLine(("ready-made encoder",), row, True) for row in _smallest(own))
    yield from (AnswerLine(("linear model",), row, True) for row in _rows(models[models["plan"] == LINEAR]))


def _rows(models: pd.DataFrame) -> list[pd.Series]:
    return [row for _, row in models.iterrows()]


def _smallest(models: pd.DataFrame) -> list[pd.Series]:
    """The smallest of those that passed the guard; of all where none passed."""
    passed = models[models["passed"] == "yes"]
    return _rows((models if passed.empty else passed).sort_values("total_mib", kind="stable").head(1))


def score_of(model: pd.Series) -> Mean:
    """The score as a mean over seeds."""
    return Mean(
        float(model["score"]), None if pd.isna(model[SCORE_SPREAD]) else float(model[SCORE_SPREAD]), int(model["seeds"])
    )


def model_label(model: pd.Series) -> str:
    """Plan and target as people read them."""
    return model["plan"] if model["percent"] == "0" else f"{model['plan']} {target_label(model['percent'])}"


def form_label(model: pd.Series) -> str:
    """Format, and which of a model's folders it is in."""
    return f"{model['format']}, small embeddings" if model["folder"] == "trimmed" else model["format"]
