"""Pictures of score against what compression changes: sparsity, stored size, measured speed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from espalier.config.project import TEACHER
from espalier.report.style import (
    ERROR_BARS,
    GUESS_LINE,
    LIGHT,
    TEACHER_LINE,
    Look,
    canvas,
    finish,
    inline,
    legend_entries,
    line_style,
    place_labels,
)
from espalier.results.quality import Quality
from espalier.results.summary import SAME_SPEED, Mean, goal, smaller
from espalier.results.table import RUNTIMES

LOG_SPAN = 4.0
"""Sizes and speed-ups that differ by more than this factor stand on a logarithmic axis."""


class Against(NamedTuple):
    """What scores are drawn against."""

    column: str
    scale: float
    """One unit of the axis in units of the column."""
    label: str
    unit: str = ""
    base: float = 10.0
    """Of the logarithmic axis."""


SPARSITY = Against("sparsity_encoder", 0.01, "encoder sparsity, measured (%)")
SIZE = Against("params_total", 1e6, "parameters stored (millions)")
SPEEDS = tuple(
    Against(f"{prefix}speedup_b32", 1.0, f"speed-up at batch 32, {runtime}", "×", 2.0) for runtime, prefix in RUNTIMES.items()
)


class Point(NamedTuple):
    """Where one plan's students of one target stand."""

    plan: str
    label: str
    x: Mean
    score: Mean
    smaller: bool
    """Whether they store fewer parameters than the teacher."""


def points(quality: Quality, against: Against) -> list[Point]:
    """Every group for which both numbers are known, in table order; x in units of the axis."""
    compact, found = smaller(quality.groups), []
    for group in quality.groups:
        x, score = group.means.get(against.column), group.means["score"]
        if x and score:
            scaled = Mean(x.mean / against.scale, None if x.sd is None else x.sd / against.scale, x.n)
            found.append(Point(group.plan, goal(group.percent), scaled, score, group in compact))
    return found


def measured(quality: Quality) -> list[Against]:
    """Size, and the speed of each runtime in which a student was timed."""
    speeds = [against for against in SPEEDS if any(point.plan != TEACHER for point in points(quality, against))]
    return [SIZE, *speeds]


def draw(axes: Axes, quality: Quality, against: Against, look: dict[str, Look]) -> None:
    """A line a plan, error bars over seeds, the teacher, the guess."""
    found = points(quality, against)
    for plan in dict.fromkeys(point.plan for point in found if point.plan != TEACHER):
        _draw_plan(axes, [point for point in found if point.plan == plan], look[plan], against is SPARSITY)
    for point in found:
        if point.plan == TEACHER:
            axes.axhline(point.score.mean, **TEACHER_LINE)
            if against is not SPARSITY:
                axes.axvline(point.x.mean if against is SIZE else 1.0, **TEACHER_LINE | {"linewidth": 0.7, "label": "_dense"})
    axes.set_xlabel(against.label)
    axes.set_ylabel(quality.metric)
    axes.margins(x=0.06)
    if against is not SPARSITY:
        _scale(axes, [point.x.mean for point in found], against)
    if quality.majority is not None:
        _draw_majority(axes, quality.majority, found)
    if against is not SPARSITY:
        _label(axes, found, look)


def _draw_plan(axes: Axes, own: Sequence[Point], look: Look, sparsity: bool) -> None:
    axes.errorbar(
        [point.x.mean for point in own],
        [point.score.mean for point in own],
        yerr=[point.score.bar for point in own],
        xerr=None if sparsity else [point.x.bar for point in own],
        label=own[0].plan,
        **line_style(look),
        **ERROR_BARS,
    )


def _label(axes: Axes, found: Sequence[Point], look: dict[str, Look]) -> None:
    """The targets of the students that are smaller than their teacher."""
    labels = [(point.label, look[point.plan].colour, point.x.mean, point.score.mean) for point in found if point.smaller]
    plans = dict.fromkeys(point.plan for point in found if point.plan != TEACHER)
    lines = [[(point.x.mean, point.score.mean) for point in found if point.plan == plan] for plan in plans]
    low, high = axes.get_xlim()
    lines += [[(low, point.score.mean), (high, point.score.mean)] for point in found if point.plan == TEACHER]
    if labels:
        place_labels(axes, labels, lines)


