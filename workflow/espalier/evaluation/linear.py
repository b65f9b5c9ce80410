"""A linear model on TF-IDF features: the score that an encoder has to beat to be worth its cost.

Features of a text: words and word pairs (1- to 2-grams), and characters (2- to 5-grams, across word boundaries), both with
logarithmic counts, inverse document frequency and length 1. Features of a pair: those of both texts, their product, their
absolute difference, and their cosine. Classification is logistic regression, regression is ridge regression; the strength
of regularisation is chosen by cross-validation on the training rows. Nothing is drawn at random: equal rows give an equal
model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold

from espalier.evaluation.metrics import score
from espalier.runtime.files import read_json

WORD_NGRAMS, CHARACTER_NGRAMS = (1, 2), (2, 5)
"""Shortest and longest n-grams."""
FEWEST_TEXTS = 2
"""Training texts in which a character n-gram must occur to be a feature; rarer ones are many and say little."""
INVERSE_STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""What cross-validation chooses from: C of logistic regression; ridge regression's alpha is 1 / C."""
FOLDS = 5
MOST_ITERATIONS = 2000

FLOOR_METRICS = {"classification": ("accuracy", "f1", "macro-f1", "matthews"), "regression": ("spearman", "pearson")}
"""Kind of task → metrics of its floor; other kinds have no linear floor. F1 is that of two classes."""

TextRows = Sequence[tuple[str, ...]]
"""Rows of one text or of two."""


@dataclass(frozen=True)
class LinearModel:
    """A fitted model; `fit` makes one."""

    vectorisers: tuple[TfidfVectorizer, ...]
    estimator: LogisticRegression | Ridge

    @property
    def inverse_strength(self) -> float:
        """The C that cross-validation chose; for regression 1 / alpha."""
        if isinstance(self.estimator, Ridge):
            return 1.0 / self.estimator.alpha
        return self.estimator.C

    def predict(self, texts: TextRows) -> np.ndarray:
        """One value a row, shape (rows,): the most probable of the labels that `fit` saw, or a real number."""
        return self.estimator.predict(features(self.vectorisers, texts))


def fit(texts: TextRows, labels: Sequence[int | float], kind: Literal["classification", "regression"]) -> LinearModel:
    """Fit the features and the model to training rows.

    Args:
        texts: rows of one text or of two, all alike.
        labels: a class or a number for each row.
        kind: what the labels are.

    Raises:
        ValueError: the rows are too few to cross-validate: fewer than two of a class, or fewer than two in all; or the
            texts hold nothing to count, such as no word of two letters.
    """
    values = np.asarray(labels)
    smallest = int(np.unique(values, return_counts=True)[1].min()) if kind == "classification" else len(values)
    if smallest < 2:
        raise ValueError(f"cross-validation needs two rows of each class, or two rows in all; the fewest are {smallest}")

    vectorisers = _vectorisers()
    for vectoriser in vectorisers:
        vectoriser.fit([text for row in texts for text in row])

    folds = min(FOLDS, smallest)
    if kind == "classification":
        estimator = LogisticRegression(max_iter=MOST_ITERATIONS)
        grid, splitter = {"C": list(INVERSE_STRENGTHS)}, StratifiedKFold(folds)
    else:
        estimator = Ridge(solver="sparse_cg", max_iter=MOST_ITERATIONS)
        grid, splitter = {"alpha": [1.0 / value for value in INVERSE_STRENGTHS]}, KFold(folds)
    # A tie is won by the first value, which is the strongest regularisation.
    search = GridSearchCV(estimator, grid, cv=splitter).fit(features(vectorisers, texts), values)
    return LinearModel(vectorisers, search.best_estimator_)


def linear_floor(task: Path) -> dict[str, Any] | None:
    """Scores of a linear model on a prepared task, trained on the rows that the task's teacher is trained on.

    Args:
        task: task.json, beside train.parquet and evaluation.parquet.

    Returns:
        `inverse_strength`, and `sets`: evaluation set → metric → score. None where the kind of task has no linear floor.
    """
    card = read_json(task)
    if card.get("kind") not in FLOOR_METRICS:
        return None

    train = pq.read_table(task.with_name("train.parquet")).to_pydict()
    evaluation = pq.read_table(task.with_name("evaluation.parquet")).to_pydict()
    model = fit(_texts_of(train), train["label"], card["kind"])

    predictions = model.predict(_texts_of(evaluation))
    labels = np.array(evaluation["label"])
    names = np.array(evaluation["set"])
    metrics = [name for name in FLOOR_METRICS[card["kind"]] if name != "f1" or len(card["classes"]) == 2]
    sets = {
        name: {metric: score(metric, labels[names == name], predictions[names == name]) for metric in metrics}
        for name in card["sets"]
    }
    return {"inverse_strength": model.inverse_strength, "sets": sets}


def _texts_of(table: dict[str, list[str]]) -> list[tuple[str, ...]]:
    """Rows of the column text_a and, for pairs, text_b."""
    return list(zip(*(table[name] for name in ("text_a", "text_b") if name in table), strict=True))


def features(vectorisers: tuple[TfidfVectorizer, ...], texts: TextRows) -> sp.csr_matrix:
    """The features of rows, shape (rows, features), from fitted vectorisers."""
    columns = list(zip(*texts, strict=True))
    blocks = []
    for vectoriser in vectorisers:
        parts = [vectoriser.transform(column) for column in columns]
        blocks += parts
        if len(parts) == 2:
            product = parts[0].multiply(parts[1])
            # Both texts have length 1, so the sum of their product is their cosine.
            blocks += [product, abs(parts[0] - parts[1]), sp.csr_matrix(product.sum(axis=1))]
    return sp.hstack(blocks, format="csr")


def _vectorisers() -> tuple[TfidfVectorizer, ...]:
    return (
        TfidfVectorizer(ngram_range=WORD_NGRAMS, sublinear_tf=True),
        TfidfVectorizer(analyzer="char", ngram_range=CHARACTER_NGRAMS, sublinear_tf=True, min_df=FEWEST_TEXTS),
    )
