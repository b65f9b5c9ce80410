"""Pictures of score against what compression changes: sparsity, stored size, measured speed. Rivals stand among students."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from espalier.config.project import LINEAR, TEACHER
from espalier.report.style import (
    ERROR_BARS,
    GUESS_LINE,
    LIGHT,
    TEACHER_LINE,
    Look,
    canvas,
    finish_figure,
    inline,
    legend_entries,
    line_style,
    place_labels,
)
from espalier.results.quality import Quality
from espalier.results.summary import SAME_SPEED, Mean, smaller
from espalier.results.table import RUNTIMES

LOG_SPAN = 4.0
"""Sizes and speed-ups that differ by more than this factor stand on a logarithmic axis."""


class Against(NamedTuple):
    """A column that scores are drawn against, and its axis."""

    column: str
    scale: float
    """One unit of the axis in units of the column."""
    label: str
    unit: str = ""
    base: float = 10.0
    """Base of the axis where it is logarithmic."""


SPARSITY = Against("sparsity_encoder", 0.01, "encoder sparsity, measured (%)")
STORED_SIZE = Against("size_mib", 1.0, "size stored (MiB)")
TOTAL_SIZE = Against("total_mib", 1.0, "total size in PyTorch (MiB)")
"""Weights, tokenizer and all else that is needed to serve the model."""
SPEEDS = tuple(
    Against(f"{prefix}speedup_b32", 1.0, f"speed-up at batch 32, {runtime}", "×", 2.0) for runtime, prefix in RUNTIMES.items()
)


class Point(NamedTuple):
    """One plan's students at one target, as a point of the picture."""

    plan: str
    label: str
    x: Mean
    score: Mean
    smaller: bool
    """Whether they store fewer parameters than the teacher."""


def points(quality: Quality, against: Against) -> list[Point]:
    """Every group for which both numbers are known, in table order; x in units of the axis."""
    compact = smaller(quality.groups)
    drawn = []
    for group in quality.groups:
        x = group.means.get(against.column)
        score = group.means["score"]
        if x and score:
            scaled = Mean(x.mean / against.scale, None if x.sd is None else x.sd / against.scale, x.n)
            drawn.append(Point(group.plan, group.label, scaled, score, group in compact))
    return drawn


def measured(quality: Quality) -> list[Against]:
    """Size, in all where that is known, and the speed of each runtime in which a student was timed."""
    speeds = [against for against in SPEEDS if _has_students(quality, against)]
    return [TOTAL_SIZE if _has_students(quality, TOTAL_SIZE) else STORED_SIZE, *speeds]


def _has_students(quality: Quality, against: Against) -> bool:
    return any(point.plan != TEACHER for point in points(quality, against))


def draw_quality(axes: Axes, quality: Quality, against: Against, look: dict[str, Look]) -> None:
    """A line for each plan with error bars over seeds, one for the teacher, and for what needs no encoder: the linear model and
    the most frequent class."""
    drawn = points(quality, against)
    for plan in dict.fromkeys(point.plan for point in drawn if point.plan != TEACHER):
        _draw_plan(axes, [point for point in drawn if point.plan == plan], look[plan], against is SPARSITY)
    for point in drawn:
        if point.plan == TEACHER:
            _draw_teacher(axes, point, against)
    if against is SPARSITY:
        _draw_linear(axes, quality, look)

    axes.set_xlabel(against.label)
    axes.set_ylabel(quality.metric)
    # room for labels above and below the outermost points
    axes.margins(x=0.06, y=0.1)
    # limits are final only after the scale and the line of the most frequent class, so labels are placed last
    if against is not SPARSITY:
        scale_axis(axes, [point.x.mean for point in drawn], against)
    if quality.majority is not None:
        draw_majority(axes, quality.majority, drawn)
    if against is not SPARSITY:
        _label(axes, drawn, look)


def _draw_teacher(axes: Axes, teacher: Point, against: Against) -> None:
    """A line at its score, and where sparsity is not the axis, one at its size or at its speed, which is 1."""
    axes.axhline(teacher.score.mean, **TEACHER_LINE)
    if against is not SPARSITY:
        dense = teacher.x.mean if against in (STORED_SIZE, TOTAL_SIZE) else 1.0
        axes.axvline(dense, **TEACHER_LINE | {"linewidth": 0.7, "label": "_dense"})


def _draw_linear(axes: Axes, quality: Quality, look: dict[str, Look]) -> None:
    """A line at the score of the linear model, which has no encoder and so no sparsity."""
    for group in quality.groups:
        if group.plan == LINEAR and group.means["score"]:
            style: dict[str, Any] = {"color": look[LINEAR].colour, "linestyle": "-.", "linewidth": 1.2, "label": LINEAR}
            axes.axhline(group.means["score"].mean, **style)


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


