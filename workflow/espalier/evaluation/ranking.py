"""Scores of rankings: nDCG and the reciprocal rank, a query at a time, and their means over queries.

A query none of whose texts has a grade above 0 counts as 0 in every mean, as in trec_eval and in MS MARCO's own script. Texts
of equal score stand in the worst order, so that a model that says the same of all texts gains nothing from their order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


def groups_of(queries: np.ndarray) -> list[Int[np.ndarray, " texts"]]:
    """The rows of each query, in the order in which queries come first; a query's rows need not stand together."""
    _, first, inverse = np.unique(queries, return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
    return [parts[group] for group in np.argsort(first)]


def by_score(scores: Float[np.ndarray, " texts"], grades: Float[np.ndarray, " texts"]) -> Float[np.ndarray, " texts"]:
    """The grades of a query's texts from the highest score to the lowest; of equal scores the lower grade first."""
    return grades[np.lexsort((grades, -scores))]


def dcg(grades: Float[np.ndarray, " texts"]) -> float:
    """Discounted cumulative gain: sum of (2^grade - 1) / log2(1 + place), places from 1.

    Source: Burges et al. 2005, "Learning to rank using gradient descent". With grades of 0 and 1 it is the one of trec_eval,
    whose gain is the grade itself.
    """
    places = np.arange(1, len(grades) + 1)
    return float(((2.0**grades - 1.0) / np.log2(1.0 + places)).sum())


def ndcg(ranked: Float[np.ndarray, " texts"], cut: int | None = None) -> float:
    """DCG of the first texts, divided by that of the best order; 0 where no text has a grade above 0.

    Args:
        ranked: grades in the order of the scores.
        cut: number of first texts; all where nothing is said.
    """
    best = dcg(np.sort(ranked)[::-1][:cut])
    return dcg(ranked[:cut]) / best if best else 0.0


def reciprocal_rank(ranked: Float[np.ndarray, " texts"], cut: int | None = None) -> float:
    """1 / place of the first text with a grade above 0; 0 where none of the first texts has one."""
    relevant = np.flatnonzero(ranked[:cut] > 0)
    return 1.0 / (1 + int(relevant[0])) if len(relevant) else 0.0


def ranking_score(
    metric: str, scores: Float[np.ndarray, " rows"], grades: Float[np.ndarray, " rows"], groups: Sequence[np.ndarray]
) -> float:
    """The mean of a metric over queries.

    Args:
        metric: `ndcg` or `mrr`, with `@k` for the first k texts.
        scores, grades: of all rows.
        groups: the rows of each query.
    """
    name, _, cut = metric.partition("@")
    of_query = {"ndcg": ndcg, "mrr": reciprocal_rank}[name]
    values = [of_query(by_score(scores[rows], grades[rows]), int(cut) if cut else None) for rows in groups]
    return float(np.mean(values))
