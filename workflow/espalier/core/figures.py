"""The figures: drawn once with matplotlib, shown on a light or a dark page.

Every colour is a role. Standalone files carry the light colour; inside the page it becomes a CSS variable of the same
role, which has a value for light and one for dark. Text stays text, so it takes the page's font.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from espalier.core.curves import Curves, Line, Panel
from espalier.core.results import TEACHER
from espalier.core.summary import Group

LIGHT = {"page": "#fdfdfc", "ink": "#1d2329", "muted": "#5c6670", "line": "#d5dade"}
DARK = {"page": "#14181c", "ink": "#e6e9ec", "muted": "#9aa5b0", "line": "#323a42"}
SERIES = (
    ("#1f5fb4", "#74abff"),
    ("#b85400", "#f2a24f"),
    ("#0b7d6e", "#4fcab6"),
    ("#a8327a", "#f08fc6"),
    ("#7f6500", "#d8c14d"),
    ("#6747b5", "#b7a3ff"),
    ("#b3261e", "#ff8d84"),
    ("#47606b", "#a9c3cf"),
)
"""Light and dark colour of a series. At least 4.5:1 against their page; shapes differ too, so colour never decides alone."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
LOG_FROM = 50.0
"""A loss term that falls by this factor is drawn on a logarithmic axis."""

_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.titlecolor": LIGHT["ink"],
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.6,
    "text.color": LIGHT["ink"],
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "legend.frameon": False,
    "axes.formatter.useoffset": False,
}


class Look(NamedTuple):
    """Colour and marker of a plan, the same all over the page."""

    colour: str
    marker: str


def looks(plans: Sequence[str]) -> dict[str, Look]:
    """One look a plan; the teacher is drawn in ink."""
    students = [plan for plan in plans if plan != TEACHER]
    chosen = {plan: Look(SERIES[place % len(SERIES)][0], MARKERS[place % len(MARKERS)]) for place, plan in enumerate(students)}
    return {TEACHER: Look(LIGHT["ink"], "o"), **chosen}


def variables(dark: bool) -> dict[str, str]:
    """CSS variable of each role → colour."""
    series = {f"series-{place}": pair[dark] for place, pair in enumerate(SERIES)}
    return {f"--{role}": colour for role, colour in ((DARK if dark else LIGHT) | series).items()}


class Quality(NamedTuple):
    """What a panel of score against sparsity shows."""

    title: str
    metric: str
    groups: list[Group]
    majority: float | None
    """Score of guessing the most frequent class; None where the metric is not accuracy."""


def draw_quality(axes: Axes, quality: Quality, look: dict[str, Look]) -> None:
    """Score against measured encoder sparsity: a line a plan, error bars over seeds, the teacher, the guess."""
    scored = [(group.plan, group.means["sparsity_encoder"], group.means["score"]) for group in quality.groups]
    points = [(plan, 100 * sparsity.mean, score) for plan, sparsity, score in scored if sparsity and score]
    for plan in dict.fromkeys(plan for plan, _, _ in points if plan != TEACHER):
        own = [(x, score) for other, x, score in points if other == plan]
        axes.errorbar(
            [x for x, _ in own],
            [score.mean for _, score in own],
            yerr=[math.nan if score.sd is None else score.sd for _, score in own],
            label=plan,
            color=look[plan].colour,
            marker=look[plan].marker,
            **{"markersize": 7.5, "markeredgecolor": LIGHT["page"], "markeredgewidth": 0.6},
            **{"linewidth": 1.6, "elinewidth": 1.1, "capsize": 2.5},
        )
    for level in [score.mean for plan, _, score in points if plan == TEACHER]:
        axes.axhline(level, color=LIGHT["ink"], linestyle="--", linewidth=1.1, label="teacher, mean")
    if quality.majority is not None:
        _draw_majority(axes, quality.majority)
    axes.set_title(quality.title)
    axes.set_xlabel("encoder sparsity, measured (%)")
    axes.set_ylabel(quality.metric)
    axes.margins(x=0.06)


def _draw_majority(axes: Axes, share: float) -> None:
    """A line, unless it lies so far under the results that showing it would flatten them: then its value as text."""
    lowest, highest = axes.get_ylim()
    label = "most frequent class"
    if share > lowest - (highest - lowest):
        axes.axhline(share, color=LIGHT["muted"], linestyle=":", linewidth=1.4, label=label)
    else:
        axes.text(0.015, 0.025, f"↓ {label}: {share:.3f}", color=LIGHT["muted"], fontsize=8.5, transform=axes.transAxes)


def draw_panel(axes: Axes, panel: Panel, curves: Curves, look: Look) -> None:
    """One logged quantity over the steps of a path: a thin line a seed, a thick one for the mean, recoveries dashed."""
    for bundle in _bundles(panel.lines):
        several = len(bundle) > 1
        style: dict[str, Any] = {"color": look.colour, "linestyle": (0, (3, 1.5)) if bundle[0].recovery else "-"}
        if panel.is_score:
            style |= {"marker": look.marker, "markersize": 3.5}
        for line in bundle:
            thin = {"linewidth": 0.8, "alpha": 0.35, "marker": ""} if several else {"linewidth": 1.4}
            axes.plot(line.steps, line.values, **style | thin)
        if several:
            axes.plot(*_mean_line(bundle), **style | {"linewidth": 1.6})
    if not panel.is_score and _spans_decades(panel.lines):
        axes.set_yscale("log")
    axes.set_xlim(-0.02 * curves.last_step, 1.02 * curves.last_step)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("step")
    _draw_borders(axes, curves)


