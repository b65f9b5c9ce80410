"""Scores of a text task's students along their training, for comparison between plans."""

from __future__ import annotations

from typing import NamedTuple

from espalier.results.curves import Curves


class End(NamedTuple):
    """What a line of a comparison begins with, ends with, and the most it reaches."""

    plan: str
    seed: int
    percent: str
    quantity: str
    first: float
    last: float
    most: float


class Comparison(NamedTuple):
    """How far the students of one base and text task are from their teacher: all plans together."""

    base: str
    task: str
    curves: list[Curves]
    """Of the plans, each with the same quantities in `compared`."""
    teacher_loss: float | None
    """Mean over seeds of the teacher's held-out loss."""

    @property
    def title(self) -> str:
        """Base and task."""
        return f"{self.base} on {self.task}"

    @property
    def names(self) -> list[str]:
        """Of the quantities."""
        return [panel.name for panel in self.curves[0].compared]

    @property
    def ends(self) -> list[End]:
        """Of every line, in the order of the picture."""
        return [
            End(curves.plan, line.seed, line.percent, panel.name, line.values[0], line.values[-1], max(line.values))
            for curves in self.curves
            for panel in curves.compared
            for line in panel.lines
        ]
