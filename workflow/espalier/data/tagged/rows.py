"""Tokenised sentences as batches: a model has a line of logits for every token, and the losses see those of tagged ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from espalier.data.batches import IGNORED, Batch, TokenisedRows, on_device, tokens_in
from espalier.data.tagged.windows import classes_in_schema


class Sentences(NamedTuple):
    """What turns the rows of an evaluation table back into words of sentences."""

    numbers: Int[np.ndarray, " rows"]
    """The sentence of each row: the number of its data row in the user's file."""
    first: Int[np.ndarray, " rows"]
    """Number of each row's first word in its sentence, from 1."""
    words: list[list[str]]
    """The words of each row."""


@dataclass(frozen=True)
class TokenBatch(Batch):
    """Padded rows; labels have the shape of the rows, a class at the first token of a word and `IGNORED` elsewhere."""

    @property
    def compared(self) -> Bool[Tensor, "batch length"]:
        """The tagged tokens."""
        return self.labels != IGNORED

    def logits_of(self, output: Any) -> Float[Tensor, "words classes"]:
        """One line a word, row after row."""
        return output.logits[self.compared]

    def lines(self, sizes: Sequence[int]) -> list[int]:
        """As many lines as the rows have words."""
        words = self.compared.sum(dim=1).cpu()
        return [int(part.sum()) for part in words.split(list(sizes))]

    def to_store(self, logits: Float[Tensor, "words classes"], longest: int) -> Float[Tensor, "batch longest classes"]:
        """One entry a row, with room for every token and zeros where no word begins."""
        stored = logits.new_zeros(len(self), longest, logits.shape[1])
        stored[:, : self.labels.shape[1]][self.compared[:, :longest]] = logits
        return stored

    def from_store(self, stored: Float[Tensor, "batch longest classes"]) -> Float[Tensor, "words classes"]:
        """Undo `to_store`; the labels tell where words begin."""
        length = min(stored.shape[1], self.labels.shape[1])
        return stored[:, :length][self.compared[:, :length]]


@dataclass(frozen=True)
class TokenRows(TokenisedRows):
    """A tokenised table in memory; its labels are one flat array beside the ids."""

    classes: tuple[str, ...]
    """Names of the tags in order; none where the table has no tags."""
    sentences: Sentences | None
    """The sentences of an evaluation table; None for training rows."""

    @classmethod
    def read(cls, path: Path, pad: int) -> TokenRows:
        """Read a parquet file that the tokenise stage wrote; `pad` is the tokenizer's padding id."""
        table = pq.read_table(path).combine_chunks()
        sentences = None
        if "set" in table.column_names:
            sentences = Sentences(table["sentence"].to_numpy(), table["first"].to_numpy(), table["words"].to_pylist())

        labels = table["tags"].combine_chunks().flatten().to_numpy()
        classes = classes_in_schema(table.schema)
        return cls(**tokens_in(table), labels=labels, pad=pad, classes=classes, sentences=sentences)

    def batch(self, rows: np.ndarray, device: torch.device, epoch: int = 0) -> TokenBatch:
        """These rows, padded to the longest of them or to `least`, with a label for every token."""
        values = self._padded(rows, device)

        # row-major, as boolean indexing goes: the tokens of one row after those of the other
        labels = np.full(values["input_ids"].shape, IGNORED, dtype=np.int64)
        labels[np.arange(labels.shape[1]) < self.lengths[rows][:, None]] = self.labels[self._places(rows)]
        return TokenBatch(**values | {"labels": on_device(labels, device)})

    @cached_property
    def words(self) -> tuple[Int[np.ndarray, " words"], Int[np.ndarray, " words"], Int[np.ndarray, " words"]]:
        """Row, place in the row, and label of every tagged token, in the table's order."""
        tagged = np.flatnonzero(self.labels != IGNORED)
        owner = np.repeat(np.arange(len(self)), self.lengths)[tagged]
        return owner, tagged - self.offsets[owner], self.labels[tagged].astype(np.int64)
