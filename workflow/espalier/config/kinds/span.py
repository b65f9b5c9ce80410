"""Span: questions whose answers stand in a context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from espalier.config.kinds.rules import TaskRules


def _head(classes: Sequence[str] | None) -> dict[str, Any]:
    """Two outputs a token: for the start and for the end of the answer."""
    return {"num_labels": 2}


OF_NO_ANSWER = ("has-answer-f1", "has-answer-exact-match", "no-answer-accuracy", "best-f1", "best-exact-match")
"""Metrics of tasks with questions that have no answer."""


def _problem(task: Any) -> str | None:
    """Metrics that only such tasks have."""
    named = [metric for metric in task.metrics if metric in OF_NO_ANSWER]
    if named and not task.no_answer:
        return f"metric {named[0]} is for questions without an answer; write no_answer: true, or leave it out"
    return None


RULES = TaskRules(
    metrics=("squad-f1", "exact-match", *OF_NO_ANSWER),
    problem=_problem,
    no_linear="its answers are places in a context",
    no_unlabelled="its answers are places in a context, so a text alone is no row",
    text_columns=(2,),
    columns="two columns, question and context",
    # csv and tsv cannot hold lists of answers
    formats=(".parquet", ".jsonl"),
    # BERT's own for SQuAD (run_squad.py)
    defaults={"max_length": 384, "stride": 128, "max_answer_length": 30},
    own=("no_answer",),
    refused=("classes", "evaluation_rows", "template"),
    auto_class="AutoModelForQuestionAnswering",
    pipeline="question-answering",
    head=_head,
)