def _label(axes: Axes, drawn: Sequence[Point], look: dict[str, Look]) -> None:
    """Write the targets of the students that are smaller than their teacher beside their points."""
    labels = [(point.label, look[point.plan].colour, point.x.mean, point.score.mean) for point in drawn if point.smaller]
    if not labels:
        return

    lines = []
    for plan in dict.fromkeys(point.plan for point in drawn if point.plan != TEACHER):
        lines.append([(point.x.mean, point.score.mean) for point in drawn if point.plan == plan])
    low, high = axes.get_xlim()
    lines += [[(low, point.score.mean), (high, point.score.mean)] for point in drawn if point.plan == TEACHER]
    place_labels(axes, labels, lines)


def draw_majority(axes: Axes, share: float, drawn: Sequence[Point]) -> None:
    """A line at the score of guessing the most frequent class.

    Where the line would lie so far under the results that it would flatten them, its value is written in a corner instead.
    """
    lowest, highest = axes.get_ylim()
    if share > lowest - (highest - lowest):
        axes.axhline(share, **GUESS_LINE)
        return

    # the lower corner on the side that is free of the worst result
    worst = min(drawn, key=lambda point: point.score.mean)
    to_axes = axes.transData - axes.transAxes
    left = to_axes.transform((worst.x.mean, worst.score.mean))[0] > 0.5
    style: dict[str, Any] = {
        "color": LIGHT["muted"],
        "fontsize": 8.5,
        "transform": axes.transAxes,
        "ha": "left" if left else "right",
    }
    axes.text(0.015 if left else 0.985, 0.025, f"↓ {GUESS_LINE['label']}: {share:.3f}", **style)


def scale_axis(axes: Axes, values: Sequence[float], against: Against) -> None:
    """A logarithmic axis where the values span a large factor, and an axis from zero where they hardly differ.

    Without zero, a difference within the noise of timings would fill the picture.
    """
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
    """Pictures for the page: scores against size, sparsity and speeds. They are single, so that they wrap on narrow screens."""
    size, *speeds = measured(quality)
    figures = []
    for against in (size, SPARSITY, *speeds):
        with canvas((4.6, 3.3)) as figure:
            draw_quality(figure.subplots(), quality, against, look)
            name = against.label if against in SPEEDS else against.label.split(",")[0].split(" (")[0]
            label = f"{quality.metric} against {name}, {quality.title}"
            figures.append(inline(figure, f"quality {against.column} {quality.title}", label))
    return figures


def quality_key(qualities: Sequence[Quality], look: dict[str, Look]) -> Iterator[tuple[str, str]]:
    """Picture and name of every line in these panels."""
    plans = [group.plan for quality in qualities for group in quality.groups if group.plan != TEACHER]
    guess = any(quality.majority is not None for quality in qualities)
    return legend_entries(plans, [TEACHER_LINE, GUESS_LINE] if guess else [TEACHER_LINE], look)


def quality_file(qualities: Sequence[Quality], look: dict[str, Look]) -> str:
    """Score against sparsity, every base and task in one standalone picture."""
    columns = max(1, min(3, len(qualities)))
    rows = max(1, math.ceil(len(qualities) / columns))

    with canvas((4.6 * columns, 3.5 * rows + 0.6), LIGHT["page"]) as figure:
        grid = list(figure.subplots(rows, columns, squeeze=False).flatten())
        for axes, quality in zip(grid, qualities, strict=False):
            draw_quality(axes, quality, SPARSITY, look)
            axes.set_title(quality.title)

        return finish_figure(figure, grid[: len(qualities)], grid[len(qualities) :], "quality")


def size_file(qualities: Sequence[Quality], look: dict[str, Look]) -> str:
    """Score against stored size and measured speed, a row for each base and task, in one standalone picture."""
    columns = max([1, *(len(measured(quality)) for quality in qualities)])

    with canvas((4.4 * columns, 3.4 * max(1, len(qualities)) + 0.6), LIGHT["page"]) as figure:
        rows = figure.subplots(max(1, len(qualities)), columns, squeeze=False)
        drawn = []
        for row, quality in zip(rows, qualities, strict=False):
            for axes, against in zip(row, measured(quality), strict=False):
                draw_quality(axes, quality, against, look)
                axes.set_title(quality.title)
                drawn.append(axes)

        empty = [axes for axes in rows.flatten() if axes not in drawn]
        return finish_figure(figure, drawn, empty, "size")
