"""The answer that the page begins with, as variables of its template: lines of tables, pictures, legends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from espalier.config.project import LINEAR, TEACHER
from espalier.report.pareto_figures import costs_of, pareto_figures, pareto_key
from espalier.report.style import Look
from espalier.results.answers import Answer, AnswerLine, form_label, model_label, score_of
from espalier.results.choosing import MeasuredBatch, pareto
from espalier.results.formats import batch_words
from espalier.results.quality import majority_of
from espalier.results.summary import size_text


def answer_parts(answer: Answer, look: dict[str, Look], majority: float | None) -> dict[str, Any]:
    """Everything that the template shows of one task.

    Args:
        answer: of the task.
        look: plan → colour and marker.
        majority: score of always answering the most frequent class; None where the metric is not accuracy.
    """
    own_rows = [timing for timing in answer.timings if timing.length == "rows"]
    lines = [_line(line, answer) for line in answer.lines]
    return {
        "answer": answer,
        "whole": _whole(answer.models),
        "shown": own_rows or answer.timings,
        "lines": [(rival, inside) for rival in (False, True) if (inside := [line for line in lines if line["rival"] is rival])],
        "every": [_line(AnswerLine((), model, False), answer) for _, model in answer.models.iterrows()],
        "majority": majority,
        "fronts": [(cost.name, list(_front(answer, cost.against.column))) for cost in costs_of(answer)],
        "pictures": [Markup(picture) for picture in pareto_figures(answer, look, majority)],
        "key": [entry._replace(picture=Markup(entry.picture)) for entry in pareto_key(answer, look, majority is not None)],
    }


def _line(line: AnswerLine, answer: Answer) -> dict[str, Any]:
    """A line of a table: the model, and how its columns are said."""
    model = line.model
    return {
        **line._asdict(),
        "label": model_label(model),
        "form": form_label(model),
        "score": score_of(model),
        "gain": None if answer.dense is None else float(model["score"]) - answer.dense,
    }


def _front(answer: Answer, column: str) -> Iterator[str]:
    """The models of a front in words, cheapest first."""
    for _, model in pareto(answer.models, column).iterrows():
        base = f" ({model['base']})" if len(answer.bases) > 1 and model["plan"] != LINEAR else ""
        cost = f"{size_text(model[column])} MiB" if column == "total_mib" else f"{model[column]:.2f} ms"
        yield f"{model_label(model)}{base} in {form_label(model)}, {model['score']:.3f} at {cost}"


def _whole(models: pd.DataFrame) -> float | None:
    """Total MiB of the dense model in PyTorch, the largest of several bases; None where it has no such format."""
    whole = models[(models["plan"] == TEACHER) & (models["format"] == "torch") & (models["folder"] == "compact")]
    return None if whole.empty else float(whole["total_mib"].max())


def majorities(answers: Sequence[Answer], tasks: Mapping[str, Any]) -> list[float | None]:
    """For each answer the score of always answering the most frequent class; None where the metric is not accuracy."""
    shares = [majority_of(tasks.get(answer.task, {}), answer.set) for answer in answers]
    return [share if answer.metric == "accuracy" else None for answer, share in zip(answers, shares, strict=True)]


def signed(value: float) -> str:
    """A difference of scores with its sign."""
    return f"{value:+.3f}".replace("-", "−") if round(value, 3) else "0.000"


def number(value: float, decimals: int) -> str:
    """A number with so many decimals; a dash where there is none."""
    return "–" if pd.isna(value) else f"{value:,.{decimals}f}".replace("-", "−")


def times(value: float) -> str:
    """A ratio with two digits at least: `0.95×`, `4.2×`, `31×`."""
    if pd.isna(value):
        return "–"
    return f"{value:.2f}×" if value < 1 else f"{value:.1f}×" if value < 10 else f"{value:,.0f}×"


def fraction(value: float) -> str:
    """A fraction in percent; a dash where there is none."""
    return "–" if pd.isna(value) else f"{100 * value:.1f} %"


def timed(timing: MeasuredBatch) -> str:
    """The kind of batches that were timed, as a heading."""
    return batch_words(timing.column.removeprefix("ms_"))
