"""Retrieval by cosines: at which places the right texts of a query stand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

AT_ONCE = 256
"""Queries that are compared with all texts at once."""


def ranks_of_right(
    queries: Float[np.ndarray, "queries hidden"], texts: Float[np.ndarray, "texts hidden"], right: Sequence[Sequence[int]]
) -> list[Int[np.ndarray, " _"]]:
    """Places at which the right texts of each query stand, 0 for the nearest text; of equally near ones the first leads.

    Args:
        queries: vectors of length 1.
        texts: vectors of length 1.
        right: numbers of the right texts of each query.
    """
    ranks: list[np.ndarray] = []
    for start in range(0, len(queries), AT_ONCE):
        order = np.argsort(-(queries[start : start + AT_ONCE] @ texts.T), axis=1, kind="stable")
        places = np.empty_like(order)
        np.put_along_axis(places, order, np.arange(len(texts))[None], axis=1)
        ranks += [own[list(wanted)] for own, wanted in zip(places, right[start : start + AT_ONCE], strict=True)]
    return ranks


def recall_at(count: int, ranks: Sequence[Int[np.ndarray, " _"]]) -> float:
    """The mean over queries of the part of their right texts that stands among the nearest `count`, in [0, 1]."""
    return float(np.mean([(own < count).mean() for own in ranks]))
