"""Answers in SQuAD's form, checked against the contexts that they stand in."""

from __future__ import annotations

import pyarrow as pa

from espalier.config.blocks import shortened
from espalier.config.data import Task
from espalier.data.builtin.tasks import ANSWERS
from espalier.data.files import python_values
from espalier.data.labelled import SourceTable, column_of, refuse_first
from espalier.runtime.errors import UserError


def check_answers(source: SourceTable, task: Task, contexts: pa.ChunkedArray) -> pa.Array:
    """The answers, every one at its place in the context.

    Raises:
        UserError: a question has no answer where each needs one, or an answer does not stand where it is said to.
    """
    rows = python_values(source.place, task.label, column_of(source, task.label))
    problems = [
        answer_problem(answers, context, task.no_answer) for answers, context in zip(rows, contexts.to_pylist(), strict=True)
    ]
    refuse_first(source, task.label, pa.array([problem is not None for problem in problems]), problems.__getitem__)
    _refuse_unscored(source, task, [bool(answers["text"]) for answers in rows])
    return pa.array([{field.name: answers[field.name] for field in ANSWERS} for answers in rows], ANSWERS)


def _refuse_unscored(source: SourceTable, task: Task, answered: list[bool]) -> None:
    """Refuse rows to which a metric of questions with, or without, an answer could not be applied."""
    with_answer = [metric for metric in task.metrics if metric.startswith("has-answer")]
    without = [metric for metric in task.metrics if metric.startswith("no-answer")]
    for metrics, there, lacking in ((with_answer, any(answered), "an answer"), (without, not all(answered), "no answer")):
        if metrics and not there:
            place = f"{source.place}, column '{task.label}'"
            nothing = f"so {metrics[0]} has nothing to count; leave the metric out"
            raise UserError(f"{place}: none of {len(answered):,} questions has {lacking}, {nothing}")


def answer_problem(answers: object, context: str, none_allowed: bool) -> str | None:
    """What is wrong with the answers to one question, if anything; whether there may be none."""
    form = "{text: [...], answer_start: [...]}, two lists of equal length, starts in characters"
    if not isinstance(answers, dict) or not {"text", "answer_start"} <= answers.keys():
        return f"got {shortened(answers)}; needed: {form}"
    texts, starts = answers["text"], answers["answer_start"]
    if not (isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)):
        return f"got {shortened(answers)}; needed: {form}"
    if not texts and not none_allowed:
        return "got no answer; every question needs one, unless the task says no_answer: true (SQuAD v2)"
    problems = (_misplaced(text, start, context) for text, start in zip(texts, starts, strict=True))
    return next(filter(None, problems), None)


def _misplaced(text: object, start: object, context: str) -> str | None:
    if not isinstance(text, str) or not text.strip():
        return f"got the answer {shortened(text)}; some text is needed; rows whose answers are kept secret score nothing"
    if not isinstance(start, int) or isinstance(start, bool) or not 0 <= start < len(context):
        return f"got answer_start {shortened(start)}; allowed: 0 to {len(context) - 1}, a character of the context"
    there = context[start : start + len(text)]
    if there == text:
        return None
    if there.split() == text.split():
        differs = f"differs from the context {shortened(there)} at character {start} in white space"
        return f"the answer {shortened(text)} {differs}; write it as there"
    place = context.find(text)
    where = f"it stands at {place}" if place >= 0 else "it stands nowhere in the context"
    instead = f"where the context has {shortened(there)}; {where}"
    return f"the answer {shortened(text)} does not stand at character {start}, {instead}"
