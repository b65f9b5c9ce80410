"""Scores of all students of one base and task, beside what changes with them."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any, NamedTuple

from espalier.config.data import MEAN
from espalier.results.summary import Group


class Quality(NamedTuple):
    """The scores of one base and task."""

    title: str
    metric: str
    groups: list[Group]
    majority: float | None
    """Score of guessing the most frequent class; None where the metric is not accuracy."""


def majority_of(task: Mapping[str, Any], chosen: str) -> float | None:
    """Score of always answering the training rows' most frequent class, on a set; None where there are no classes.

    Args:
        task: its task.json.
        chosen: an evaluation set, or the mean over some.
    """
    shares = task.get("majority") or {}
    return mean(shares[name] for name in task["mean"]) if chosen == MEAN and shares else shares.get(chosen)
