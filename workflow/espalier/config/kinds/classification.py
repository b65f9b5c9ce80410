"""Classification: one of several named classes for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from espalier.config.kinds.rules import TaskRules


def _head(classes: Sequence[str] | None) -> dict[str, Any]:
    """One output a class."""
    names = list(classes or ())
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": "single_label_classification",
    }


RULES = TaskRules(
    metrics=("accuracy", "f1", "macro-f1", "matthews"),
    named_classes=True,
    analysed=True,
    no_linear="",
    no_unlabelled="",
    head=_head,
)
