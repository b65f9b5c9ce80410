"""Scores of predictions; the formulas are scikit-learn's and scipy's."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats
from sklearn import metrics as sk

METRIC_FUNCTIONS = {
    "accuracy": sk.accuracy_score,
    "f1": sk.f1_score,
    "macro-f1": lambda labels, predictions: sk.f1_score(labels, predictions, average="macro"),
    "matthews": sk.matthews_corrcoef,
    "pearson": lambda labels, predictions: stats.pearsonr(labels, predictions).statistic,
    "spearman": lambda labels, predictions: stats.spearmanr(labels, predictions).statistic,
}
"""Name of a metric in the configuration → its function of labels and predictions."""


def score(metric: str, labels: np.ndarray, predictions: np.ndarray) -> float:
    """A metric of class indices, or of real-valued predictions.

    A correlation with constant predictions is undefined; it counts as 0, as GLUE's own script does for Matthews.
    """
    if metric in ("pearson", "spearman") and np.ptp(predictions) == 0.0:
        return 0.0

    value = float(METRIC_FUNCTIONS[metric](labels, predictions))
    return 0.0 if math.isnan(value) else value
