"""Pictures of the findings of analyses: numbers against sparsity, errors of layers, training beside held-out rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from espalier.report.style import (
    ERROR_BARS,
    LIGHT,
    TEACHER_LINE,
    Look,
    canvas,
    finish_figure,
    inline,
    legend_entries,
    line_style,
)
from espalier.report.training_figures import draw_panel, panel_title
from espalier.results.curves import Curves, Panel
from espalier.results.findings import DIFFERENCES, GAPS, REPRESENTATIONS, Errors, Findings, Noise
from espalier.results.fractions import Fractions
from espalier.results.summary import target_label

PANEL_INCHES = (4.3, 3.0)
"""Width and height of one panel."""
PANELS_ABREAST = 4
"""Panels side by side in the standalone picture."""
ZERO_LINE = {**TEACHER_LINE, "linewidth": 0.8, "linestyle": "-", "label": "_"}
MARK_LINE = {**ZERO_LINE, "linestyle": ":"}


def draw_values(axes: Axes, values: pd.DataFrame, look: dict[str, Look], scale: float = 1.0) -> None:
    """A line for each plan over `scale` times x: means over seeds with their standard deviation.

    Args:
        axes: where to draw.
        values: table with the columns `results.findings.VALUE_COLUMNS`.
        look: of every plan.
        scale: factor of x.
    """
    for plan, own in values.groupby("plan", sort=False):
        seeds = own.sort_values("x", kind="stable").groupby("group", sort=False)
        means = seeds[["x", "value"]].mean()
        # pandas has no standard deviation for one seed, which is drawn without a bar
        deviations = seeds["value"].std().fillna(0.0)
        axes.errorbar(
            scale * means["x"], means["value"], yerr=deviations, label=plan, **line_style(look[str(plan)]), **ERROR_BARS
        )
    axes.margins(x=0.06)


def draw_errors(axes: Axes, errors: Errors, look: Look) -> None:
    """Bars for each layer's own error at the teacher's input, and a line for the error with the student's input."""
    names = ["emb", *map(str, range(1, len(errors.local)))]
    axes.bar(names, errors.local, color=look.colour, alpha=0.45, label="own, at the teacher’s input")
    axes.plot(names, errors.accumulated, **line_style(look), label="accumulated")

    # room for the legend
    axes.margins(y=0.3)
    axes.set(xlabel="layer", ylim=(0.0, None))
    axes.grid(axis="x", visible=False)
    axes.legend(fontsize=7.5, loc="upper left")
    axes.set_title(f"{errors.plan}, {target_label(errors.percent)}", fontsize=9)


class Picture(NamedTuple):
    """One panel, for the page and for the standalone file."""

    name: str
    """Salt of the ids in its SVG, so that two pictures on one page share none."""
    label: str
    """What it shows, as text for screen readers."""
    draw: Callable[[Axes], None]
    by_plan: bool = True
    """Whether its lines are told apart by their plan alone."""

    def inline(self) -> str:
        """The picture as an SVG element for the page."""
        with canvas(PANEL_INCHES) as figure:
            self.draw(figure.subplots())
            return inline(figure, self.name, self.label)


def value_pictures(findings: Findings, look: dict[str, Look]) -> Iterator[Picture]:
    """Class separability and noise against sparsity; noise from layer to layer."""
    yield from _against_sparsity(findings, REPRESENTATIONS, look)

    for percent in dict.fromkeys(noise.percent for noise in findings.noise):
        own = [noise for noise in findings.noise if noise.percent == percent]
        label = f"signal-to-noise ratio of layers, {target_label(percent)}, {findings.title}"
        yield Picture(f"noise {percent} {findings.title}", label, partial(draw_noise, own=own, look=look))


def gap_pictures(findings: Findings, look: dict[str, Look]) -> Iterator[Picture]:
    """Pictures of overfitting: gaps at the end of each stage against sparsity, and both kinds of rows along training."""
    yield from _against_sparsity(findings, GAPS, look)

    for curves in findings.curves:
        for panel in curves.overfitting:
            label = f"{panel.name} on training and on held-out rows over training steps, {curves.plan}, {findings.title}"
            draw = partial(draw_steps, curves=curves, panel=panel, marks=curves.turns, look=look[curves.plan])
            yield Picture(f"overfitting {findings.title} {curves.plan} {panel.name}", label, draw, by_plan=False)


def recovery_pictures(findings: Findings, look: dict[str, Look]) -> Iterator[Picture]:
    """The score along training, with the removals after which it comes back."""
    for curves in (curves for curves in findings.curves if curves.recoveries):
        for panel in (panel for panel in curves.panels if panel.kind == "score"):
            label = f"{panel.name} over training steps and removals, {curves.plan}, {findings.title}"
            draw = partial(draw_steps, curves=curves, panel=panel, marks=curves.removals, look=look[curves.plan])
            yield Picture(f"recovery {findings.title} {curves.plan}", label, draw, by_plan=False)


def error_pictures(findings: Findings, look: dict[str, Look]) -> Iterator[Picture]:
    """Errors of layers for each plan and target, and the score that students lost against their last layer's error."""
    for errors in findings.errors:
        place = f"{errors.plan}, {target_label(errors.percent)}, {findings.title}"
        draw = partial(draw_errors, errors=errors, look=look[errors.plan])
        yield Picture(f"errors {place}", f"relative errors of layers, {place}", draw, by_plan=False)

    if len(findings.lost) > 1:
        label = f"score lost against the last layer’s error, {findings.title}"
        yield Picture(f"lost {findings.title}", label, partial(draw_lost, findings=findings, look=look))


