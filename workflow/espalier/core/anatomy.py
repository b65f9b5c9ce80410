"""Pictures of what analyses found: numbers against sparsity, errors of layers, training beside held-out rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean, stdev

from matplotlib.axes import Axes

from espalier.core.figures import TEACHER_LINE, Look, canvas, inline, line_style, swatch
from espalier.core.findings import GAPS, REPRESENTATIONS, Errors, Findings, Value
from espalier.core.panels import draw_panel, panel_title
from espalier.core.summary import goal

SIZE = (4.3, 3.0)
ZERO_LINE = {**TEACHER_LINE, "linewidth": 0.8, "linestyle": "-", "label": "_"}


def draw_values(axes: Axes, values: Sequence[Value], look: dict[str, Look], teacher: float | None) -> None:
    """A line a plan over the measured sparsity, means over seeds with their standard deviation; the teacher dashed."""
    for plan in dict.fromkeys(value.plan for value in values):
        own = _seeds_by_target([value for value in values if value.plan == plan])
        axes.errorbar(
            [100 * fmean(value.sparsity for value in seeds) for seeds in own],
            [fmean(value.value for value in seeds) for seeds in own],
            yerr=[stdev(value.value for value in seeds) if len(seeds) > 1 else 0.0 for seeds in own],
            label=plan,
            **line_style(look[plan]),
            **{"elinewidth": 1.1, "capsize": 2.5},
        )
    if teacher is not None:
        axes.axhline(teacher, **TEACHER_LINE)
    axes.set_xlabel("encoder sparsity, measured (%)")
    axes.margins(x=0.06)


def _seeds_by_target(values: Sequence[Value]) -> list[list[Value]]:
    """The seeds of each target, in the order of sparsity."""
    percents = dict.fromkeys(value.percent for value in sorted(values, key=lambda value: value.sparsity))
    return [[value for value in values if value.percent == percent] for percent in percents]


def draw_errors(axes: Axes, errors: Errors, look: Look) -> None:
    """Bars for each layer's own error at the teacher's input, and a line for the error with the student's input."""
    names = ["emb", *map(str, range(1, len(errors.local)))]
    axes.bar(names, errors.local, color=look.colour, alpha=0.45, label="own, at the teacher’s input")
    axes.plot(names, errors.accumulated, **line_style(look), label="accumulated")
    axes.set(xlabel="layer", ylim=(0.0, None))
    axes.grid(axis="x", visible=False)
    axes.legend(fontsize=7.5)
    axes.set_title(f"{errors.plan}, {goal(errors.percent)}", fontsize=9)


def value_figures(found: Findings, look: dict[str, Look]) -> list[str]:
    """Class separability and noise, a picture each."""
    return list(_value_figures(found, REPRESENTATIONS, look))


def gap_figures(found: Findings, look: dict[str, Look]) -> list[str]:
    """How much better students know the rows that they were trained on: at the end against sparsity, and along training."""
    return [*_value_figures(found, GAPS, look), *_curves(found, look)]


def _value_figures(found: Findings, names: dict[str, str], look: dict[str, Look]) -> Iterator[str]:
    for key, said in names.items():
        if values := found.values.get(key):
            with canvas(SIZE) as figure:
                axes = figure.subplots()
                draw_values(axes, values, look, found.teacher.get(key))
                if key in GAPS:
                    axes.axhline(0.0, **ZERO_LINE)
                axes.set_title(said, fontsize=9)
                yield inline(figure, f"analysis {key} {found.title}", f"{said} against encoder sparsity, {found.title}")


def _curves(found: Findings, look: dict[str, Look]) -> Iterator[str]:
    for curves in found.curves:
        for panel in curves.overfitting:
            with canvas(SIZE) as figure:
                axes = figure.subplots()
                draw_panel(axes, panel, curves, look[curves.plan])
                panel_title(axes, f"{curves.plan}: {panel.name}", curves)
                label = f"{panel.name} on training and on held-out rows over training steps, {curves.plan}, {found.title}"
                yield inline(figure, f"overfitting {found.title} {curves.plan} {panel.name}", label)


def error_figures(found: Findings, look: dict[str, Look]) -> Iterator[str]:
    """A picture for each plan and target."""
    for errors in found.errors:
        with canvas(SIZE) as figure:
            draw_errors(figure.subplots(), errors, look[errors.plan])
            place = f"{errors.plan}, {goal(errors.percent)}, {found.title}"
            yield inline(figure, f"errors {place}", f"relative errors of layers, {place}")


def findings_key(found: Sequence[Findings], look: dict[str, Look]) -> Iterator[tuple[str, str]]:
    """Picture and name of every line in the pictures against sparsity."""
    for plan in dict.fromkeys(value.plan for each in found for values in each.values.values() for value in values):
        yield swatch(line_style(look[plan]), plan), plan
    if any(each.teacher for each in found):
        yield swatch(TEACHER_LINE, TEACHER_LINE["label"]), TEACHER_LINE["label"]
