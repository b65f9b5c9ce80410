"""A linear model on TF-IDF features: the rival that an encoder has to beat to be worth its cost.

Features of a text: words and word pairs (1- to 2-grams), and characters (2- to 5-grams, across word boundaries), both with
logarithmic counts, inverse document frequency and length 1. Features of a pair: those of both texts, their product, their
absolute difference, and their cosine. Classification is logistic regression, one a class where rows have several labels;
regression and ranking are ridge regression, of numbers and of grades. The strength of regularisation is chosen by
cross-validation on the training rows (evaluation/linear_kinds.py). Nothing is drawn at random: equal rows give an equal
model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from espalier.config.kinds import KIND_RULES
from espalier.evaluation.linear_kinds import (
    LinearKind,
    chosen_estimator,
    fewest_rows,
    inverse_strength,
    linear_answers,
    scores_of,
    stored_numbers,
)
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json

WORD_NGRAMS, CHARACTER_NGRAMS = (1, 2), (2, 5)
"""Shortest and longest n-grams."""
FEWEST_TEXTS = 2
"""Training texts in which a character n-gram must occur to be a feature; rarer ones are many and say little."""
MOST_VALIDATED = 20_000
"""Rows, evenly spaced, on which the strength is chosen where there are more; the model itself is fitted to all rows."""
FLOAT_BYTES = 4
"""A stored number: single precision is enough for its predictions."""

TextRows = Sequence[tuple[str, ...]]
"""Rows of one text or of two."""


@dataclass(frozen=True)
class LinearModel:
    """A fitted model; `fit` makes one."""

    vectorisers: tuple[TfidfVectorizer, ...]
    estimator: Any
    """An estimator of scikit-learn; which one, the kind of task says."""

    @property
    def inverse_strength(self) -> float:
        """The C that cross-validation chose; for regression 1 / alpha."""
        return inverse_strength(self.estimator)

    @property
    def parameters(self) -> int:
        """Numbers that the model consists of: coefficients, intercepts, and an inverse document frequency for each term."""
        terms = sum(len(vectoriser.idf_) for vectoriser in self.vectorisers)
        return terms + stored_numbers(self.estimator)

    @property
    def stored_bytes(self) -> int:
        """Bytes of a plain file with the model: its numbers in single precision, and its terms as UTF-8, one a line."""
        terms = [term for vectoriser in self.vectorisers for term in vectoriser.vocabulary_]
        return FLOAT_BYTES * self.parameters + sum(len(term.encode()) + 1 for term in terms)

    def predict(self, texts: TextRows) -> np.ndarray:
        """One value a row, shape (rows,): the most probable of the labels that `fit` saw, or a real number; for multilabel the
        probability of every class, shape (rows, classes)."""
        return linear_answers(self.estimator, features(self.vectorisers, texts))


def fit(texts: TextRows, labels: Sequence[Any], kind: LinearKind, queries: Sequence[str] | None = None) -> LinearModel:
    """Fit the features and the model to training rows.

    Args:
        texts: rows of one text or of two, all alike.
        labels: a class, a number, or 0 and 1 of every class for each row.
        kind: what the labels are.
        queries: of each row, where rows belong to queries.

    Raises:
        ValueError: the rows are too few to cross-validate: fewer than two of a class, or fewer than two in all; or the
            texts hold nothing to count, such as no word of two letters.
    """
    values = np.asarray(labels)
    if (smallest := fewest_rows(values, kind)) < 2:
        raise ValueError(f"cross-validation needs two rows of each class, or two rows in all; the fewest are {smallest}")

    vectorisers = _vectorisers()
    for vectoriser in vectorisers:
        vectoriser.fit([text for row in texts for text in row])
    rows = features(vectorisers, texts)

    picked = np.linspace(0, len(values) - 1, min(len(values), MOST_VALIDATED)).astype(int)
    of_queries = None if queries is None else np.array(queries, dtype=object)[picked]
    estimator: Any = chosen_estimator(rows[picked], values[picked], kind, of_queries)
    return LinearModel(vectorisers, estimator.fit(rows, values))


class PreparedRows(NamedTuple):
    """What a linear model reads of a prepared task: the rows that its teacher is trained and scored on."""

    card: dict[str, Any]
    """task.json."""
    train: dict[str, list[Any]]
    evaluation: dict[str, list[Any]]

    @classmethod
    def read(cls, task: Path, train: Path, evaluation: Path) -> PreparedRows:
        """Read task.json, train.parquet and evaluation.parquet.

        Raises:
            UserError: the task is of a kind that no linear model can answer.
        """
        card = read_json(task)
        if reason := KIND_RULES[card["kind"]].no_linear:
            raise UserError(f"{task}: got a task of kind {card['kind']}; {reason}, so there is no linear model for it")
        return cls(card, pq.read_table(train).to_pydict(), pq.read_table(evaluation).to_pydict())

    def fit(self) -> LinearModel:
        """A model of the training rows."""
        labels = self.train["labels" if self.card["kind"] == "multilabel" else "label"]
        return fit(_texts_of(self.train), labels, self.card["kind"], self.train.get("query"))

    def scores(self, model: LinearModel) -> dict[str, dict[str, float]]:
        """Evaluation set → metric → score, for all metrics of the kind."""
        return scores_of(self.card, self.evaluation, model.predict(_texts_of(self.evaluation)))

    def batches(self, size: int) -> Iterator[list[tuple[str, ...]]]:
        """Evaluation rows in batches of this size, from the first row on and again without end."""
        rows = cycle(_texts_of(self.evaluation))
        while True:
            yield list(islice(rows, size))


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
