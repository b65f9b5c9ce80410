"""Pictures of what analyses found: numbers against sparsity, errors of layers, training beside held-out rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean, stdev

from matplotlib.axes import Axes

from espalier.core.figures import ERROR_BARS, TEACHER_LINE, Look, canvas, inline, line_style, swatch
from espalier.core.findings import GAPS, REPRESENTATIONS, Errors, Findings, Fractions, Value
from espalier.core.panels import draw_panel, panel_title
from espalier.core.summary import goal

SIZE = (4.3, 3.0)
ZERO_LINE = {**TEACHER_LINE, "linewidth": 0.8, "linestyle": "-", "label": "_"}
TURN_LINE = {**ZERO_LINE, "linestyle": ":"}


def draw_values(axes: Axes, values: Sequence[Value], look: dict[str, Look], scale: float = 1.0) -> None:
    """A line a plan over `scale` times x: means over seeds with their standard deviation."""
    for plan in dict.fromkeys(value.plan for value in values):
        own = _seeds_together([value for value in values if value.plan == plan])
        axes.errorbar(
            [scale * fmean(value.x for value in seeds) for seeds in own],
            [fmean(value.value for value in seeds) for seeds in own],
            yerr=[stdev(value.value for value in seeds) if len(seeds) > 1 else 0.0 for seeds in own],
            label=plan,
            **line_style(look[plan]),
            **ERROR_BARS,
        )
    axes.margins(x=0.06)


def _seeds_together(values: Sequence[Value]) -> list[list[Value]]:
    """The seeds of each group, in the order of x."""
    found = dict.fromkeys(value.group for value in sorted(values, key=lambda value: value.x))
    return [[value for value in values if value.group == group] for group in found]


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
                draw_values(axes, values, look, scale=100.0)
                axes.set_xlabel("encoder sparsity, measured (%)")
                if key in found.teacher:
                    axes.axhline(found.teacher[key], **TEACHER_LINE)
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
                for step in curves.turns:
                    axes.axvline(step, **TURN_LINE)
                panel_title(axes, f"{curves.plan}: {panel.name}", curves)
                label = f"{panel.name} on training and on held-out rows over training steps, {curves.plan}, {found.title}"
                yield inline(figure, f"overfitting {found.title} {curves.plan} {panel.name}", label)


def error_figures(found: Findings, look: dict[str, Look]) -> Iterator[str]:
    """A picture for each plan and target, and one of what the last layer's error goes with."""
    for errors in found.errors:
        with canvas(SIZE) as figure:
            draw_errors(figure.subplots(), errors, look[errors.plan])
            place = f"{errors.plan}, {goal(errors.percent)}, {found.title}"
            yield inline(figure, f"errors {place}", f"relative errors of layers, {place}")
    if len(found.lost) > 1:
        with canvas(SIZE) as figure:
            draw_lost(figure.subplots(), found, look)
            yield inline(figure, f"lost {found.title}", f"score lost against the last layer’s error, {found.title}")


def draw_lost(axes: Axes, found: Findings, look: dict[str, Look]) -> None:
    """A point a student, by plan."""
    for plan in dict.fromkeys(each.plan for each in found.lost):
        own = [each for each in found.lost if each.plan == plan]
        style = line_style(look[plan]) | {"linewidth": 0.0}
        axes.plot([each.error for each in own], [each.score for each in own], label=plan, **style)
    axes.axhline(0.0, **ZERO_LINE)
    axes.set(xlabel="accumulated error of the last layer", ylabel=f"{found.metric} below the teacher’s")
    axes.set_title("error and score, a point a student", fontsize=9)


def fraction_figures(found: Fractions, look: dict[str, Look]) -> Iterator[str]:
    """The overfitting gaps against the number of training rows."""
    for key, said in GAPS.items():
        with canvas(SIZE) as figure:
            axes = figure.subplots()
            draw_values(axes, found.values[key], look)
            axes.axhline(0.0, **ZERO_LINE)
            axes.set(xlabel="training rows, logarithmic", xscale="log")
            rows = sorted({value.x for value in found.values[key]})
            axes.set_xticks(rows, [f"{count:,.0f}" for count in rows])
            axes.minorticks_off()
            axes.set_title(said, fontsize=9)
            yield inline(figure, f"fractions {key} {found.title}", f"{said} against training rows, {found.title}")


def findings_key(found: Sequence[Findings], look: dict[str, Look]) -> Iterator[tuple[str, str]]:
    """Picture and name of every line or point that is told apart by its plan."""
    shown = [part for each in found for parts in (*each.values.values(), each.lost) for part in parts]
    for plan in dict.fromkeys(part.plan for part in shown):
        yield swatch(line_style(look[plan]), plan), plan
    if any(each.teacher for each in found):
        yield swatch(TEACHER_LINE, TEACHER_LINE["label"]), TEACHER_LINE["label"]