def _draw_majority(axes: Axes, share: float, found: Sequence[Point]) -> None:
    """A line, unless it lies so far under the results that showing it would flatten them: then its value in a free corner."""
    lowest, highest = axes.get_ylim()
    if share > lowest - (highest - lowest):
        axes.axhline(share, **GUESS_LINE)
        return
    last = min(found, key=lambda point: point.score.mean)
    to_axes = axes.transData - axes.transAxes
    left = to_axes.transform((last.x.mean, last.score.mean))[0] > 0.5
    style: dict[str, Any] = {
        "color": LIGHT["muted"],
        "fontsize": 8.5,
        "transform": axes.transAxes,
        "ha": "left" if left else "right",
    }
    axes.text(0.015 if left else 0.985, 0.025, f"↓ {GUESS_LINE['label']}: {share:.3f}", **style)


def _scale(axes: Axes, values: Sequence[float], against: Against) -> None:
    """Logarithmic where the values span much; from zero where they hardly differ, which would look like much otherwise."""
    span = max(values) / min(values) if values and min(values) > 0 else 1.0
    if span > LOG_SPAN:
        axes.set_xscale("log")
        steps = (1.0,) if against.base == 2.0 else (1.0, 2.0, 5.0)
        axes.xaxis.set_major_locator(LogLocator(against.base, steps))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", which="minor", length=0)
        axes.set_xlabel(f"{against.label}, logarithmic")
    elif span < SAME_SPEED[1] / SAME_SPEED[0]:
        axes.set_xlim(0.0, 1.12 * max([1.0, *values]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}{against.unit}"))


def quality_figures(quality: Quality, look: dict[str, Look]) -> list[str]:
    """For the page, one picture each so that they wrap on narrow screens: against sparsity, size, and speeds."""
    found = []
    for against in (SPARSITY, *measured(quality)):
        with canvas((4.6, 3.3)) as figure:
            draw(figure.subplots(), quality, against, look)
            name = against.label.split(",")[0].split(" (")[0] if against in (SPARSITY, SIZE) else against.label
            label = f"{quality.metric} against {name}, {quality.title}"
            found.append(inline(figure, f"quality {against.column} {quality.title}", label))
    return found


def quality_key(qualities: Sequence[Quality], look: dict[str, Look]) -> Iterator[tuple[str, str]]:
    """Picture and name of every line in these panels."""
    plans = [group.plan for quality in qualities for group in quality.groups if group.plan != TEACHER]
    return legend_entries(
        plans, [TEACHER_LINE, *[GUESS_LINE] * any(quality.majority is not None for quality in qualities)], look
    )


def quality_file(qualities: Sequence[Quality], look: dict[str, Look]) -> str:
    """Score against sparsity, every base and task in one standalone picture."""
    columns = max(1, min(3, len(qualities)))
    rows = max(1, math.ceil(len(qualities) / columns))
    with canvas((4.6 * columns, 3.5 * rows + 0.6), LIGHT["page"]) as figure:
        grid = list(figure.subplots(rows, columns, squeeze=False).flatten())
        for axes, quality in zip(grid, qualities, strict=False):
            draw(axes, quality, SPARSITY, look)
            axes.set_title(quality.title)
        return finish(figure, grid[: len(qualities)], grid[len(qualities) :], "quality")


def size_file(qualities: Sequence[Quality], look: dict[str, Look]) -> str:
    """Score against stored size and measured speed, a row for each base and task, in one standalone picture."""
    columns = max([1, *(len(measured(quality)) for quality in qualities)])
    with canvas((4.4 * columns, 3.4 * max(1, len(qualities)) + 0.6), LIGHT["page"]) as figure:
        rows = figure.subplots(max(1, len(qualities)), columns, squeeze=False)
        drawn = []
        for row, quality in zip(rows, qualities, strict=False):
            for axes, against in zip(row, measured(quality), strict=False):
                draw(axes, quality, against, look)
                axes.set_title(quality.title)
                drawn.append(axes)
        return finish(figure, drawn, [axes for axes in rows.flatten() if axes not in drawn], "size")
