"""How figures look and how they are saved: drawn once with matplotlib, shown on a light or a dark page.

Every colour has a role. Standalone files carry the light colour. Inside the page it becomes a CSS variable named after its
role, which has one value for light and one for dark. Text stays text, so it takes the page's font.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
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
"""Light and dark colour of a series. Each has a contrast of at least 4.5:1 against its page. Series differ in their markers,
too, so a reader never depends on colour alone."""
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


class Element(NamedTuple):
    """What a group of an SVG is given: the page's script and style find it by its attributes."""

    attributes: dict[str, str]
    title: str = ""
    """What it shows, in words; browsers show it under the pointer."""


def looks(plans: Sequence[str]) -> dict[str, Look]:
    """A look for each plan; the teacher is drawn in ink."""
    chosen = {TEACHER: Look(LIGHT["ink"], "o")}
    for place, plan in enumerate(plan for plan in plans if plan != TEACHER):
        chosen[plan] = Look(SERIES[place % len(SERIES)][0], MARKERS[place % len(MARKERS)])
    return chosen


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
    """Draw a legend below the panels, plans first, then the reference lines; returns its number of rows."""
    handle_of: dict[str, Any] = {}
    for axes in grid:
        handles, labels = axes.get_legend_handles_labels()
        # a name that several panels share keeps the line of the first panel
        handle_of = dict(zip(labels, handles, strict=True)) | handle_of
    if not handle_of:
        return 0

    names = sorted(handle_of, key=lambda name: name in (TEACHER_LINE["label"], GUESS_LINE["label"]))
    columns = _legend_columns(names, 72 * figure.get_figwidth())
    figure.legend([handle_of[name] for name in names], names, loc="outside lower center", ncols=columns)
    return math.ceil(len(names) / columns)


def legend_entries(plans: Iterable[str], lines: Iterable[dict[str, Any]], look: dict[str, Look]) -> Iterator[tuple[str, str]]:
    """Picture and name of plans and of other lines, for a legend in the page's own text."""
    for plan in dict.fromkeys(plans):
        yield swatch(line_style(look[plan]), plan), plan
    for line in lines:
        yield swatch(line, line["label"]), line["label"]


def finish_figure(figure: Figure, named: Sequence[Axes], empty: Sequence[Axes], salt: str) -> str:
    """Hide the `empty` panels, draw one legend for the `named` ones, and return the picture as SVG."""
    for axes in empty:
        axes.set_axis_off()
    legend(figure, named)
    return svg(figure, salt)


def _legend_columns(names: Sequence[str], width: float) -> int:
    """The largest number of legend columns that fit into `width` points; matplotlib fills them column by column."""
    for columns in range(len(names), 1, -1):
        # about 40 points for a line's picture and 5 for a letter
        widths = [40 + 5.0 * max(map(len, part)) for part in np.array_split(np.array(names), columns)]
        if sum(widths) <= width:
            return columns
    return 1


def place_labels(
    axes: Axes,
    labels: Sequence[tuple[str, str, float, float]],
    lines: Sequence[Sequence[tuple[float, float]]],
    marks: Sequence[tuple[float, float]] = (),
) -> dict[int, Annotation]:
    """Write texts beside points, where least is drawn; what would cover a text or a mark, or leave the panel, is left out.

    Args:
        axes: with its final limits.
        labels: text, colour, x and y of each label.
        lines: the other things that are drawn: the corners of each line, as (x, y).
        marks: points that no text may cover, as (x, y).

    Returns:
        Position of a label → its text in the picture, for those that were written.
    """
    # from data to points, 72 to the inch: text has its size in points
    points_per_pixel = Affine2D().scale(72 / axes.get_figure(root=True).dpi)
    to_points = axes.transData + points_per_pixel
    drawn = np.concatenate([_points_along(to_points.transform(line)) for line in lines])
    marked = [_around(mark) for mark in to_points.transform(marks)] if len(marks) else []

    # a little more than the panel itself, whose right edge has some room before the end of the picture
    panel = axes.get_window_extent().transformed(points_per_pixel).padded(4.0)
    taken = marked
    written = {}
    for number, (text, colour, *place) in enumerate(labels):
        # about 4.8 points for a letter
        boxes = _boxes(to_points.transform(place), 4.8 * len(text), _SIDES | _CORNERS if marked else _SIDES)
        free = {side: box for side, box in boxes.items() if not box.count_overlaps(taken) and _inside(box, panel)}
        if not free:
            continue

        side = min(free, key=lambda side: free[side].count_contains(drawn))
        taken.append(free[side])
        style: dict[str, Any] = {"ha": (_SIDES | _CORNERS)[side], "fontsize": 7.5, "color": colour}
        written[number] = axes.annotate(text, (place[0], place[1]), side, textcoords="offset points", **style)
    return written


