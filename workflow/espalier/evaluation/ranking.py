"""Scores of rankings: nDCG and the reciprocal rank, a query at a time, and their means over queries.

A query none of whose texts has a grade above 0 counts as 0 in every mean, as in trec_eval and in MS MARCO's own script. Texts
of equal score stand in the worst order, so that a model that says the same of all texts gains nothing from their order.

XGLUE's own nDCG differs (`simple_ndcg` in xglue_evaluate.py, which is scikit-learn's `ndcg_score`): the gain of a text is its
grade itself, texts of equal score share the mean of their gains, a query is a run of neighbouring rows, and one with a single
text is left out. There the scores are predicted grades, of which many are equal; here they are the model's own outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import ndcg_score

from espalier.config.kinds.ranking import XGLUE_NDCG


def groups_of(queries: np.ndarray) -> list[Int[np.ndarray, " texts"]]:
    """The rows of each query, in the order in which queries come first; a query's rows need not stand together."""
    _, first, inverse = np.unique(queries, return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
    return [parts[group] for group in np.argsort(first)]


def runs_of(queries: np.ndarray) -> list[Int[np.ndarray, " texts"]]:
    """The rows of each run of neighbouring rows with one query, in order: a query that comes again begins a new run."""
    ends = np.flatnonzero(queries[1:] != queries[:-1]) + 1
    return np.split(np.arange(len(queries)), ends)


def groups_for(metric: str, queries: np.ndarray) -> list[Int[np.ndarray, " texts"]]:
    """The rows that a metric takes for those of one query; XGLUE's looks at runs of two and more rows alone."""
    return [run for run in runs_of(queries) if len(run) > 1] if metric == XGLUE_NDCG else groups_of(queries)


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
        metric: `ndcg` or `mrr`, with `@k` for the first k texts, or `xglue-ndcg`.
        scores, grades: of all rows.
        groups: the rows of each query, as `groups_for` has them for this metric.
    """
    if metric == XGLUE_NDCG:
        # held-out rows may be a single text; then nothing is in order
        return float(np.mean([ndcg_score(grades[rows][None], scores[rows][None]) for rows in groups])) if groups else 0.0

    name, _, cut = metric.partition("@")
    of_query = {"ndcg": ndcg, "mrr": reciprocal_rank}[name]
    values = [of_query(by_score(scores[rows], grades[rows]), int(cut) if cut else None) for rows in groups]
    return float(np.mean(values))
