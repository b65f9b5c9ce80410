"""Multilabel: none, one or several of the named classes for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from espalier.config.kinds import classification
from espalier.config.kinds.rules import UNUSED, TaskRules

FLAT = (".csv", ".tsv")
"""Formats without lists."""


def _head(classes: Sequence[str] | None) -> dict[str, Any]:
    """One output a class, each a yes or no of its own."""
    return {**classification.RULES.head(classes), "problem_type": "multi_label_classification"}


def _problem(task: Any) -> str | None:
    """What is wrong with the keys that this kind has of its own; None if nothing."""
    if not task.label and not task.classes:
        return "kind multilabel needs label, a column of lists, or classes, which without label are columns of 0 and 1"
    if task.separator is not None and not task.label:
        return "separator is for one column of labels; without label every class has a column of 0 and 1"
    if task.thresholds != "half" and not task.holdout:
        return (
            f"thresholds: {task.thresholds} chooses on training rows that are held out, and holdout is {task.holdout}; "
            "write a holdout above 0, or thresholds: half"
        )
    if task.source == "files" and task.label and task.separator is None:
        flat = next((path for path in (task.train, *task.evaluation_sets.values()) if _is_flat(path)), None)
        if flat:
            allowed = "name the sign between labels as separator, or leave label out where every class has a column of 0 and 1"
            return f"file {flat!r} cannot hold lists; {allowed}"
    return None


def _is_flat(path: Any) -> bool:
    return PurePosixPath(str(path)).suffix in FLAT


RULES = TaskRules(
    metrics=("micro-f1", "macro-f1", "subset-accuracy"),
    named_classes=True,
    needed=("metric",),
    own=("separator", "thresholds"),
    problem=_problem,
    no_linear="",
    no_unlabelled="",
    row_per_text=True,
    text_columns=(1, 2, 3, 4),
    columns="one to four columns",
    defaults={"thresholds": "global", "holdout": 0.1},
    refused=UNUSED,
    decides=True,
    head=_head,
)
