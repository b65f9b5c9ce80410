"""Ranking: how well a text answers a query, for texts of many queries; a cross-encoder with one output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from espalier.config.kinds.rules import UNUSED, TaskRules

XGLUE_NDCG = "xglue-ndcg"
"""nDCG as XGLUE's script computes it (evaluation/ranking.py)."""
FIRST_TEXTS = (1, 3, 5, 10, 20, 100)
"""Numbers of first texts at which a metric may look."""


def _head(classes: Sequence[str] | None) -> dict[str, Any]:
    """One output. So named, transformers' own pipeline gives the score as it is."""
    return {"num_labels": 1, "problem_type": "regression"}


def _problem(task: Any) -> str | None:
    """What is wrong with the keys that this kind has of its own; None if nothing."""
    if task.query is not None and task.query == task.label:
        return f"query: got {task.query!r}, which is also the column of the labels; name the column that tells queries apart"
    if task.unlabelled and task.loss == "pairwise":
        return (
            "unlabelled: loss pairwise fills batches with whole queries, among which texts without grades have no place; write "
            "loss: pointwise, or leave unlabelled out"
        )
    return None


RULES = TaskRules(
    metrics=(*(f"{name}{cut}" for name in ("ndcg", "mrr") for cut in ("", *(f"@{cut}" for cut in FIRST_TEXTS))), XGLUE_NDCG),
    own=("query", "loss"),
    problem=_problem,
    no_linear="",
    no_unlabelled="",
    row_per_text=True,
    text_columns=(2, 3, 4),
    columns="two to four columns, the query first",
    defaults={"loss": "pointwise"},
    refused=("classes", *UNUSED),
    pipeline="text-ranking",
    head=_head,
)
