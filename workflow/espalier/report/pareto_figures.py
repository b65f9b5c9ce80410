"""The Pareto picture: every model in every format, score against what it costs, and the front that no model beats.

A plan has its colour, a format its shape. Each point, its label and the front carry attributes in the SVG, by which the page's
script names points and filters them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from espalier.config.deployment.formats import FORMATS
from espalier.report.quality_figures import Against, Point, draw_majority, scale_axis
from espalier.report.style import GUESS_LINE, LIGHT, Element, Look, canvas, inline, legend, place_labels, svg, swatch
from espalier.results.answers import Answer, form_label, model_label, score_of
from espalier.results.choosing import MeasuredBatch, pareto
from espalier.results.formats import LINEAR_FORMAT
from espalier.results.summary import size_text

SHAPES: dict[str, str] = {
    **dict(zip(FORMATS, ("o", "s", "D", "^", "v"), strict=True)),
    LINEAR_FORMAT: "P",
}
"""Format → marker."""
FRONT_LINE: dict[str, Any] = {
    "color": LIGHT["muted"],
    "linewidth": 1.1,
    "drawstyle": "steps-post",
    "label": "no model is better",
}
MARKER_SIZE = 6.5


class Cost(NamedTuple):
    """What a score is drawn against."""

    against: Against
    name: str
    """The axis in words."""


def costs_of(answer: Answer) -> list[Cost]:
    """Total size, and the latency that counts, where one was measured."""
    costs = [Cost(Against("total_mib", 1.0, "total size (MiB)"), "total size")]
    if answer.timing:
        costs.append(Cost(Against(answer.timing.column, 1.0, f"latency (ms), {_timed(answer.timing)}"), "latency"))
    return costs


def _timed(timing: MeasuredBatch) -> str:
    return f"batch {timing.batch}, {'the task’s rows' if timing.length == 'rows' else f'{timing.length} tokens'}"


def model_words(model: pd.Series, answer: Answer) -> str:
    """A model in one format, as a sentence: name, score, size, latency, and whether it failed the guard."""
    base = f"{model['base']}, " if len(answer.bases) > 1 else ""
    score = score_of(model)
    spread = f" ± {score.sd:.3f}, n = {score.n}" if score.sd is not None else ""

    facts = [f"{answer.metric} {score.mean:.3f}{spread}", f"{size_text(model['total_mib'])} MiB"]
    if answer.timing and not pd.isna(model[answer.timing.column]):
        facts.append(f"{model[answer.timing.column]:.2f} ms at batch {answer.timing.batch}")
    if model["passed"] != "yes":
        facts.append(f"failed the guard, loses {model['drop']:.3f}")
    return f"{base}{model_label(model)}, {form_label(model)}: {'; '.join(facts)}"


def draw_pareto(
    axes: Axes, answer: Answer, against: Against, look: dict[str, Look], majority: float | None
) -> dict[str, Element]:
    """Draw every model as a point, and the front as stairs.

    Returns:
        gid of a point or the front → what its group in the SVG is given.
    """
    models = _with_cost(answer, against)
    front = pareto(models, against.column)
    elements = {"front": Element({"class": "front"})}
    axes.plot(front[against.column], front["score"], gid="front", **FRONT_LINE)
    for number, model in models.iterrows():
        place = ([model[against.column]], [model["score"]])
        axes.plot(*place, gid=f"point-{number}", **marker(model, look, number in front.index))
        elements[f"point-{number}"] = Element({"class": "point", **_data(model)}, model_words(model, answer))

    axes.set_xlabel(against.label)
    axes.set_ylabel(answer.metric)
    axes.margins(x=0.07, y=0.12)
    scale_axis(axes, list(models[against.column]), against)
    if majority is not None:
        draw_majority(axes, majority, [_point(model, against) for _, model in models.iterrows()])
    return elements


def _with_cost(answer: Answer, against: Against) -> pd.DataFrame:
    return answer.models.dropna(subset=[against.column, "score"])


def write_names(axes: Axes, answer: Answer, against: Against, look: dict[str, Look]) -> dict[str, Element]:
    """Write names beside points, where there is room: those of the front first, then of the other answers, each name once.

    Args:
        axes: after the layout of the figure is done.
        answer, against, look: as `draw_pareto` has them.

    Returns:
        gid of a name → what its group in the SVG is given.
    """
    models = _with_cost(answer, against)
    front = pareto(models, against.column)
    numbers = [number for number in (*front.index[::-1], *(line.model.name for line in answer.lines)) if number in models.index]

    # a name stands at the best of its formats; shapes tell which one that is
    named = models.loc[list(dict.fromkeys(numbers))]
    named = named[~named.apply(model_label, axis=1).duplicated()]
    places = [(model[against.column], model["score"]) for _, model in named.iterrows()]
    labels = [
        (model_label(model), look[model["plan"]].colour, *place)
        for (_, model), place in zip(named.iterrows(), places, strict=True)
    ]

    marks = list(zip(models[against.column], models["score"], strict=True))
    stairs = list(zip(front[against.column], front["score"], strict=True))
    lines = [[first, (second[0], first[1])] for first, second in pairwise(stairs)] or [marks]

    elements = {}
    for position, text in place_labels(axes, labels, lines, marks).items():
        text.set(gid=f"name-{named.index[position]}", in_layout=False, zorder=6)
        elements[text.get_gid()] = Element({"class": "name", **_data(named.iloc[position])})
    return elements


def _data(model: pd.Series) -> dict[str, str]:
    """Attributes by which the script finds what belongs to a model."""
    data = {"model": str(model.name), "plan": model["plan"], "format": model["format"], "passed": model["passed"]}
    return {f"data-{name}": value for name, value in data.items()}


def marker(model: pd.Series, look: dict[str, Look], front: bool) -> dict[str, Any]:
    """How the point of a model is drawn: hollow where it failed the guard, larger on the front."""
    style = format_style(model["format"], look[model["plan"]].colour, model["passed"] == "yes")
    return style | {"markersize": MARKER_SIZE + 2.0 * front, "zorder": 3 + front, "clip_on": False}


def format_style(name: str, colour: str, passed: bool = True) -> dict[str, Any]:
    """A format's marker in a colour."""
    edge = {"markeredgecolor": LIGHT["page"] if passed else colour, "markeredgewidth": 0.6 if passed else 1.2}
    return {
        "color": colour,
        "linestyle": "none",
        "marker": SHAPES[name],
        "markerfacecolor": colour if passed else "none",
        **edge,
    }


