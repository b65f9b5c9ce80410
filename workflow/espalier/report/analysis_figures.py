"""Pictures of what analyses found: numbers against sparsity, errors of layers, training beside held-out rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import fmean, stdev
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from espalier.report.style import ERROR_BARS, LIGHT, TEACHER_LINE, Look, canvas, finish, inline, legend_entries, line_style
from espalier.report.training_figures import draw_panel, panel_title
from espalier.results.curves import Curves, Panel
from espalier.results.findings import DIFFERENCES, GAPS, REPRESENTATIONS, Errors, Findings, Noise, Value
from espalier.results.fractions import Fractions
from espalier.results.summary import goal

SIZE = (4.3, 3.0)
COLUMNS = 4
"""Panels side by side in the standalone picture."""
ZERO_LINE = {**TEACHER_LINE, "linewidth": 0.8, "linestyle": "-", "label": "_"}
MARK_LINE = {**ZERO_LINE, "linestyle": ":"}


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
    axes.margins(y=0.3)  # room for the legend
    axes.set(xlabel="layer", ylim=(0.0, None))
    axes.grid(axis="x", visible=False)
    axes.legend(fontsize=7.5, loc="upper left")
    axes.set_title(f"{errors.plan}, {goal(errors.percent)}", fontsize=9)


class Picture(NamedTuple):
    """One panel, for the page and for the standalone file."""

    name: str
    """Makes its ids differ from those of others."""
    label: str
    """What it shows, for those who do not see it."""
    draw: Callable[[Axes], None]
    by_plan: bool = True
    """Whether its lines are told apart by their plan alone."""

    def inline(self) -> str:
        """For the page."""
        with canvas(SIZE) as figure:
            self.draw(figure.subplots())
            return inline(figure, self.name, self.label)


def value_pictures(found: Findings, look: dict[str, Look]) -> Iterator[Picture]:
    """Class separability and noise against sparsity; noise from layer to layer."""
    yield from _values(found, REPRESENTATIONS, look)
    for percent in dict.fromkeys(each.percent for each in found.noise):
        own = [each for each in found.noise if each.percent == percent]
        label = f"signal-to-noise ratio of layers, {goal(percent)}, {found.title}"
        yield Picture(f"noise {percent} {found.title}", label, partial(draw_noise, own=own, look=look))


def gap_pictures(found: Findings, look: dict[str, Look]) -> Iterator[Picture]:
    """How much better students know the rows that they were trained on: at the end against sparsity, and along training."""
    yield from _values(found, GAPS, look)
    for curves in found.curves:
        for panel in curves.overfitting:
            label = f"{panel.name} on training and on held-out rows over training steps, {curves.plan}, {found.title}"
            draw = partial(draw_steps, curves=curves, panel=panel, marks=curves.turns, look=look[curves.plan])
            yield Picture(f"overfitting {found.title} {curves.plan} {panel.name}", label, draw, by_plan=False)


def recovery_pictures(found: Findings, look: dict[str, Look]) -> Iterator[Picture]:
    """The score along training, with the removals after which it comes back."""
    for curves in (curves for curves in found.curves if curves.recoveries):
        for panel in (panel for panel in curves.panels if panel.kind == "score"):
            label = f"{panel.name} over training steps and removals, {curves.plan}, {found.title}"
            draw = partial(draw_steps, curves=curves, panel=panel, marks=curves.removals, look=look[curves.plan])
            yield Picture(f"recovery {found.title} {curves.plan}", label, draw, by_plan=False)


def error_pictures(found: Findings, look: dict[str, Look]) -> Iterator[Picture]:
    """One for each plan and target, and one of what the last layer's error goes with."""
    for errors in found.errors:
        place = f"{errors.plan}, {goal(errors.percent)}, {found.title}"
        draw = partial(draw_errors, errors=errors, look=look[errors.plan])
        yield Picture(f"errors {place}", f"relative errors of layers, {place}", draw, by_plan=False)
    if len(found.lost) > 1:
        label = f"score lost against the last layer’s error, {found.title}"
        yield Picture(f"lost {found.title}", label, partial(draw_lost, found=found, look=look))


def fraction_pictures(found: Fractions, look: dict[str, Look]) -> Iterator[Picture]:
    """The overfitting gaps against the number of training rows."""
    for key, said in GAPS.items():
        draw = partial(draw_fractions, key=key, found=found, look=look)
        yield Picture(f"fractions {key} {found.title}", f"{said} against training rows, {found.title}", draw)


