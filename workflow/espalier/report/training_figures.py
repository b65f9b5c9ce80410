"""Pictures of training: what was logged over the steps of a path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from espalier.report.style import LIGHT, TEACHER_LINE, Look, canvas, inline, legend, legend_entries, svg
from espalier.results.comparisons import Comparison
from espalier.results.curves import COMPARED, DISCREPANCY, RATE, Curves, Line, Panel
from espalier.results.summary import target_label

LOG_FROM = 50.0
"""A loss term, or a panel declared so, whose values span this factor is drawn on a logarithmic axis."""
MARKS = 12
"""Approximate number of markers along a line that is compared with others."""
RECOVERY = (0, (3, 1.5))
"""Dash pattern of the line of a recovery."""
STROKES = ("-", (0, (1, 1)), (0, (3, 1.5)), (0, (5, 1, 1, 1)), (0, (5, 1, 1, 1, 1, 1)))
"""Dash patterns of the quantities that share a panel; no recovery is drawn there."""
TARGET: dict[str, Any] = {"color": LIGHT["ink"], "linestyle": (0, (4, 1.2)), "zorder": 1.9}


def draw_panel(axes: Axes, panel: Panel, curves: Curves, look: Look) -> None:
    """A thin line for each seed and a thick one for the mean; recoveries are dashed; several quantities have a legend."""
    for bundle in _bundles(panel.lines):
        several = len(bundle) > 1
        style = _style(panel, bundle[0], look)
        for line in bundle:
            thin = {"linewidth": 0.8, "alpha": 0.35, "marker": "", "label": "_"} if several else {"linewidth": 1.4}
            axes.plot(line.steps, line.values, **style | thin)
        if several:
            axes.plot(*_mean_line(bundle), **style | {"linewidth": 1.6})

    if (panel.kind == "loss" or panel.logarithmic) and _spans_decades(panel.lines):
        _logarithmic(axes)
    axes.set_xlim(-0.02 * curves.last_step, 1.02 * curves.last_step)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("step")
    axes.set_ylabel(panel.unit)
    _draw_borders(axes, curves)
    if len(panel.quantities) > 1:
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        axes.legend(handles.values(), handles.keys(), fontsize=7.5, handlelength=2.4, labelspacing=0.25)


def _style(panel: Panel, line: Line, look: Look) -> dict[str, Any]:
    if line.is_goal:
        return TARGET | {"label": line.quantity}
    if len(panel.quantities) > 1:
        drawn = list(dict.fromkeys(other.quantity for other in panel.lines if not other.is_goal))
        stroke = STROKES[drawn.index(line.quantity) % len(STROKES)]
        return {"color": look.colour, "linestyle": stroke, "label": line.quantity}
    style: dict[str, Any] = {"color": look.colour, "linestyle": RECOVERY if line.recovery else "-"}
    return style | ({"marker": look.marker, "markersize": 3.5} if panel.kind == "score" else {})


def _draw_borders(axes: Axes, curves: Curves) -> None:
    """A line where each stage but the last ends, and the stages' targets above the panel."""
    begin = 0.0
    for percent, end in curves.borders:
        if end < curves.last_step:
            axes.axvline(end, color=LIGHT["muted"], linewidth=0.9)
        if len(curves.borders) > 1:
            style: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 8, "color": LIGHT["muted"]}
            axes.text((begin + end) / 2, 1.01, target_label(percent), transform=axes.get_xaxis_transform(), **style)
        begin = end


def panel_title(axes: Axes, title: str) -> None:
    """Write the title of a panel, above the targets of the path where those have been drawn."""
    axes.set_title(title, fontsize=9, pad=15 if axes.texts else 6)


def _bundles(lines: Sequence[Line]) -> list[list[Line]]:
    """Lines in groups that differ only in their seed."""
    keys = dict.fromkeys((line.quantity, line.percent, line.recovery) for line in lines)
    return [[line for line in lines if (line.quantity, line.percent, line.recovery) == key] for key in keys]


def _mean_line(lines: Sequence[Line]) -> tuple[list[float], list[float]]:
    """Steps that every seed has logged, and the means over seeds there."""
    # with equal steps, values are matched by position: at removals a step is logged twice, before and after
    if all(line.steps == lines[0].steps for line in lines):
        return lines[0].steps, [fmean(seeds) for seeds in zip(*(line.values for line in lines), strict=True)]

    value_at = [dict(zip(line.steps, line.values, strict=True)) for line in lines]
    common = sorted(set.intersection(*(set(seed) for seed in value_at)))
    return common, [fmean(seed[step] for seed in value_at) for step in common]


