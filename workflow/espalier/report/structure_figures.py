"""Structure maps: what structured students kept of every layer, a row for each target of a path."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from espalier.report.style import LIGHT, Look, canvas, inline, svg
from espalier.results.structures import ATTENTION, Part, Row, StructureMap
from espalier.results.summary import goal

NUMBERED = 8
"""Models of at most this many layers have the count written over each bar; in deeper ones there is no room."""
WIDTH = 0.36
"""Of a bar; the distance of two layers is 1."""
FAINT = 0.5
"""Opacity of the bars of FFN units."""


def draw_row(axes: Axes, row: Row, look: Look) -> None:
    """Two bars a layer, attention and FFN units, before the outline of what the base has; a dot for each of several seeds."""
    for layer, parts in enumerate(row.layers, start=1):
        for side, part in zip((-0.5, 0.5), parts, strict=True):
            _draw_part(axes, layer + side * (WIDTH + 0.04), part, look, 1.0 if side < 0 else FAINT)
            if len(row.layers) <= NUMBERED and not part.gone:
                axes.text(layer + side * (WIDTH + 0.04), 1.05, part.count, ha="center", fontsize=7, color=LIGHT["muted"])
    axes.set(xlim=(0.4, len(row.layers) + 0.6), ylim=(0.0, 1.16), xticks=range(1, len(row.layers) + 1), yticks=[])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0, labelsize=8)
    axes.set_title(goal(row.percent), fontsize=9.5, pad=5)
    axes.set_title(_note(row), fontsize=8, pad=5, loc="right", color=LIGHT["muted"])


def _draw_part(axes: Axes, place: float, part: Part, look: Look, opacity: float) -> None:
    if part.gone:
        axes.bar(place, 1.0, WIDTH, facecolor="none", edgecolor=LIGHT["muted"], linewidth=0.7, linestyle=(0, (2, 2)))
        axes.plot([place], [0.5], marker="x", markersize=5, markeredgewidth=1.1, color=LIGHT["muted"])
        return
    axes.bar(place, 1.0, WIDTH, color=LIGHT["line"], alpha=0.55)
    axes.bar(place, part.fraction, WIDTH, color=look.colour, alpha=opacity)
    if len(part.kept) > 1:
        heights = [kept / part.total for kept in part.kept]
        dots: dict[str, Any] = {
            "markersize": 3.2,
            "markerfacecolor": LIGHT["page"],
            "markeredgecolor": LIGHT["ink"],
            "markeredgewidth": 0.7,
        }
        axes.plot([place] * len(heights), heights, linestyle="", marker="o", clip_on=False, **dots)


def _note(row: Row) -> str:
    removed = f"removed {100 * fmean(row.sparsities):.1f} %"
    return f"{removed}, hidden {row.hidden.count} of {row.hidden.total:,}, n = {len(row.sparsities)}"


def _draw(figure: Figure | SubFigure, shown: StructureMap, look: dict[str, Look], percents: Sequence[str]) -> None:
    """Each target in its row, other rows empty; the layers are numbered below the last."""
    grid = dict(zip(percents, figure.subplots(len(percents), 1, squeeze=False)[:, 0], strict=True))
    for axes in grid.values():
        axes.set_axis_off()
    for row in shown.rows:
        axes = grid[row.percent]
        axes.set_axis_on()
        draw_row(axes, row, look[shown.plan])
        if row is shown.rows[-1]:
            axes.set_xlabel("layer")
        else:
            axes.set_xticklabels([])


def map_figure(shown: StructureMap, look: dict[str, Look]) -> str:
    """The map of one plan for the page."""
    with canvas((5.4, 0.35 + 1.15 * len(shown.rows))) as figure:
        _draw(figure, shown, look, [row.percent for row in shown.rows])
        label = f"{shown.rows[0].counted} and FFN units kept in each layer, {shown.title}"
        return inline(figure, f"structure {shown.title}", label)


def structure_file(found: Sequence[StructureMap], look: dict[str, Look]) -> str:
    """All maps in one standalone picture: a row for each base and task, a column for each plan; a note where there are none."""
    if not found:
        with canvas((5.2, 0.7), LIGHT["page"]) as figure:
            figure.text(0.5, 0.5, "No student of this study is structured.", ha="center", va="center", color=LIGHT["muted"])
            return svg(figure, "structure")
    places = list(dict.fromkeys((shown.base, shown.task) for shown in found))
    plans = list(dict.fromkeys(shown.plan for shown in found))
    removed = {row.percent: min(row.sparsities) for shown in found for row in shown.rows}
    percents = sorted(removed, key=lambda percent: removed[percent])
    with canvas((5.2 * len(plans), (0.7 + 1.15 * len(percents)) * len(places) + 0.4), LIGHT["page"]) as figure:
        parts = figure.subfigures(len(places), len(plans), squeeze=False)
        for shown in found:
            part = parts[places.index((shown.base, shown.task)), plans.index(shown.plan)]
            part.set_facecolor("none")
            part.suptitle(shown.title, fontsize=10)
            _draw(part, shown, look, percents)
        said = [text for kind, text in ATTENTION.items() if any(shown.rows[0].attention == kind for shown in found)]
        figure.legend(handles=_legend(" or ".join(said)), loc="outside lower center", ncols=3)
        return svg(figure, "structure")


def _legend(attention: str) -> list[Patch]:
    return [
        Patch(facecolor=LIGHT["ink"], label=f"{attention} kept"),
        Patch(facecolor=LIGHT["ink"], alpha=FAINT, label="FFN units kept"),
        Patch(facecolor="none", edgecolor=LIGHT["muted"], linestyle=(0, (2, 2)), label="×  sublayer gone"),
    ]
