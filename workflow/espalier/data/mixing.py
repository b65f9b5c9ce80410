"""Rows with and without labels in one epoch: which texts it draws, and how they are spread over its batches.

All is a pure function of the rows, the seed and the epoch, so a resumed run goes on with the batch that was next.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

GROUP = 50
"""Batches that are sorted by length together: enough to save padding, few enough to keep the order random."""
TEXTS = 1
"""Number that sets the draws of texts apart from the order of an epoch, which has the same seed."""


def drawn_texts(count: int, wanted: int, seed: int, epoch: int) -> Int[np.ndarray, " wanted"]:
    """The texts of an epoch: the next ones in an endless row of permutations of all texts.

    Args:
        count: texts that there are.
        wanted: texts that an epoch has.
        seed: of the run.
        epoch: counted over the whole path of a plan, from 0.
    """
    first = epoch * wanted
    places = np.arange(first, first + wanted)

    # Round r goes through all texts in an order of its own; an epoch may lie in several rounds.
    rounds = range(first // count, (first + wanted - 1) // count + 1)
    orders = {number: np.random.default_rng([seed, number, TEXTS]).permutation(count) for number in rounds}
    return np.array([orders[place // count][place % count] for place in places.tolist()], dtype=np.int64)


def mixed_order(
    lengths: Int[np.ndarray, " rows"],
    labelled: Int[np.ndarray, " _"],
    texts: Int[np.ndarray, " _"],
    batch_size: int,
    seed: int,
    epoch: int,
) -> list[np.ndarray]:
    """The batches of one epoch over two kinds of rows, each batch with the same share of both.

    Every row occurs exactly once; only one batch may be smaller. Rows of similar length share a batch, as far as that goes with
    both kinds.

    Args:
        lengths: tokens of each row of the table.
        labelled: rows with labels.
        texts: rows without labels.
        batch_size: rows of a batch.
        seed: of the run.
        epoch: counted over the whole path of a plan, from 0.
    """
    generator = np.random.default_rng([seed, epoch])
    parts = [generator.permutation(rows) for rows in (labelled, texts)]
    total = len(labelled) + len(texts)

    # Of the first T rows floor(T n / total) have labels: both counts grow with T, so every batch has its share of both.
    ends = [min(end, total) for end in range(batch_size, total + batch_size, batch_size)]
    with_labels = [end * len(labelled) // total for end in ends]
    cuts = [with_labels, [end - own for end, own in zip(ends, with_labels, strict=True)]]

    batches = [np.concatenate(pieces) for pieces in zip(*map(_sorted_pieces, parts, cuts, [lengths] * 2), strict=True)]
    return [batches[index] for index in generator.permutation(len(batches))]


def _sorted_pieces(rows: np.ndarray, ends: list[int], lengths: np.ndarray) -> list[np.ndarray]:
    """The rows, sorted by length within groups of batches and cut at `ends`."""
    pieces: list[np.ndarray] = []
    for start in range(0, len(ends), GROUP):
        group = ends[start : start + GROUP]
        first = ends[start - 1] if start else 0
        part = rows[first : group[-1]]
        part = part[np.argsort(lengths[part], kind="stable")]
        pieces += np.split(part, [end - first for end in group[:-1]])
    return pieces
