"""Scores of a text task's students along their training, for comparison between plans."""

from __future__ import annotations

from typing import NamedTuple

from espalier.results.curves import Curves


class End(NamedTuple):
    """First, last and largest value of one line of a comparison."""

    plan: str
    seed: int
    percent: str
    quantity: str
    first: float
    last: float
    most: float


class Comparison(NamedTuple):
    """Distance of the students of one base and text task from their teacher, along training, for all plans."""

    base: str
    task: str
    curves: list[Curves]
    """Curves of the plans; `compared` has the same quantities in each."""
    teacher_loss: float | None
    """Mean over seeds of the teacher's held-out loss."""

    @property
    def title(self) -> str:
        """Base and task."""
        return f"{self.base} on {self.task}"

    @property
    def names(self) -> list[str]:
        """Names of the compared quantities."""
        return [panel.name for panel in self.curves[0].compared]

    @property
    def ends(self) -> list[End]:
        """First, last and largest value of every line, in the order of the picture."""
        ends = []
        for curves in self.curves:
            for panel in curves.compared:
                for line in panel.lines:
                    values = line.values
                    ends.append(End(curves.plan, line.seed, line.percent, panel.name, values[0], values[-1], max(values)))
        return ends