def analyses_file(findings: Sequence[Findings], fractions: Sequence[Fractions], look: dict[str, Look]) -> str:
    """All of it in one standalone picture, with base and task above every panel."""
    kinds = (value_pictures, error_pictures, recovery_pictures, gap_pictures)
    pictures = [(each.title, picture) for each in findings for kind in kinds for picture in kind(each, look)]
    pictures += [(each.title, picture) for each in fractions for picture in fraction_pictures(each, look)]
    columns = max(1, min(COLUMNS, len(pictures)))
    rows = max(1, math.ceil(len(pictures) / columns))
    with canvas((SIZE[0] * columns, (SIZE[1] + 0.2) * rows + 0.4), LIGHT["page"]) as figure:
        grid = list(figure.subplots(rows, columns, squeeze=False).flatten())
        for axes, (title, picture) in zip(grid, pictures, strict=False):
            picture.draw(axes)
            panel_title(axes, f"{title}\n{axes.get_title('left')}")
        named = [axes for axes, (_, picture) in zip(grid, pictures, strict=False) if picture.by_plan]
        return finish(figure, named, grid[len(pictures) :], "analyses")


def _values(found: Findings, names: dict[str, str], look: dict[str, Look]) -> Iterator[Picture]:
    for key, said in names.items():
        if key in found.values:
            draw = partial(draw_against_sparsity, key=key, found=found, look=look)
            yield Picture(f"analysis {key} {found.title}", f"{said} against encoder sparsity, {found.title}", draw)


def draw_against_sparsity(axes: Axes, key: str, found: Findings, look: dict[str, Look]) -> None:
    """One number of students, and the teacher's where it has one."""
    draw_values(axes, found.values[key], look, scale=100.0)
    axes.set_xlabel("encoder sparsity, measured (%)")
    if key in found.teacher:
        axes.axhline(found.teacher[key], **TEACHER_LINE)
    if key in DIFFERENCES:
        axes.axhline(0.0, **ZERO_LINE)
    axes.set_title((REPRESENTATIONS | GAPS)[key], fontsize=9)


def draw_noise(axes: Axes, own: Sequence[Noise], look: dict[str, Look]) -> None:
    """A line a plan from the first layer to the last."""
    for each in own:
        axes.plot(range(1, len(each.decibels) + 1), each.decibels, label=each.plan, **line_style(look[each.plan]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="layer", ylabel="dB")
    axes.set_title(f"signal-to-noise ratio of layers, {goal(own[0].percent)}", fontsize=9)


def draw_steps(axes: Axes, curves: Curves, panel: Panel, marks: Sequence[float], look: Look) -> None:
    """A panel of training curves, with dotted lines at some steps."""
    draw_panel(axes, panel, curves, look)
    for step in marks:
        axes.axvline(step, **MARK_LINE)
    panel_title(axes, f"{curves.plan}: {panel.name}")


def draw_fractions(axes: Axes, key: str, found: Fractions, look: dict[str, Look]) -> None:
    """A gap, a line a plan, against the number of training rows."""
    draw_values(axes, found.values[key], look)
    if key in DIFFERENCES:
        axes.axhline(0.0, **ZERO_LINE)
    axes.set(xlabel="training rows, logarithmic", xscale="log")
    rows = sorted({value.x for value in found.values[key]})
    axes.set_xticks(rows, [f"{count:,.0f}" for count in rows])
    axes.minorticks_off()
    axes.set_title(GAPS[key], fontsize=9)


def draw_lost(axes: Axes, found: Findings, look: dict[str, Look]) -> None:
    """A point a student, by plan."""
    for plan in dict.fromkeys(each.plan for each in found.lost):
        own = [each for each in found.lost if each.plan == plan]
        style = line_style(look[plan]) | {"linewidth": 0.0}
        axes.plot([each.error for each in own], [each.score for each in own], label=plan, **style)
    axes.axhline(0.0, **ZERO_LINE)
    axes.set(xlabel="accumulated error of the last layer", ylabel=f"{found.metric} below the teacher’s")
    axes.set_title("error and score, a point a student", fontsize=9)


def findings_key(found: Sequence[Findings], look: dict[str, Look]) -> Iterator[tuple[str, str]]:
    """Picture and name of every line or point that is told apart by its plan."""
    groups: list[Any] = [group for each in found for group in (*each.values.values(), each.noise, each.lost)]
    plans = [part.plan for group in groups for part in group]
    return legend_entries(plans, [TEACHER_LINE] * any(bool(each.teacher) for each in found), look)
