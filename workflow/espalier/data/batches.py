"""Token rows → padded tensors, in an order that is a pure function of (data, seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from espalier.data.spans import Examples

IGNORED = -100
"""Label of a token that masked-language modelling does not ask for."""

GROUP = 50
"""Batches that are sorted by length together: enough to save padding, few enough to keep the order random."""
SAMPLE_SEED = 0
"""Samples for scoring belong to the task, not to a run: every seed of a study is asked the same rows."""


@dataclass(frozen=True)
class Batch:
    """Padded rows."""

    rows: Int[Tensor, " batch"]
    """Index of each row in its table."""
    input_ids: Int[Tensor, "batch length"]
    attention_mask: Int[Tensor, "batch length"]
    token_type_ids: Int[Tensor, "batch length"] | None
    labels: Int[Tensor, " batch"] | Float[Tensor, " batch"] | Int[Tensor, "batch length"] | Int[Tensor, " 2*batch"]
    """One a row; for masked-language modelling the token at every masked place and -100 elsewhere; for spans two a row, the
    places where its answer starts and ends."""
    allowed: Bool[Tensor, "batch length"] | None = None
    """For spans: the places where an answer may start or end, [CLS] among them, which stands for an answer outside the row."""

    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments of a model's forward."""
        inputs = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        return inputs if self.token_type_ids is None else {**inputs, "token_type_ids": self.token_type_ids}

    @property
    def masked(self) -> Bool[Tensor, "batch length"] | None:
        """Where tokens are to be predicted; None where a row has one label."""
        return self.labels != IGNORED if self.labels.dim() == 2 else None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Rows:
    """A tokenised table in memory: one flat array of ids and the offset of each row."""

    ids: np.ndarray
    types: np.ndarray | None
    offsets: np.ndarray
    labels: np.ndarray
    sets: np.ndarray | None
    pad: int
    context: np.ndarray | None = None
    """Span tasks: from which token to which one each row shows the context."""
    examples: Examples | None = None
    """Span tasks: the questions of an evaluation table; its rows are windows."""

    @classmethod
    def read(cls, path: Path, pad: int) -> Rows:
        """Read a parquet file that the tokenise stage wrote; `pad` is the tokenizer's padding id."""
        table = pq.read_table(path).combine_chunks()
        column = table["input_ids"].combine_chunks()
        types = (
            table["token_type_ids"].combine_chunks().flatten().to_numpy() if "token_type_ids" in table.column_names else None
        )
        sets = np.asarray(table["set"].to_pylist()) if "set" in table.column_names else None
        ids = column.flatten().to_numpy()
        offsets = np.concatenate([[0], np.cumsum(column.value_lengths().to_numpy())])
        if "label" in table.column_names:
            return cls(ids, types, offsets, table["label"].to_numpy().copy(), sets, pad)
        labels, context = (
            np.stack([table[name].to_numpy() for name in names], axis=1)
            for names in (("start", "end"), ("context_from", "context_to"))
        )
        return cls(ids, types, offsets, labels, sets, pad, context, None if sets is None else Examples.of(table))

    def sample(self, count: int, name: str) -> Rows:
        """So many rows at random, or all where there are fewer, as an evaluation set of this name; not for spans."""
        return self._take(np.sort(np.random.default_rng(SAMPLE_SEED).permutation(len(self))[:count]), name)

    def of_set(self, name: str) -> Rows:
        """The rows of one evaluation set; not for spans."""
        return self._take(np.flatnonzero(self.sets == name), name)

    def _take(self, picked: np.ndarray, name: str) -> Rows:
        flat = self._places(picked)
        offsets = np.concatenate([[0], np.cumsum(self.lengths[picked])])
        types = None if self.types is None else self.types[flat]
        return Rows(self.ids[flat], types, offsets, self.labels[picked], np.full(len(picked), name), self.pad)

    def _places(self, rows: np.ndarray) -> np.ndarray:
        """Where the tokens of these rows lie in the flat arrays."""
        return np.concatenate([np.arange(self.offsets[row], self.offsets[row + 1]) for row in rows])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""
        return np.diff(self.offsets)

    def batch(self, rows: np.ndarray, device: torch.device, epoch: int = 0) -> Batch:
        """These rows, padded to the longest of them; the same in every epoch."""
        lengths = self.lengths[rows]
        shape = (len(rows), int(lengths.max()))
        real = np.arange(shape[1]) < lengths[:, None]
        flat = self._places(rows)
        ids = np.full(shape, self.pad, dtype=np.int64)
        ids[real] = self.ids[flat]
        types = None
        if self.types is not None:
            types = np.zeros(shape, dtype=np.int64)
            types[real] = self.types[flat]
        labels = self.labels[rows].reshape(-1)
        allowed = None
        if self.context is not None:
            places, (begin, stop) = np.arange(shape[1]), self.context[rows].T[:, :, None]
            allowed = torch.from_numpy((places == 0) | ((begin <= places) & (places < stop))).to(device)
        return Batch(
            rows=torch.from_numpy(np.asarray(rows, dtype=np.int64)),
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(real.astype(np.int64)).to(device),
            token_type_ids=None if types is None else torch.from_numpy(types).to(device),
            labels=torch.from_numpy(labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64)).to(device),
            allowed=allowed,
        )


def epoch_order(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch: a seeded permutation, sorted by length within groups, the batches shuffled again.

    Every row occurs exactly once; only one batch may be smaller.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    group = GROUP * batch_size
    order = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in _cut(order, group)])
    batches = _cut(order, batch_size)
    return [batches[index] for index in generator.permutation(len(batches))]


def in_length_order(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """All rows, shortest first, in batches: for evaluation."""
    yield from _cut(np.argsort(lengths, kind="stable"), batch_size)


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