def _inside(box: Bbox, panel: Bbox) -> bool:
    return bool(box.x0 >= panel.x0 and box.x1 <= panel.x1 and box.y0 >= panel.y0 and box.y1 <= panel.y1)


_SIDES = {(0, 6): "center", (0, -13): "center", (7, -3): "left", (-7, -3): "right"}
"""Where a text can stand: above, below, right and left of a point. Offset in points → its alignment."""
_CORNERS = {(5, 5): "left", (-5, 5): "right", (5, -12): "left", (-5, -12): "right"}
"""Further places where marks have to be avoided."""


def _boxes(place: np.ndarray, width: float, sides: Mapping[tuple[int, int], str]) -> dict[tuple[int, int], Bbox]:
    """Offset in points → the box that a text of this width covers there."""
    begins = {"center": -width / 2, "left": 0.0, "right": -width}
    return {
        side: Bbox.from_bounds(place[0] + side[0] + begins[align], place[1] + side[1], width, 8.0)
        for side, align in sides.items()
    }


def _around(mark: np.ndarray) -> Bbox:
    """The box that a marker covers, in points."""
    return Bbox.from_bounds(mark[0] - 3.5, mark[1] - 3.5, 7.0, 7.0)


def _points_along(corners: np.ndarray) -> np.ndarray:
    """Points along a line, corners included."""
    steps = np.linspace(0.0, 1.0, 40)[:, None]
    return np.concatenate([corners, *(begin + steps * (end - begin) for begin, end in pairwise(corners))])


@contextmanager
def canvas(size: tuple[float, float], background: str = "none") -> Iterator[Figure]:
    """An empty figure of `size` inches in the style of the report; without a background, the page shows through."""
    with mpl.rc_context(_STYLE):
        yield Figure(figsize=size, layout="constrained", facecolor=background)


def svg(figure: Figure, salt: str, elements: Mapping[str, Element] | None = None) -> str:
    """The figure as SVG text, without date and version, so that equal data give equal bytes.

    Args:
        figure: to be saved.
        salt: from which matplotlib makes ids; figures on one page need different ones.
        elements: gid of an artist → what its group in the SVG is given.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Format", "Type", "Creator", "Date")))
    given = elements or {}
    return re.sub(r'<g id="([^"]*)"( [^>]*)?>', lambda group: _group(given.get(group[1]), group[2] or ""), buffer.getvalue())


def _group(element: Element | None, more: str) -> str:
    """The beginning of a group, whose id is dropped."""
    if element is None:
        return f"<g{more}>"
    attributes = "".join(f' {name}="{_attribute(value)}"' for name, value in element.attributes.items())
    return f"<g{more}{attributes}>" + (f"<title>{_attribute(element.title)}</title>" if element.title else "")


def inline(figure: Figure, salt: str, label: str, elements: Mapping[str, Element] | None = None) -> str:
    """An svg element for the page: colours become CSS variables, and the page decides on the size.

    Args:
        figure, salt, elements: as `svg` takes them.
        label: the picture in words, for readers who hear the page.
    """
    text = svg(figure, salt, elements)

    # the page has its own style and size: drop matplotlib's style sheet and everything in the head but the viewBox
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
