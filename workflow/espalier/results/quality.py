"""Scores of all students of one base and task, beside what changes with them."""

from __future__ import annotations

from typing import NamedTuple

from espalier.results.summary import Group


class Quality(NamedTuple):
    """The scores of one base and task."""

    title: str
    metric: str
    groups: list[Group]
    majority: float | None
    """Score of guessing the most frequent class; None where the metric is not accuracy."""
