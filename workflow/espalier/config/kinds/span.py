"""Span: questions whose answers stand in a context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from espalier.config.kinds.rules import TaskRules


def _head(classes: Sequence[str] | None) -> dict[str, Any]:
    """Two outputs a token: for the start and for the end of the answer."""
    return {"num_labels": 2}


RULES = TaskRules(
    metrics=("squad-f1", "exact-match"),
    no_linear="its answers are places in a context",
    no_unlabelled="its answers are places in a context, so a text alone is no row",
    text_columns=(2,),
    columns="two columns, question and context",
    # csv and tsv cannot hold lists of answers
    formats=(".parquet", ".jsonl"),
    # BERT's own for SQuAD (run_squad.py)
    defaults={"max_length": 384, "stride": 128, "max_answer_length": 30},
    refused=("classes", "evaluation_rows", "bio"),
    auto_class="AutoModelForQuestionAnswering",
    pipeline="question-answering",
    head=_head,
)