def _spans_decades(lines: Sequence[Line]) -> bool:
    values = [value for line in lines for value in line.values]
    return min(values) > 0 and max(values) / min(values) > LOG_FROM


def _logarithmic(axes: Axes) -> None:
    """A logarithmic axis with plain numbers: powers of ten need formulas, which are switched off in these pictures."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(10.0, (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def panel_figures(curves: Curves, look: dict[str, Look]) -> list[str]:
    """Pictures of one base, task and plan for the page: one for each panel, so that they wrap on narrow screens."""
    figures = []
    for panel in curves.panels:
        with canvas((3.7, 2.5)) as figure:
            axes = figure.subplots()
            draw_panel(axes, panel, curves, look[curves.plan])
            panel_title(axes, panel.name)
            place = f"{curves.base} {curves.task} {curves.plan} {panel.name}"
            figures.append(inline(figure, f"training {place}", f"{panel.name} over training steps, {curves.plan}"))
    return figures


def training_file(plans: Sequence[Curves], look: dict[str, Look]) -> str:
    """One standalone picture: a row for each base, task and plan, and a column for each quantity."""
    columns = max([1, *(len(curves.panels) for curves in plans)])
    rows = max(1, len(plans))
    with canvas((3.4 * columns, 2.3 * rows + 0.3), LIGHT["page"]) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flatten():
            axes.set_axis_off()
        for row, curves in zip(grid, plans, strict=False):
            for axes, panel in zip(row, curves.panels, strict=False):
                axes.set_axis_on()
                draw_panel(axes, panel, curves, look[curves.plan])
                panel_title(axes, f"{curves.base} · {curves.task} · {curves.plan}\n{panel.name}")
        return svg(figure, "training")


def draw_comparison(axes: Axes, shown: Comparison, name: str, look: dict[str, Look]) -> None:
    """A colour for each plan: thin lines for seeds, a thick one for their mean. A line shows the teacher's loss."""
    every: list[Line] = []
    for curves in shown.curves:
        style: dict[str, Any] = {"color": look[curves.plan].colour, "linewidth": 1.6}
        own = [line for panel in curves.compared if panel.name == name for line in panel.lines]
        for bundle in _bundles(own):
            for line in bundle if len(bundle) > 1 else []:
                axes.plot(line.steps, line.values, **style | {"linewidth": 0.7, "alpha": 0.3})
            steps, values = _mean_line(bundle)
            marks: dict[str, Any] = {
                "marker": look[curves.plan].marker,
                "markersize": 4.5,
                "markevery": max(1, len(steps) // MARKS),
            }
            axes.plot(steps, values, label=curves.plan, **style, **marks)
            every += bundle

    if name == COMPARED[DISCREPANCY] and _spans_decades(every):
        _logarithmic(axes)
    if name == COMPARED["loss"] and shown.teacher_loss is not None:
        axes.axhline(shown.teacher_loss, **TEACHER_LINE)
    axes.set_ylim(bottom=0.0 if name == RATE[1] else None)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("step")
    if len({tuple(curves.borders) for curves in shown.curves}) == 1:
        _draw_borders(axes, shown.curves[0])
    panel_title(axes, name)


def comparison_figures(shown: Comparison, look: dict[str, Look]) -> Iterator[str]:
    """Pictures for the page, one for each quantity."""
    for name in shown.names:
        with canvas((4.3, 3.0)) as figure:
            draw_comparison(figure.subplots(), shown, name, look)
            label = f"{name} over training steps of {', '.join(curves.plan for curves in shown.curves)}, {shown.title}"
            yield inline(figure, f"distance {shown.title} {name}", label)


def comparison_key(compared: Sequence[Comparison], look: dict[str, Look]) -> Iterator[tuple[str, str]]:
    """Picture and name of every line in the comparisons."""
    plans = [curves.plan for shown in compared for curves in shown.curves]
    teacher = any(shown.teacher_loss is not None for shown in compared)
    return legend_entries(plans, [TEACHER_LINE] if teacher else [], look)


def distance_file(compared: Sequence[Comparison], look: dict[str, Look]) -> str:
    """One standalone picture: a row for each base and text task, and a column for each quantity."""
    columns = max(len(shown.names) for shown in compared)
    with canvas((4.2 * columns, 3.1 * len(compared) + 0.5), LIGHT["page"]) as figure:
        grid = figure.subplots(len(compared), columns, squeeze=False)
        for row, shown in zip(grid, compared, strict=True):
            for axes, name in zip(row, shown.names, strict=True):
                draw_comparison(axes, shown, name, look)
                panel_title(axes, f"{shown.title}\n{name}")
        legend(figure, list(grid.flatten()))
        return svg(figure, "distance")
