"""Embedding: a vector for each text, learned from the vectors of the base itself, on texts without labels."""

from __future__ import annotations

from typing import Any

from espalier.config.kinds.rules import UNUSED, TaskRules

PAIR_METRICS = ("spearman", "pearson")
"""What sets of scored pairs are measured by: the correlation of cosines with scores."""
RECALLS = {f"recall-at-{count}": count for count in (1, 5, 10, 100)}
"""What retrieval sets are measured by → how many of the nearest texts are looked at."""


def metrics_of_set(task: Any, name: str) -> tuple[str, ...]:
    """The metrics of a task that one of its evaluation sets is measured by."""
    fitting = RECALLS if name in (task.retrieval or ()) else PAIR_METRICS
    return tuple(metric for metric in task.metrics if metric in fitting)


def _problem(task: Any) -> str | None:
    """What is wrong with the evaluation sets of a task, their columns and metrics."""
    retrieval, sets = task.retrieval or {}, list(task.evaluation_sets)
    if unknown := [name for name in retrieval if name not in sets]:
        return f"retrieval: got {unknown[0]!r}, which is no evaluation set; allowed: {', '.join(sets)}"
    if alike := [name for name, columns in retrieval.items() if len(set(columns)) < 2]:
        return f"retrieval.{alike[0]}: got {retrieval[alike[0]][0]!r} twice; needed: the column of queries and another one"

    pairs = [name for name in sets if name not in retrieval]
    if pairs and not (task.label and len(task.text) == 2):
        return (
            f"evaluation set {pairs[0]!r} has pairs of texts with a score, which needs label and two columns of text; "
            "a set of queries and their right texts is named under retrieval"
        )
    if task.label and not pairs:
        return f"label: got {task.label!r}, but every evaluation set is one of retrieval, which has no scores"

    if not metrics_of_set(task, sets[0]) or task.metric not in metrics_of_set(task, sets[0]):
        fitting = ", ".join(RECALLS if sets[0] in retrieval else PAIR_METRICS)
        return f"metric: got {task.metric!r}; the first evaluation set, {sets[0]!r}, is measured by one of {fitting}"
    if without := [name for name in sets if not metrics_of_set(task, name)]:
        fitting = ", ".join(RECALLS if without[0] in retrieval else PAIR_METRICS)
        return f"also: no metric fits the evaluation set {without[0]!r}; add one of {fitting}"
    if idle := [metric for metric in task.metrics if all(metric not in metrics_of_set(task, name) for name in sets)]:
        return f"also: got {idle[0]!r}, which fits no evaluation set; {', '.join(sets)} have the other form"
    return None


RULES = TaskRules(
    metrics=(*PAIR_METRICS, *RECALLS),
    vectors=True,
    no_linear="its models give vectors",
    no_unlabelled="",
    own=("retrieval",),
    needed=("metric",),
    text_columns=(1, 2),
    columns="one or two columns",
    refused=("classes", "holdout", "template", "mean", "counts", *UNUSED),
    auto_class="AutoModel",
    pipeline="sentence-similarity",
    # the whole model is the base's, its pooler too, which no vector depends on
    own_head=True,
    problem=_problem,
)
