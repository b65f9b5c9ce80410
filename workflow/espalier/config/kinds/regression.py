"""Regression: a real number for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from espalier.config.kinds.rules import UNUSED, TaskRules


def _head(classes: Sequence[str] | None) -> dict[str, Any]:
    """One output."""
    return {"num_labels": 1, "problem_type": "regression"}


RULES = TaskRules(
    metrics=("pearson", "spearman"),
    analysed=True,
    no_linear="",
    no_unlabelled="",
    refused=("classes", *UNUSED),
    head=_head,
)
