"""Pictures that ablations ask for: plans one below the other at the target that they share, and curves of scores that methods
declare.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes

from espalier.config.pictures import ScoreCurve
from espalier.config.project import TEACHER
from espalier.report.style import ERROR_BARS, TEACHER_LINE, Look, canvas, inline, line_style, looks
from espalier.results.quality import Quality
from espalier.results.summary import Group, Mean, target_label

CROWD = 4
"""Plans at one target from which on their points against sparsity hide each other."""
DENSE_PERCENT = "0"
"""Target of plans that remove nothing."""


def arms(quality: Quality) -> dict[str, list[Group]]:
    """Targets that at least `CROWD` plans share → their groups, in table order, after those that remove nothing."""
    students = [group for group in quality.groups if group.plan != TEACHER and group.means["score"]]
    by_percent: dict[str, list[Group]] = {}
    for group in students:
        by_percent.setdefault(group.percent, []).append(group)

    # Students from which nothing is removed are drawn beside those of every target.
    dense = by_percent.pop(DENSE_PERCENT, [])
    return {percent: [*dense, *own] for percent, own in by_percent.items() if len(own) >= CROWD}


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
    for percent, own in arms(quality).items():
        with canvas((4.6, 0.9 + 0.3 * len(own))) as figure:
            axes = figure.subplots()
            draw_arms(axes, own, _teacher(quality), look)
            axes.set_title(target_label(percent), fontsize=9)
            label = f"{quality.metric} of plans at {target_label(percent)}, {quality.title}"
            yield inline(figure, f"arms {percent} {quality.title}", label)


def draw_score_curve(axes: Axes, own: Sequence[Group], curve: ScoreCurve, teacher: Mean | None) -> None:
    """Mean score, and its deviation over seeds, against the number in which the plans differ; a line for each line's name."""
    look = looks(sorted({line for _, line in curve.points.values()}))
    for name in (name for name in look if name != TEACHER):
        line = sorted(
            (curve.points[group.plan][0], group.means["score"]) for group in own if curve.points[group.plan][1] == name
        )
        axes.errorbar(
            [place for place, _ in line],
            [score.mean for _, score in line],
            yerr=[score.bar for _, score in line],
            label=name,
            **line_style(look[name]),
            **ERROR_BARS,
        )

    if teacher:
        axes.axhline(teacher.mean, **TEACHER_LINE)
    axes.set(xlabel=curve.axis, ylabel=own[0].metric)
    axes.legend(fontsize=7.5)


def score_curve_figures(quality: Quality, curve: ScoreCurve) -> Iterator[str]:
    """A picture for each target that the curve's plans have."""
    inside = [group for group in quality.groups if group.plan in curve.points and group.means["score"]]
    for percent in dict.fromkeys(group.percent for group in inside):
        own = [group for group in inside if group.percent == percent]
        with canvas((4.6, 3.3)) as figure:
            axes = figure.subplots()
            draw_score_curve(axes, own, curve, _teacher(quality))
            axes.set_title(target_label(percent), fontsize=9)
            label = f"{quality.metric} against the {curve.name} at {target_label(percent)}, {quality.title}"
            yield inline(figure, f"{curve.name} {percent} {own[0].plan} {quality.title}", label)


def _teacher(quality: Quality) -> Mean | None:
    return next((group.means["score"] for group in quality.groups if group.plan == TEACHER), None)