def _draw_borders(axes: Axes, curves: Curves) -> None:
    """A line where a stage ends, its target above it."""
    begin = 0.0
    for percent, end in curves.borders:
        if end < curves.last_step:
            axes.axvline(end, color=LIGHT["muted"], linewidth=0.9)
        if len(curves.borders) > 1:
            style = {"ha": "center", "va": "bottom", "fontsize": 8, "color": LIGHT["muted"]}
            axes.text((begin + end) / 2, 1.01, f"{percent} %", transform=axes.get_xaxis_transform(), **style)
        begin = end


def _panel_title(axes: Axes, title: str, curves: Curves) -> None:
    axes.set_title(title, fontsize=9, pad=15 if len(curves.borders) > 1 else 6)


def _bundles(lines: Sequence[Line]) -> list[list[Line]]:
    """Lines that differ in their seed alone."""
    keys = dict.fromkeys((line.percent, line.recovery) for line in lines)
    return [[line for line in lines if (line.percent, line.recovery) == key] for key in keys]


def _mean_line(lines: Sequence[Line]) -> tuple[list[float], list[float]]:
    """Means at the steps that every seed has logged."""
    values = [dict(zip(line.steps, line.values, strict=True)) for line in lines]
    common = sorted(set.intersection(*(set(each) for each in values)))
    return common, [fmean(each[step] for each in values) for step in common]


def _spans_decades(lines: Sequence[Line]) -> bool:
    values = [value for line in lines for value in line.values]
    return min(values) > 0 and max(values) / min(values) > LOG_FROM


def quality_figure(quality: Quality, look: dict[str, Look]) -> str:
    """One panel for the page."""
    with _figure((5.0, 3.3)) as figure:
        axes = figure.subplots()
        draw_quality(axes, quality, look)
        figure.set_figheight(3.3 + 0.2 * _legend(figure, [axes]))
        return _inline(figure, f"quality {quality.title}", f"{quality.metric} against encoder sparsity, {quality.title}")


def panel_figures(curves: Curves, look: dict[str, Look]) -> list[str]:
    """The panels of one base, task and plan for the page, one picture each so that they wrap on narrow screens."""
    found = []
    for panel in curves.panels:
        with _figure((3.7, 2.5)) as figure:
            axes = figure.subplots()
            draw_panel(axes, panel, curves, look[curves.plan])
            _panel_title(axes, panel.name, curves)
            place = f"{curves.base} {curves.task} {curves.plan} {panel.name}"
            found.append(_inline(figure, f"training {place}", f"{panel.name} over training steps, {curves.plan}"))
    return found


def quality_file(qualities: Sequence[Quality], look: dict[str, Look]) -> str:
    """All panels in one standalone picture."""
    columns = max(1, min(3, len(qualities)))
    rows = max(1, math.ceil(len(qualities) / columns))
    with _figure((4.6 * columns, 3.5 * rows + 0.6), LIGHT["page"]) as figure:
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, quality in zip(grid, qualities, strict=False):
            draw_quality(axes, quality, look)
        for axes in grid[len(qualities) :]:
            axes.set_axis_off()
        _legend(figure, list(grid[: len(qualities)]))
        return _svg(figure, "quality")


def training_file(found: Sequence[Curves], look: dict[str, Look]) -> str:
    """A row for each base, task and plan and a column for each quantity, in one standalone picture."""
    columns = max([1, *(len(curves.panels) for curves in found)])
    rows = max(1, len(found))
    with _figure((3.4 * columns, 2.3 * rows + 0.3), LIGHT["page"]) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flatten():
            axes.set_axis_off()
        for row, curves in zip(grid, found, strict=False):
            for axes, panel in zip(row, curves.panels, strict=False):
                axes.set_axis_on()
                draw_panel(axes, panel, curves, look[curves.plan])
                _panel_title(axes, f"{curves.base} · {curves.task} · {curves.plan}\n{panel.name}", curves)
        return _svg(figure, "training")


def _legend(figure: Figure, grid: Sequence[Axes]) -> int:
    """Plans first, then the reference lines, below the panels; returns the number of rows it takes."""
    found: dict[str, Any] = {}
    for axes in grid:
        handles, labels = axes.get_legend_handles_labels()
        found = dict(zip(labels, handles, strict=True)) | found
    if not found:
        return 0
    names = sorted(found, key=lambda name: name.startswith(("teacher, mean", "most frequent class")))
    columns = _columns(names, 72 * figure.get_figwidth())
    figure.legend([found[name] for name in names], names, loc="outside lower center", ncols=columns)
    return math.ceil(len(names) / columns)


def _columns(names: Sequence[str], width: float) -> int:
    """The most legend columns that fit into `width` points, as matplotlib fills them: column by column."""
    for columns in range(len(names), 1, -1):
        if sum(40 + 5.0 * max(map(len, part)) for part in np.array_split(np.array(names), columns)) <= width:
            return columns
    return 1


@contextmanager
def _figure(size: tuple[float, float], background: str = "none") -> Iterator[Figure]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained", facecolor=background)
        yield figure


def _svg(figure: Figure, salt: str) -> str:
    """The same bytes for the same data: ids from a fixed salt, no date, no version."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Format", "Type", "Creator", "Date")))
    return re.sub(r'(<g) id="[^"]*"', r"\1", buffer.getvalue())


def _inline(figure: Figure, salt: str, label: str) -> str:
    """An svg element for the page: colours become variables, size is left to the page."""
    text = _svg(figure, salt)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text[text.index("<svg") :], flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', text)
    assert box, "matplotlib writes a viewBox"
    head = f'<svg {box[0]} role="img" aria-label="{_attribute(label)}" xmlns="http://www.w3.org/2000/svg" '
    text = re.sub(r"<svg[^>]*>", lambda _: head + 'xmlns:xlink="http://www.w3.org/1999/xlink">', text, count=1)
    for name, colour in variables(dark=False).items():
        text = text.replace(colour, f"var({name})")
    return text


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
