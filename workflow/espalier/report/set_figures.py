"""Pictures of scores on each of the sets whose mean gives the score: a row for each set, such as a language."""

from __future__ import annotations

from matplotlib.axes import Axes

from espalier.config.project import TEACHER
from espalier.report.style import Look, canvas, inline, line_style
from espalier.results.by_set import BySet


def draw_sets(axes: Axes, shown: BySet, look: dict[str, Look]) -> None:
    """A mark for each plan's smallest models in the row of each set, the first set on top; bars are the spread over seeds."""
    for line in shown.drawn:
        known = [(mean, row) for row, mean in enumerate(line.means) if mean is not None]
        style = line_style(look[line.plan]) | {"linewidth": 0.8, "linestyle": "--" if line.plan == TEACHER else "-"}
        values, bars = [mean.mean for mean, _ in known], [mean.bar for mean, _ in known]
        axes.errorbar(values, [row for _, row in known], xerr=bars, label=line.label, elinewidth=1.1, capsize=2.5, **style)

    axes.set_yticks(range(len(shown.sets)), shown.sets)
    axes.invert_yaxis()
    axes.margins(y=0.06)
    axes.set_xlabel(shown.metric)


def set_figure(shown: BySet, look: dict[str, Look]) -> str:
    """The picture for the page."""
    with canvas((4.6, 1.1 + 0.26 * len(shown.sets))) as figure:
        axes = figure.subplots()
        draw_sets(axes, shown, look)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return inline(figure, f"sets {shown.title}", f"{shown.metric} on each evaluation set, {shown.title}")
