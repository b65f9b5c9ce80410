"""Tokenised rows → padded tensors, in an order that is a pure function of (data, seed, epoch).

What differs between kinds of tasks is asked of two classes: `TaskRows`, the table in memory or on disk, and `Batch`, some
of its rows. `TokenisedRows` and `Batch` itself have one label a row; span tasks (data/spans.py) and masked text
(data/packed.py) have subclasses of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from espalier.data.mixing import GROUP, drawn_texts, mixed_order

IGNORED = -100
"""Label of a token that masked-language modelling does not ask for."""

MULTIPLE = 8
"""On a GPU batches are padded to a multiple of so many tokens."""
SAMPLE_SEED = 0
"""Samples for scoring belong to the task, not to a run: every seed of a study is asked the same rows."""


@dataclass(frozen=True)
class Batch:
    """Padded rows with one label each, for which a model gives one line of logits each."""

    rows: Int[Tensor, " batch"]
    """Index of each row in its table."""
    input_ids: Int[Tensor, "batch length"]
    attention_mask: Int[Tensor, "batch length"]
    token_type_ids: Int[Tensor, "batch length"] | None
    labels: Tensor
    """One a row, class index or real number; subclasses say what theirs are. At rows without a label it says nothing."""
    labelled: Bool[Tensor, " batch"] | None = field(default=None, kw_only=True)
    """The rows that have a label, on the CPU; None where all have one."""

    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments of a model's forward."""
        inputs = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        return inputs if self.token_type_ids is None else {**inputs, "token_type_ids": self.token_type_ids}

    @property
    def masked(self) -> Bool[Tensor, "batch length"] | None:
        """The tokens for which the head computes logits; None where it reads the whole row."""
        return None

    @property
    def compared(self) -> Bool[Tensor, "batch length"] | None:
        """The tokens whose vectors methods compare, one line for each; None where a row has one vector."""
        return None

    def logits_of(self, output: Any) -> Float[Tensor, "lines classes"]:
        """The logits in the output of a model, as the losses read them."""
        return output.logits

    def part(self, rows: slice | Int[Tensor, " some"]) -> Batch:
        """Some of the rows, padded like the whole batch."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        taken = {name: value[rows] for name, value in values.items() if value is not None}
        return replace(self, **taken)

    def lines(self, sizes: Sequence[int]) -> list[int]:
        """How many lines of logits belong to the first `sizes[0]` rows, to the next `sizes[1]` rows, and so on."""
        return list(sizes)

    def vectors(self, sizes: Sequence[int]) -> list[int]:
        """How many vectors belong to the first `sizes[0]` rows, to the next `sizes[1]` rows, and so on."""
        return list(sizes) if self.compared is None else self.lines(sizes)

    def to_store(self, logits: Float[Tensor, "lines classes"], longest: int) -> Float[Tensor, "batch ..."]:
        """The logits as one entry a row, of one shape for all batches of a table whose longest row has `longest` tokens."""
        return logits

    def from_store(self, stored: Float[Tensor, "batch ..."]) -> Float[Tensor, "lines classes"]:
        """The logits that `to_store` has put away."""
        return stored

    def __len__(self) -> int:
        return len(self.rows)


class TaskRows(ABC):
    """The tokenised rows of one table, whatever its task."""

    same_every_epoch: ClassVar[bool] = True
    """Whether a row is the same in every epoch, so that a teacher's outputs for it can be stored."""
    sets: np.ndarray | None
    """Name of the evaluation set of each row; None for training rows."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @property
    @abstractmethod
    def lengths(self) -> Int[np.ndarray, " rows"]:
        """Tokens of each row."""

    @abstractmethod
    def batch(self, rows: np.ndarray, device: torch.device, epoch: int = 0) -> Batch:
        """These rows, padded, as they are in this epoch."""

    def widened(self, length: int) -> TaskRows:
        """These rows in batches of at least so many tokens; rows that are all of one length stay as they are."""
        return self

    @property
    def epoch_rows(self) -> int:
        """Rows that an epoch has."""
        return len(self)

    def epoch_order(self, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
        """The batches of one epoch, each the numbers of its rows."""
        return epoch_order(self.lengths, batch_size, seed, epoch)


@dataclass(frozen=True)
class TokenisedRows(TaskRows):
    """A tokenised table in memory with one label a row: one flat array of ids and the offset of each row."""

    ids: np.ndarray
    types: np.ndarray | None
    offsets: np.ndarray
    labels: np.ndarray
    sets: np.ndarray | None
    pad: int
    least: int = field(default=0, kw_only=True)
    """Tokens of a batch at least, padding included."""
    unlabelled: int = field(default=0, kw_only=True)
    """Rows at the end of the table that have no label."""
    share: float = field(default=0.0, kw_only=True)
    """Part of an epoch's rows that is taken from these, in [0, 1)."""

    @classmethod
    def read(cls, path: Path, pad: int) -> TokenisedRows:
        """Read a parquet file that the tokenise stage wrote; `pad` is the tokenizer's padding id."""
        table = pq.read_table(path).combine_chunks()
        return cls(labels=table["label"].to_numpy().copy(), pad=pad, **tokens_in(table))

    def sample(self, count: int, name: str) -> TokenisedRows:
        """So many rows at random, or all where there are fewer, as an evaluation set of this name."""
        labelled = len(self) - self.unlabelled
        return self._take(np.sort(np.random.default_rng(SAMPLE_SEED).permutation(labelled)[:count]), name)

    def widened(self, length: int) -> TokenisedRows:
        """These rows in batches of at least so many tokens."""
        return replace(self, least=length)

    def with_unlabelled(self, path: Path, share: float) -> TokenisedRows:
        """These rows, and after them the tokenised texts without labels of a file.

        Args:
            path: a parquet file that `collect` wrote.
            share: part of an epoch's rows that has no labels, in (0, 1).
        """
        texts = tokens_in(pq.read_table(path).combine_chunks())
        count = len(texts["offsets"]) - 1
        return replace(
            self,
            ids=np.concatenate([self.ids, texts["ids"]]),
            types=None if self.types is None else np.concatenate([self.types, texts["types"]]),
            offsets=np.concatenate([self.offsets, self.offsets[-1] + texts["offsets"][1:]]),
            labels=np.concatenate([self.labels, np.zeros((count, *self.labels.shape[1:]), self.labels.dtype)]),
            unlabelled=count,
            share=share,
        )

    @property
    def epoch_rows(self) -> int:
        """All rows with labels once, and so many without that they are the share."""
        return len(self) - self.unlabelled + self._drawn

    @property
    def _drawn(self) -> int:
        """Rows without labels of an epoch: n share / (1 - share) beside n rows with labels."""
        labelled = len(self) - self.unlabelled
        return max(1, round(labelled * self.share / (1.0 - self.share))) if self.unlabelled else 0

    def epoch_order(self, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
        """The batches of one epoch, each with the share of rows without labels."""
        if not self.unlabelled:
            return super().epoch_order(batch_size, seed, epoch)
        labelled = len(self) - self.unlabelled
        drawn = labelled + drawn_texts(self.unlabelled, self._drawn, seed, epoch)
        return mixed_order(self.lengths, np.arange(labelled), drawn, batch_size, seed, epoch)

    def of_set(self, name: str) -> TokenisedRows:
        """The rows of one evaluation set."""
        return self._take(np.flatnonzero(self.sets == name), name)

    def _take(self, picked: np.ndarray, name: str) -> TokenisedRows:
        flat = self._places(picked)
        offsets = np.concatenate([[0], np.cumsum(self.lengths[picked])])
        types = None if self.types is None else self.types[flat]

        return TokenisedRows(self.ids[flat], types, offsets, self.labels[picked], np.full(len(picked), name), self.pad)

    def _places(self, rows: np.ndarray) -> np.ndarray:
        """Where the tokens of these rows lie in the flat arrays."""
        return np.concatenate([np.arange(self.offsets[row], self.offsets[row + 1]) for row in rows])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""
        return np.diff(self.offsets)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.lengths.max())

    def batch(self, rows: np.ndarray, device: torch.device, epoch: int = 0) -> Batch:
        """These rows, padded to the longest of them or to `least`; the same in every epoch."""
        return Batch(**self._padded(rows, device))

    def _padded(self, rows: np.ndarray, device: torch.device) -> dict[str, Tensor | None]:
        """The fields of a batch."""
        lengths = self.lengths[rows]
        shape = (len(rows), self._width(int(lengths.max()), device))
        real = np.arange(shape[1]) < lengths[:, None]
        flat = self._places(rows)

        ids = np.full(shape, self.pad, dtype=np.int64)
        ids[real] = self.ids[flat]

        types = None
        if self.types is not None:
            types = np.zeros(shape, dtype=np.int64)
            types[real] = self.types[flat]

        labels = self.labels[rows].reshape(-1)
        labels = labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64)

        return {
            "rows": torch.from_numpy(np.asarray(rows, dtype=np.int64)),
            "input_ids": on_device(ids, device),
            "attention_mask": on_device(real.astype(np.int64), device),
            "token_type_ids": None if types is None else on_device(types, device),
            "labels": on_device(labels, device),
            "labelled": torch.from_numpy(np.asarray(rows) < len(self) - self.unlabelled) if self.unlabelled else None,
        }

    def _width(self, longest: int, device: torch.device) -> int:
        """Tokens of a batch. A GPU's matrix units work on multiples of 8; on a CPU that is padding and nothing else."""
        width = max(longest, self.least)
        if device.type == "cpu":
            return width

        # Never wider than the table, which may be as wide as the model has positions.
        return min(-(-width // MULTIPLE) * MULTIPLE, max(self.longest, self.least))


def on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor on a device; a GPU copies it while it computes what was asked for before."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def tokens_in(table: pa.Table) -> dict[str, Any]:
    """The columns that every tokenised table has, as `TokenisedRows` holds them: ids, types, offsets and sets."""
    column = table["input_ids"].combine_chunks()
    types = table["token_type_ids"].combine_chunks().flatten().to_numpy() if "token_type_ids" in table.column_names else None

    return {
        "ids": column.flatten().to_numpy(),
        "types": types,
        "offsets": np.concatenate([[0], np.cumsum(column.value_lengths().to_numpy())]),
        "sets": np.asarray(table["set"].to_pylist()) if "set" in table.column_names else None,
    }


def epoch_order(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch: a seeded permutation, sorted by length within groups, the batches shuffled again.

    Every row occurs exactly once; only one batch may be smaller.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))

    # Rows of similar length share a batch and need little padding. Sorting inside groups alone keeps the order random.
    group = GROUP * batch_size
    order = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in _cut(order, group)])

    batches = _cut(order, batch_size)
    return [batches[index] for index in generator.permutation(len(batches))]


def in_length_order(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """All rows, shortest first, in batches: for evaluation."""
    yield from _cut(np.argsort(lengths, kind="stable"), batch_size)


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
