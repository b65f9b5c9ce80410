"""How figures look and how they are saved: drawn once with matplotlib, shown on a light or a dark page.

Every colour is a role. Standalone files carry the light colour; inside the page it becomes a CSS variable of the same
role, which has a value for light and one for dark. Text stays text, so it takes the page's font.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D, Bbox

from espalier.config.project import TEACHER

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
TEACHER_LINE: dict[str, Any] = {"color": LIGHT["ink"], "linestyle": "--", "linewidth": 1.1, "label": "teacher, mean"}
GUESS_LINE: dict[str, Any] = {"color": LIGHT["muted"], "linestyle": ":", "linewidth": 1.4, "label": "most frequent class"}

_STYLE: dict[Any, Any] = {
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


def line_style(look: Look) -> dict[str, Any]:
    """How the line of a plan is drawn wherever a score stands against something."""
    edge = {"markersize": 7.5, "markeredgecolor": LIGHT["page"], "markeredgewidth": 0.6}
    return {"color": look.colour, "marker": look.marker, "linewidth": 1.6, **edge}


ERROR_BARS: dict[str, Any] = {"elinewidth": 1.1, "capsize": 2.5}
"""How far seeds are apart, on such a line."""


def swatch(style: dict[str, Any], name: str) -> str:
    """A short piece of the line of this name, for a legend in the page's own text."""
    with canvas((0.42, 0.17)) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.plot([0, 0.5, 1], [0, 0, 0], markevery=[1], **{key: value for key, value in style.items() if key != "label"})
        axes.set(xlim=(-0.05, 1.05), ylim=(-1, 1))
        axes.set_axis_off()
        return inline(figure, f"swatch {name}", "").replace('role="img" aria-label=""', 'aria-hidden="true"')


def variables(dark: bool) -> dict[str, str]:
    """CSS variable of each role → colour."""
    series = {f"series-{place}": pair[dark] for place, pair in enumerate(SERIES)}
    return {f"--{role}": colour for role, colour in ((DARK if dark else LIGHT) | series).items()}


def legend(figure: Figure, grid: Sequence[Axes]) -> int:
    """Plans first, then the reference lines, below the panels; returns the number of rows it takes."""
    found: dict[str, Any] = {}
    for axes in grid:
        handles, labels = axes.get_legend_handles_labels()
        found = dict(zip(labels, handles, strict=True)) | found
    if not found:
        return 0
    names = sorted(found, key=lambda name: name in (TEACHER_LINE["label"], GUESS_LINE["label"]))
    columns = _columns(names, 72 * figure.get_figwidth())
    figure.legend([found[name] for name in names], names, loc="outside lower center", ncols=columns)
    return math.ceil(len(names) / columns)


def legend_entries(plans: Iterable[str], lines: Iterable[dict[str, Any]], look: dict[str, Look]) -> Iterator[tuple[str, str]]:
    """Picture and name of plans and of other lines, for a legend in the page's own text."""
    for plan in dict.fromkeys(plans):
        yield swatch(line_style(look[plan]), plan), plan
    for line in lines:
        yield swatch(line, line["label"]), line["label"]


def finish(figure: Figure, named: Sequence[Axes], empty: Sequence[Axes], salt: str) -> str:
    """Hide the panels that nothing was drawn in, name the lines of others, and save the picture."""
    for axes in empty:
        axes.set_axis_off()
    legend(figure, named)
    return svg(figure, salt)


def _columns(names: Sequence[str], width: float) -> int:
    """The most legend columns that fit into `width` points, as matplotlib fills them: column by column."""
    for columns in range(len(names), 1, -1):
        if sum(40 + 5.0 * max(map(len, part)) for part in np.array_split(np.array(names), columns)) <= width:
            return columns
    return 1


def place_labels(
    axes: Axes, labels: Sequence[tuple[str, str, float, float]], lines: Sequence[Sequence[tuple[float, float]]]
) -> None:
    """Write texts beside points: on the side where least is drawn, and not at all where another text would be covered.

    Args:
        axes: with its final limits.
        labels: text, colour and place of each.
        lines: what else is drawn: the corners of each line.
    """
    to_points = axes.transData + Affine2D().scale(72 / axes.get_figure(root=True).dpi)
    drawn = np.concatenate([_along(to_points.transform(line)) for line in lines])
    taken: list[Bbox] = []
    for text, colour, *place in labels:
        boxes = _boxes(to_points.transform(place), 4.8 * len(text))
        free = {side: box for side, box in boxes.items() if not box.count_overlaps(taken)}
        if free:
            side = min(free, key=lambda side: free[side].count_contains(drawn))
            taken.append(free[side])
            align = {0: "center", 7: "left", -7: "right"}[side[0]]
            axes.annotate(text, (place[0], place[1]), side, textcoords="offset points", ha=align, fontsize=7.5, color=colour)


def _boxes(place: np.ndarray, width: float) -> dict[tuple[int, int], Bbox]:
    """Offset in points → what a text of this width covers there: above, below, right, left of a place."""
    begins = {(0, 6): -width / 2, (0, -13): -width / 2, (7, -3): 7.0, (-7, -3): -7.0 - width}
    return {side: Bbox.from_bounds(place[0] + left, place[1] + side[1], width, 8.0) for side, left in begins.items()}


def _along(corners: np.ndarray) -> np.ndarray:
    """Points along a line, corners included."""
    steps = np.linspace(0.0, 1.0, 40)[:, None]
    return np.concatenate([corners, *(begin + steps * (end - begin) for begin, end in pairwise(corners))])


@contextmanager
def canvas(size: tuple[float, float], background: str = "none") -> Iterator[Figure]:
    """An empty figure of `size` inches in the style of the report; without a background it takes the page's."""
    with mpl.rc_context(_STYLE):
        yield Figure(figsize=size, layout="constrained", facecolor=background)


def svg(figure: Figure, salt: str) -> str:
    """The same bytes for the same data: ids from a fixed salt, no date, no version."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Format", "Type", "Creator", "Date")))
    return re.sub(r'(<g) id="[^"]*"', r"\1", buffer.getvalue())


def inline(figure: Figure, salt: str, label: str) -> str:
    """An svg element for the page: colours become variables, size is left to the page."""
    text = svg(figure, salt)
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
