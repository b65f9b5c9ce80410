"""What linear models differ in between kinds of task: the estimator, how its strength is chosen, and how it is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier

from espalier.config.data import SELECTION
from espalier.config.kinds import KIND_RULES
from espalier.evaluation.label_sets import as_sets, chosen_thresholds, label_set_score
from espalier.evaluation.metrics import score
from espalier.evaluation.ranking import groups_for, ranking_score

LinearKind = Literal["classification", "multilabel", "ranking", "regression"]
"""Kinds of task that a linear model can answer."""
INVERSE_STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""What cross-validation chooses from: C of logistic regression; ridge regression's alpha is 1 / C."""
FOLDS = 5
MOST_ITERATIONS = 2000


def fewest_rows(values: np.ndarray, kind: LinearKind) -> int:
    """Rows of the rarest class, or of all where a row has not exactly one class."""
    return int(np.unique(values, return_counts=True)[1].min()) if kind == "classification" else len(values)


def chosen_estimator(rows: sp.csr_matrix, values: np.ndarray, kind: LinearKind, queries: np.ndarray | None) -> BaseEstimator:
    """The estimator with the strength that cross-validation prefers; not fitted yet.

    Args:
        rows: features.
        values: class or number of each row; 0 and 1 of each class for multilabel.
        kind: of the task.
        queries: of each row, where there are queries: no fold tears the rows of one.
    """
    folds = max(2, min(FOLDS, fewest_rows(values, kind)))
    splitter: Any = KFold(folds)
    if kind == "classification":
        splitter = StratifiedKFold(folds)
    elif queries is not None and len(set(queries)) > 1:
        splitter = GroupKFold(min(FOLDS, len(set(queries))))

    if kind in ("regression", "ranking"):
        estimator, grid = Ridge(solver="sparse_cg", max_iter=MOST_ITERATIONS), {"alpha": [1.0 / c for c in INVERSE_STRENGTHS]}
    else:
        estimator, grid = LogisticRegression(max_iter=MOST_ITERATIONS), {"C": list(INVERSE_STRENGTHS)}
    if kind == "multilabel":
        estimator, grid = OneVsRestClassifier(estimator), {f"estimator__{name}": values for name, values in grid.items()}

    # A tie is won by the first value, which is the strongest regularisation.
    scoring = _micro_f1 if kind == "multilabel" else None
    search = GridSearchCV(estimator, grid, cv=splitter, refit=False, scoring=scoring).fit(rows, values, groups=queries)
    return estimator.set_params(**search.best_params_)


def _micro_f1(estimator: OneVsRestClassifier, rows: sp.csr_matrix, values: np.ndarray) -> float:
    """F1 of all decisions together at the best threshold, as for encoders; strength and threshold belong together."""
    probabilities = estimator.predict_proba(rows)
    sets = as_sets(probabilities, chosen_thresholds(probabilities, values, "global"))
    return label_set_score("micro-f1", values, sets)


def inverse_strength(estimator: Any) -> float:
    """The C of logistic regression; 1 / alpha of ridge regression."""
    if isinstance(estimator, Ridge):
        return 1.0 / estimator.alpha
    return getattr(estimator, "estimator", estimator).C


def stored_numbers(estimator: Any) -> int:
    """Coefficients and intercepts, of all models where there is one a class."""
    parts = estimator.estimators_ if isinstance(estimator, OneVsRestClassifier) else [estimator]
    # a class that every row has is a constant, without coefficients
    return sum(np.size(getattr(part, "coef_", ())) + np.size(getattr(part, "intercept_", 0.0)) for part in parts)


def linear_answers(estimator: Any, rows: sp.csr_matrix) -> np.ndarray:
    """One value a row, or for multilabel the probability of every class."""
    return estimator.predict_proba(rows) if isinstance(estimator, OneVsRestClassifier) else estimator.predict(rows)


def scores_of(
    card: Mapping[str, Any], evaluation: Mapping[str, Sequence[Any]], answers: np.ndarray
) -> dict[str, dict[str, float]]:
    """Evaluation set → metric → score, for all metrics of the kind; F1 of single classes is that of two classes.

    Args:
        card: task.json.
        evaluation: columns of evaluation.parquet.
        answers: what `linear_answers` gave for its rows.
    """
    sets = np.array(evaluation["set"])
    known = KIND_RULES[card["kind"]].metrics
    chosen = {name: np.flatnonzero(sets == name) for name in card["sets"]}

    if card["kind"] == "multilabel":
        # thresholds come from the held-out training rows, as they do for encoders
        labels, held_out = np.array(evaluation["labels"]), sets == SELECTION
        thresholds = chosen_thresholds(answers[held_out], labels[held_out], evaluation["thresholds"][0])
        predicted = as_sets(answers, thresholds)
        return {
            name: {metric: label_set_score(metric, labels[rows], predicted[rows]) for metric in known}
            for name, rows in chosen.items()
        }

    labels = np.array(evaluation["label"])
    if card["kind"] == "ranking":
        queries = np.array(evaluation["query"], dtype=object)
        result = {}
        for name, rows in chosen.items():
            groups = {metric: groups_for(metric, queries[rows]) for metric in known}
            ranked = {metric: (answers[rows], labels[rows], own) for metric, own in groups.items() if own}
            result[name] = {metric: ranking_score(metric, *given) for metric, given in ranked.items()}
        return result

    metrics = [name for name in known if name != "f1" or len(card["classes"]) == 2]
    return {name: {metric: score(metric, labels[rows], answers[rows]) for metric in metrics} for name, rows in chosen.items()}
