"""Rows of random words whose lengths are those of real tasks. Speed does not depend on what the words are.

`lengths.json` holds how many tokens the rows of RTE and CoLA have. Each side cuts all rows into its own batches, ours by length
and the reference's in random order, and gets a table of the few batches that stand for them: those at evenly spaced quantiles
of the padded length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from espalier.data.batches import TokenisedRows, epoch_order
from espalier.data.packed import PackedRows, Vocabulary

LENGTHS = Path(__file__).with_name("lengths.json")
SPECIAL = 5
"""Word ids below this are special tokens."""


def lengths_like(task: str, count: int) -> np.ndarray:
    """Lengths of so many rows: evenly spaced quantiles of the task's lengths."""
    histogram = {int(length): rows for length, rows in json.loads(LENGTHS.read_text())[task].items()}
    lengths = np.repeat(list(histogram), list(histogram.values()))
    return lengths[((np.arange(count) + 0.5) / count * len(lengths)).astype(int)]


def rows_of(task: str) -> int:
    """Training rows that the real task has."""
    return sum(json.loads(LENGTHS.read_text())[task].values())


def batches_of(lengths: np.ndarray, batch: int, by_length: bool) -> list[np.ndarray]:
    """All whole batches of an epoch: as the training loop makes them, or in random order."""
    if by_length:
        batches = epoch_order(lengths, batch, 0, 0)
    else:
        order = np.random.default_rng(0).permutation(len(lengths))
        batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    return [rows for rows in batches if len(rows) == batch]


def table_like(task: str, batch: int, count: int, by_length: bool) -> np.ndarray:
    """Lengths of the rows of so many batches, batch after batch, which stand for all batches of the task."""
    lengths = lengths_like(task, rows_of(task))
    batches = sorted(batches_of(lengths, batch, by_length), key=lambda rows: lengths[rows].max())
    picked = [batches[int((number + 0.5) / count * len(batches))] for number in range(count)]
    return np.concatenate([lengths[rows] for rows in picked])


def padding(task: str, batch: int, count: int) -> dict[str, float]:
    """Tokens a step: real ones, and with the padding of each side in a whole epoch and in its few batches."""
    lengths = lengths_like(task, rows_of(task))
    found = {"real": float(lengths.mean()) * batch}
    for side, by_length in (("ours", True), ("reference", False)):
        few = table_like(task, batch, count, by_length)
        for name, table, cut in (
            (side, lengths, batches_of(lengths, batch, by_length)),
            (f"{side}_measured", few, np.split(np.arange(len(few)), count)),
        ):
            found[name] = padded_tokens(table, cut) / len(cut)
    return found


def words_of(lengths: Sequence[int] | np.ndarray, vocabulary: int, classes: int) -> TokenisedRows:
    """Rows of random words of these lengths, with random labels."""
    generator = np.random.default_rng(0)
    total = int(np.sum(lengths))
    return TokenisedRows(
        ids=generator.integers(SPECIAL, vocabulary, total).astype(np.int32),
        types=np.zeros(total, np.int8),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        labels=generator.integers(0, classes, len(lengths)),
        sets=np.full(len(lengths), "validation"),
        pad=0,
    )


def text_of(path: Path, rows: int, length: int, vocabulary: int) -> PackedRows:
    """Packed rows of random words, in a file that is written once: others may have it mapped into memory."""
    if path.exists():
        return PackedRows(path, 0)

    ids = np.random.default_rng(0).integers(SPECIAL, vocabulary, rows * length).astype(np.int32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(ids), length)
    metadata = Vocabulary(vocabulary, 0, SPECIAL - 1, tuple(range(SPECIAL))).metadata()
    schema = pa.schema([pa.field("input_ids", column.type)], metadata=metadata)

    with pa.ipc.new_file(str(path), schema) as writer:
        writer.write_batch(pa.record_batch([column], schema=schema))
    return PackedRows(path, 0)


def seed_for(lengths: np.ndarray, batch: int) -> int:
    """A seed whose second epoch begins with a batch as long as the first epoch's first one.

    The first step of a run is not measured; the step after a whole epoch takes its place, so that all lengths are counted.
    """

    def first(seed: int, epoch: int) -> int:
        return int(lengths[epoch_order(lengths, batch, seed, epoch)[0]].max())

    return next(seed for seed in range(10_000) if first(seed, 0) == first(seed, 1))


def padded_tokens(lengths: np.ndarray, batches: Sequence[np.ndarray]) -> int:
    """Tokens that these batches have when each is padded to its longest row."""
    return sum(len(batch) * int(lengths[batch].max()) for batch in batches)