def plan_style(look: Look) -> dict[str, Any]:
    """How a legend shows a plan, whose shape says nothing: a short thick line in its colour."""
    return {"color": look.colour, "linewidth": 5.0, "marker": "", "solid_capstyle": "butt"}


def _point(model: pd.Series, against: Against) -> Point:
    cost = score_of(model)._replace(mean=float(model[against.column]))
    return Point(model["plan"], "", cost, score_of(model), False)


def pareto_figures(answer: Answer, look: dict[str, Look], majority: float | None) -> list[str]:
    """Pictures for the page: score against total size and against latency."""
    figures = []
    for against, name in costs_of(answer):
        with canvas((4.9, 3.5)) as figure:
            axes = figure.subplots()
            elements = draw_pareto(axes, answer, against, look, majority)
            figure.get_layout_engine().execute(figure)
            elements |= write_names(axes, answer, against, look)
            label = (
                f"{answer.metric} against {name}, {answer.task}: every model in every format; the table below has the numbers"
            )
            figures.append(inline(figure, f"pareto {against.column} {answer.task}", label, elements))
    return figures


class KeyEntry(NamedTuple):
    """An entry of the legend, by which points can be filtered."""

    picture: str
    name: str
    by: str
    """`plan` or `format`; empty for what is no filter."""


def pareto_key(answer: Answer, look: dict[str, Look], guess: bool) -> Iterator[KeyEntry]:
    """Plans by their colours, formats by their shapes, then what points and lines mean."""
    for plan in dict.fromkeys(answer.models["plan"]):
        yield KeyEntry(swatch(plan_style(look[plan]), f"{answer.task} {plan}"), plan, "plan")
    for name in dict.fromkeys(answer.models["format"]):
        yield KeyEntry(swatch(format_style(name, LIGHT["ink"]) | {"markersize": 8.0}, f"{answer.task} {name}"), name, "format")

    if (answer.models["passed"] != "yes").any():
        hollow = format_style("torch", LIGHT["ink"], passed=False) | {"markersize": 8.0}
        yield KeyEntry(swatch(hollow, f"{answer.task} failed"), "hollow: failed the guard", "")
    yield KeyEntry(swatch(FRONT_LINE | {"marker": ""}, f"{answer.task} front"), "front: no model is better", "")
    if guess:
        yield KeyEntry(swatch(GUESS_LINE, f"{answer.task} guess"), GUESS_LINE["label"], "")


def pareto_file(answers: Sequence[Answer], majorities: Sequence[float | None], look: dict[str, Look]) -> str:
    """Score against total size and latency, a row for each task, in one standalone picture."""
    columns = max([1, *(len(costs_of(answer)) for answer in answers)])
    with canvas((4.9 * columns, 3.5 * max(1, len(answers)) + 0.8), LIGHT["page"]) as figure:
        rows = figure.subplots(max(1, len(answers)), columns, squeeze=False)
        drawn: list[tuple[Axes, Answer, Against]] = []
        for row, answer, majority in zip(rows, answers, majorities, strict=False):
            for axes, cost in zip(row, costs_of(answer), strict=False):
                draw_pareto(axes, answer, cost.against, look, majority)
                axes.set_title(answer.task)
                drawn.append((axes, answer, cost.against))

        for label, style in _legend_styles(answers, look):
            rows[0][0].plot([], [], label=label, **style)
        panels = [axes for axes, *_ in drawn]
        for axes in rows.flatten():
            if axes not in panels:
                axes.set_axis_off()

        # names last: legend and titles take room from the panels
        legend(figure, panels)
        figure.get_layout_engine().execute(figure)
        for axes, answer, against in drawn:
            write_names(axes, answer, against, look)
        return svg(figure, "pareto")


def _legend_styles(answers: Sequence[Answer], look: dict[str, Look]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names in the legend: plans with their colours, formats with their shapes."""
    plans = dict.fromkeys(plan for answer in answers for plan in answer.models["plan"])
    yield from ((plan, plan_style(look[plan])) for plan in plans)
    formats = dict.fromkeys(name for answer in answers for name in answer.models["format"])
    yield from ((name, format_style(name, LIGHT["ink"])) for name in formats)
