"""How a student's score recovers after a removal, and how far training and held-out scores lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

NEARLY = 0.9
"""Fraction of an interval's gain after which a score counts as recovered: t90."""


class Recovery(NamedTuple):
    """How a score comes back in the interval after a removal."""

    drop: float
    """Score just before the removal less the score just after it."""
    t90: float
    """Fraction of the interval, in [0, 1], after which nine tenths of its gain are there."""
    regret: float
    """Mean over the interval's evaluations of how far they are below its best."""


def recovery(before: float, updates: Sequence[int], scores: Sequence[float]) -> Recovery:
    """Drop, t90 and regret of one interval between two removals.

    Source: docs/methods/sdp.md §6.3; t90 by linear interpolation between evaluations.

    Args:
        before: score just before the removal.
        updates: steps since the removal at each evaluation, ascending from 0, which is just after it; the last one is the
            interval's length.
        scores: higher is better; one an evaluation.
    """
    first, best = scores[0], max(scores)
    wanted = first + NEARLY * (best - first)
    there = next(index for index, score in enumerate(scores) if score >= wanted)
    reached = float(updates[there])
    if there:
        low, high = scores[there - 1 : there + 1]
        reached -= (high - wanted) / (high - low) * (updates[there] - updates[there - 1])
    return Recovery(before - first, reached / updates[-1], sum(best - score for score in scores) / len(scores))


def recoveries(steps: Sequence[int], scores: Sequence[float]) -> list[Recovery]:
    """Of each removal among the evaluations of a stage, in order.

    A removal is where the step stays the same from one evaluation to the next: just before it and just after it. Its
    interval ends just before the next one; a removal after which nothing is evaluated has none.

    Args:
        steps: of each evaluation, ascending.
        scores: higher is better; one an evaluation.
    """
    repeated = [index for index in range(1, len(steps)) if steps[index] == steps[index - 1]]
    after = [index for index in repeated if index + 1 not in repeated]
    found = []
    for begin, end in zip(after, [*after, len(steps)][1:], strict=True):
        interval = {steps[index] - steps[begin]: scores[index] for index in range(begin, end)}
        if len(interval) > 1:
            found.append(recovery(scores[begin - 1], list(interval), list(interval.values())))
    return found


class Gap(NamedTuple):
    """How much better a model is on rows that it was trained on; 0 where it does not overfit."""

    metric: float
    loss: float


def overfitting_gap(metric: str, train: dict[str, float], held_out: dict[str, float]) -> Gap:
    """gap_metric = train - held out and gap_loss = held out - train.

    Source: docs/methods/spd.md §6.1.

    Args:
        metric: name of a score that is better when higher.
        train: "loss" and the metric on a fixed random part of the training rows, as large as the held-out set.
        held_out: the same on rows that were not trained on.
    """
    return Gap(train[metric] - held_out[metric], held_out["loss"] - train["loss"])
