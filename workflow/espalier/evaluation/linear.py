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
from typing import Literal

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold

WORD_NGRAMS, CHARACTER_NGRAMS = (1, 2), (2, 5)
"""Shortest and longest n-grams."""
FEWEST_TEXTS = 2
"""Training texts in which a character n-gram must occur to be a feature; rarer ones are many and say little."""
INVERSE_STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""What cross-validation chooses from: C of logistic regression; ridge regression's alpha is 1 / C."""
FOLDS = 5
MOST_ITERATIONS = 2000

Texts = Sequence[tuple[str, ...]]
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

    def predict(self, texts: Texts) -> np.ndarray:
        """One value a row, shape (rows,): the most probable of the labels that `fit` saw, or a real number."""
        return self.estimator.predict(features(self.vectorisers, texts))


def fit(texts: Texts, labels: Sequence[int | float], kind: Literal["classification", "regression"]) -> LinearModel:
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


def features(vectorisers: tuple[TfidfVectorizer, ...], texts: Texts) -> sp.csr_matrix:
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