def fraction_pictures(fractions: Fractions, look: dict[str, Look]) -> Iterator[Picture]:
    """The overfitting gaps against the number of training rows."""
    for key, title in GAPS.items():
        draw = partial(draw_fractions, key=key, fractions=fractions, look=look)
        yield Picture(f"fractions {key} {fractions.title}", f"{title} against training rows, {fractions.title}", draw)


def analyses_file(findings: Sequence[Findings], fractions: Sequence[Fractions], look: dict[str, Look]) -> str:
    """All pictures of findings and fractions in one standalone picture, with base and task above every panel."""
    pictures: list[tuple[str, Picture]] = []
    for finding in findings:
        for kind in (value_pictures, error_pictures, recovery_pictures, gap_pictures):
            pictures += [(finding.title, picture) for picture in kind(finding, look)]
    for part in fractions:
        pictures += [(part.title, picture) for picture in fraction_pictures(part, look)]

    columns = max(1, min(PANELS_ABREAST, len(pictures)))
    rows = max(1, math.ceil(len(pictures) / columns))
    width, height = PANEL_INCHES
    with canvas((width * columns, (height + 0.2) * rows + 0.4), LIGHT["page"]) as figure:
        grid = list(figure.subplots(rows, columns, squeeze=False).flatten())
        for axes, (title, picture) in zip(grid, pictures, strict=False):
            picture.draw(axes)
            panel_title(axes, f"{title}\n{axes.get_title('left')}")

        named = [axes for axes, (_, picture) in zip(grid, pictures, strict=False) if picture.by_plan]
        return finish_figure(figure, named, grid[len(pictures) :], "analyses")


def _against_sparsity(findings: Findings, titles: dict[str, str], look: dict[str, Look]) -> Iterator[Picture]:
    for key, title in titles.items():
        if key in findings.values:
            draw = partial(draw_against_sparsity, key=key, findings=findings, look=look)
            yield Picture(f"analysis {key} {findings.title}", f"{title} against encoder sparsity, {findings.title}", draw)


def draw_against_sparsity(axes: Axes, key: str, findings: Findings, look: dict[str, Look]) -> None:
    """One number of the students, and the teacher's where the teacher has one."""
    draw_values(axes, findings.values[key], look, scale=100.0)
    axes.set_xlabel("encoder sparsity, measured (%)")
    if key in findings.teacher:
        axes.axhline(findings.teacher[key], **TEACHER_LINE)
    if key in DIFFERENCES:
        axes.axhline(0.0, **ZERO_LINE)
    axes.set_title((REPRESENTATIONS | GAPS)[key], fontsize=9)


def draw_noise(axes: Axes, own: Sequence[Noise], look: dict[str, Look]) -> None:
    """A line for each plan from the first layer to the last."""
    for noise in own:
        axes.plot(range(1, len(noise.decibels) + 1), noise.decibels, label=noise.plan, **line_style(look[noise.plan]))

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="layer", ylabel="dB")
    axes.set_title(f"signal-to-noise ratio of layers, {target_label(own[0].percent)}", fontsize=9)


def draw_steps(axes: Axes, curves: Curves, panel: Panel, marks: Sequence[float], look: Look) -> None:
    """A panel of training curves, with dotted lines at some steps."""
    draw_panel(axes, panel, curves, look)
    for step in marks:
        axes.axvline(step, **MARK_LINE)
    panel_title(axes, f"{curves.plan}: {panel.name}")


def draw_fractions(axes: Axes, key: str, fractions: Fractions, look: dict[str, Look]) -> None:
    """A gap against the number of training rows, a line for each plan."""
    draw_values(axes, fractions.values[key], look)
    if key in DIFFERENCES:
        axes.axhline(0.0, **ZERO_LINE)

    axes.set(xlabel="training rows, logarithmic", xscale="log")
    rows = sorted(fractions.values[key]["x"].unique())
    axes.set_xticks(rows, [f"{count:,.0f}" for count in rows])
    axes.minorticks_off()
    axes.set_title(GAPS[key], fontsize=9)


def draw_lost(axes: Axes, findings: Findings, look: dict[str, Look]) -> None:
    """A point for each student, in the colour and shape of its plan."""
    for plan, own in findings.lost.groupby("plan", sort=False):
        style = line_style(look[str(plan)]) | {"linewidth": 0.0}
        axes.plot(own["error"], own["score"], label=plan, **style)

    axes.axhline(0.0, **ZERO_LINE)
    axes.set(xlabel="accumulated error of the last layer", ylabel=f"{findings.metric} below the teacher’s")
    axes.set_title("error and score, a point a student", fontsize=9)


def findings_key(findings: Sequence[Findings], look: dict[str, Look]) -> Iterator[tuple[str, str]]:
    """Picture and name of every line or point that is told apart by its plan."""
    plans: list[str] = []
    for finding in findings:
        for values in finding.values.values():
            plans += values["plan"].tolist()
        plans += [noise.plan for noise in finding.noise]
        plans += finding.lost["plan"].tolist()

    teacher = any(finding.teacher for finding in findings)
    return legend_entries(plans, [TEACHER_LINE] if teacher else [], look)
