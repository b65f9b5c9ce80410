"""Scores of sets of labels, and the thresholds that turn probabilities into such sets."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn import metrics as sk

HALF = 0.5
"""The threshold where nothing tells a better one."""

LABEL_SET_METRICS = {
    "micro-f1": lambda labels, predictions: sk.f1_score(labels, predictions, average="micro", zero_division=0.0),
    "macro-f1": lambda labels, predictions: sk.f1_score(labels, predictions, average="macro", zero_division=0.0),
    "subset-accuracy": sk.accuracy_score,
}
"""Name of a metric → its function of labels and predictions, both rows × classes of 0 and 1; the formulas are scikit-learn's. A
class that no row has and no prediction names has an F1 of 0."""

Rule = Literal["global", "class", "half"]


def chosen_thresholds(
    probabilities: Float[np.ndarray, "rows classes"], labels: Int[np.ndarray, "rows classes"], rule: Rule
) -> Float[np.ndarray, " classes"]:
    """The probability of each class from which on it counts as predicted.

    Source: Lipton et al. 2014, arXiv 1402.1892: the F1 of held-out rows decides. Ours: of equal ones the highest counts.

    Args:
        probabilities: of held-out rows.
        labels: of the same rows.
        rule: global is one number for all decisions together; class is one for each class, and the global one for classes that
            no held-out row has; half is 0.5.
    """
    count = probabilities.shape[1]
    if rule == "half" or not len(labels):
        return np.full(count, HALF)

    whole = best_threshold(probabilities.reshape(-1), labels.reshape(-1))
    if rule == "global":
        return np.full(count, whole)
    return np.array(
        [best_threshold(probabilities[:, own], labels[:, own]) if labels[:, own].any() else whole for own in range(count)]
    )


def best_threshold(probabilities: Float[np.ndarray, " decisions"], labels: Int[np.ndarray, " decisions"]) -> float:
    """The threshold with the largest F1: half way between two neighbouring probabilities; 0.5 where no label is 1."""
    if not labels.any():
        return HALF

    # F1 = 2 tp / (predicted + positive), for every number of predictions from the most probable one on.
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order].astype(np.float64)
    correct = np.cumsum(labels[order])
    f1 = 2.0 * correct / (np.arange(1, len(order) + 1) + correct[-1])

    # Equal probabilities are predicted together, so a threshold stands only where the next one is lower.
    lower = np.append(ordered[1:], 0.0)
    f1[ordered == lower] = -1.0
    best = int(f1.argmax())
    return float((ordered[best] + lower[best]) / 2.0)


def as_sets(
    probabilities: Float[np.ndarray, "rows classes"], thresholds: Float[np.ndarray, " classes"]
) -> Bool[np.ndarray, "rows classes"]:
    """Which classes are predicted."""
    return probabilities.astype(np.float64) >= thresholds


def label_set_score(metric: str, labels: Int[np.ndarray, "rows classes"], sets: Bool[np.ndarray, "rows classes"]) -> float:
    """A metric of predicted sets of labels."""
    return float(LABEL_SET_METRICS[metric](labels, sets.astype(np.int8)))
