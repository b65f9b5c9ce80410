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

OF_LANGUAGES = {"mlqa-f1": "squad-f1", "mlqa-exact-match": "exact-match"}
"""Metrics that count words as the language of an evaluation set has them → the same for English as SQuAD's script has it."""
MLQA_LANGUAGES = ("ar", "de", "en", "es", "hi", "vi", "zh")
"""Languages that such metrics know."""


def language_of(name: str) -> str:
    """The language of an evaluation set, which its name ends with: test-de and de are German. Training rows, some of which may
    be set apart as `selection`, are English."""
    return "en" if name == "selection" else name.rpartition("-")[2]


def _problem(task: Any) -> str | None:
    """Metrics that only such tasks have."""
    named = [metric for metric in task.metrics if metric in OF_NO_ANSWER]
    if named and not task.no_answer:
        return f"metric {named[0]} is for questions without an answer; write no_answer: true, or leave it out"

    spoken = [metric for metric in task.metrics if metric in OF_LANGUAGES]
    if spoken and task.no_answer:
        other = OF_LANGUAGES[spoken[0]]
        return f"metric {spoken[0]} is for questions that all have an answer; leave no_answer out, or use {other}"
    if spoken and (strange := [name for name in task.evaluation_sets if language_of(name) not in MLQA_LANGUAGES]):
        said = f"metric {spoken[0]} reads the language of an evaluation set from the end of its name, as in test-de"
        return f"{said}; got {strange[0]!r}; allowed: {', '.join(MLQA_LANGUAGES)}; or use {OF_LANGUAGES[spoken[0]]}"
    return None


RULES = TaskRules(
    metrics=("squad-f1", "exact-match", *OF_LANGUAGES, *OF_NO_ANSWER),
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
