"""Packed rows of an unlabelled corpus: memory-mapped, masked anew in every epoch.

The rows lie in an Arrow IPC file that the stage `pack` writes: record batches of `CHUNK` rows, each row a list of fixed
length, the last row of a set filled up with padding. Nothing of it is read before a batch asks for it.

Masks follow Devlin et al. 2019, arXiv 1810.04805, section 3.1 and `create_pretraining_data.py`: 15 % of a row's tokens,
special tokens counted but never chosen; of those 80 % become [MASK], 10 % another token, 10 % stay. They are a function
of (seed, epoch, row) alone, so a teacher, its student and a resumed run see the same. All full rows have equally many,
so that every row, and every token asked for, counts the same in a batch of any size.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from espalier.data.batches import IGNORED, Batch, TaskRows, on_device

CHUNK = 1024
"""Rows in a record batch."""
MASKED, TO_MASK, TO_RANDOM = 0.15, 0.8, 0.1
"""Fraction of the tokens that is asked for; of these, fractions that become [MASK] and another token."""
FIXED_SEED = 0
"""Seed of the masks of evaluation rows: every model is asked the same."""
VOCABULARY_KEY = b"espalier"


@dataclass(frozen=True)
class Vocabulary:
    """What masking needs to know of a tokenizer; stored in the file's schema."""

    size: int
    pad: int
    mask: int
    special: tuple[int, ...]
    """Ids that are never masked, the two above among them."""

    def metadata(self) -> dict[bytes, bytes]:
        """For the schema."""
        return {VOCABULARY_KEY: json.dumps(vars(self)).encode()}

    @classmethod
    def of(cls, schema: pa.Schema) -> Vocabulary:
        """What `metadata` gave."""
        content = json.loads(schema.metadata[VOCABULARY_KEY])
        return cls(**content | {"special": tuple(content["special"])})


@dataclass(frozen=True)
class MaskedBatch(Batch):
    """Rows with masked tokens; labels are the token at every masked place and -100 elsewhere, in the shape of the rows."""

    @property
    def masked(self) -> Bool[Tensor, "batch length"]:
        """Where tokens are to be predicted."""
        return self.labels != IGNORED

    def logits_of(self, output: Any) -> Float[Tensor, "masked vocabulary"]:
        """One line a masked token, in row-major order of the mask; the model gives them as a single row."""
        return output.logits.squeeze(0)

    def lines(self, sizes: Sequence[int]) -> list[int]:
        """One line of logits a masked token."""
        tokens = self.masked.sum(dim=1).cpu()
        return [int(part.sum()) for part in tokens.split(list(sizes))]


class PackedRows(TaskRows):
    """Rows of one length in a file that is mapped into memory, with masks in the place of labels."""

    same_every_epoch = False

    def __init__(self, path: Path, seed: int) -> None:
        self.seed = seed
        self.file = pa.ipc.open_file(pa.memory_map(str(path)))
        self.vocabulary = Vocabulary.of(self.file.schema)
        self.chunks = [_ids(self.file.get_batch(index)) for index in range(self.file.num_record_batches)]
        self.special = np.zeros(self.vocabulary.size, dtype=bool)
        self.special[list(self.vocabulary.special)] = True

    def __len__(self) -> int:
        return sum(map(len, self.chunks))

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row: all count as full, one number in memory."""
        return np.broadcast_to(np.int64(self.chunks[0].shape[1]), len(self))

    @cached_property
    def sets(self) -> np.ndarray:  # type: ignore[override]  # read when it is first asked for, which training never does
        """Name of each row's evaluation set."""
        return np.concatenate([self.file.get_batch(index)["set"].to_pylist() for index in range(len(self.chunks))])

    def batch(self, rows: np.ndarray, device: torch.device, epoch: int = 0) -> MaskedBatch:
        """These rows, under the masks of the epoch."""
        ids = np.stack([self.chunks[row // CHUNK][row % CHUNK] for row in rows])
        real = ids != self.vocabulary.pad
        inputs, labels = masked(ids, real, self.special, uniforms(self.seed, epoch, rows, ids.shape[1]), self.vocabulary.mask)

        return MaskedBatch(
            rows=torch.from_numpy(np.asarray(rows, dtype=np.int64)),
            input_ids=on_device(inputs, device),
            attention_mask=on_device(real.astype(np.int64), device),
            token_type_ids=None,
            labels=on_device(labels, device),
        )


def _ids(batch: pa.RecordBatch) -> Int[np.ndarray, "rows length"]:
    column = batch["input_ids"]
    return column.flatten().to_numpy(zero_copy_only=True).reshape(len(column), column.type.list_size)


def uniforms(seed: int, epoch: int, rows: Sequence[int] | np.ndarray, length: int) -> Float[np.ndarray, "batch 3 length"]:
    """Three numbers in [0, 1) for each token: a function of (seed, epoch, row), whatever else is in the batch.

    Philox counts: the key is the run and the epoch, the counter begins at a place of the row's own.
    """
    draws = np.empty((len(rows), 3, length))
    for draw, row in zip(draws, rows, strict=True):
        np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, row])).random(out=draw)
    return draws


def masked(
    ids: Int[np.ndarray, "batch length"],
    real: Bool[np.ndarray, "batch length"],
    special: Bool[np.ndarray, " vocabulary"],
    draws: Float[np.ndarray, "batch 3 length"],
    mask: int,
) -> tuple[Int[np.ndarray, "batch length"], Int[np.ndarray, "batch length"]]:
    """What the model sees, and the tokens that it is asked for, `IGNORED` elsewhere.

    Source: Devlin et al. 2019, arXiv 1810.04805, section 3.1.
    Differs from the authors' code: single word pieces, as in its first version; no upper bound on a row's masks but 15 %.

    Args:
        ids: tokens.
        real: False for padding.
        special: which tokens are never chosen.
        draws: which tokens are chosen (the lowest), what becomes of them, and by which token they are replaced.
        mask: id of [MASK].
    """
    order, fate, other = draws.swapaxes(0, 1)
    order = np.where(special[ids], 2.0, order)
    counts = np.maximum(1, np.rint(MASKED * real.sum(axis=1)).astype(np.int64))
    highest = np.take_along_axis(np.sort(order, axis=1), counts[:, None] - 1, axis=1)
    chosen = (order <= highest) & (order < 1.0)
    labels = np.where(chosen, ids, IGNORED).astype(np.int64)
    random = (other * len(special)).astype(np.int64)
    replaced = np.where(fate < TO_MASK, mask, np.where(fate < TO_MASK + TO_RANDOM, random, ids))
    return np.where(chosen, replaced, ids).astype(np.int64), labels
