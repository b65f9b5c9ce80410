"""Plans one below the other at the target that they share: the picture that an ablation asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes

from espalier.core.figures import ERROR_BARS, TEACHER_LINE, Look, canvas, inline, line_style
from espalier.core.quality import Quality
from espalier.core.results import TEACHER
from espalier.core.summary import Group, Mean, goal

MANY = 4
"""Plans at one target from which on their points against sparsity hide each other."""


def arms(quality: Quality) -> dict[str, list[Group]]:
    """Targets that at least `MANY` plans share → their groups, in table order."""
    found: dict[str, list[Group]] = {}
    for group in quality.groups:
        if group.plan != TEACHER and group.means["score"]:
            found.setdefault(group.percent, []).append(group)
    return {percent: own for percent, own in found.items() if len(own) >= MANY}


def draw_arms(axes: Axes, own: Sequence[Group], teacher: Mean | None, look: dict[str, Look]) -> None:
    """A line a plan from top to bottom: its mean score, and the standard deviation over seeds."""
    for place, group in enumerate(own):
        score = group.means["score"]
        axes.errorbar([score.mean], [place], xerr=score.sd, **line_style(look[group.plan]), **ERROR_BARS)
    if teacher:
        axes.axvline(teacher.mean, **TEACHER_LINE)
    axes.set_yticks(range(len(own)), [group.plan for group in own])
    axes.set_ylim(len(own) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(own[0].metric)
    axes.margins(x=0.1)


def arms_figures(quality: Quality, look: dict[str, Look]) -> Iterator[str]:
    """A picture for each shared target."""
    teacher = next((group.means["score"] for group in quality.groups if group.plan == TEACHER), None)
    for percent, own in arms(quality).items():
        with canvas((4.6, 0.9 + 0.3 * len(own))) as figure:
            axes = figure.subplots()
            draw_arms(axes, own, teacher, look)
            axes.set_title(goal(percent), fontsize=9)
            label = f"{quality.metric} of plans at {goal(percent)}, {quality.title}"
            yield inline(figure, f"arms {percent} {quality.title}", label)
