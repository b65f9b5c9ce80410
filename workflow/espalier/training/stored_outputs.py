"""A teacher's outputs for all training rows in files: written once, mapped into memory by the jobs that read them.

Logits and vectors are small. The output of a layer has a file of its own, one line for each stored token, in which rows of
similar length stand together, because they meet in batches. A row is stored beyond its own length: losses may be means over
padding too, and the batch that a row is in may be longer. What the teacher says of a place that is padded depends on the row
and the place alone, not on how long the batch is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor, nn

from espalier.config.teacher_outputs import Layers, NumberFormat, Reads
from espalier.data.batches import Batch, TaskRows, in_length_order
from espalier.evaluation.predict import BATCH, outputs_by_batch, table_order
from espalier.losses.layer_matching import evenly_spaced
from espalier.models.outputs import Outputs
from espalier.runtime.files import atomic, read_json, sha256

CONTENTS = "stored.json"
"""What the files of a folder hold, and why; written after them."""
STORED_MULTIPLE, LEAST_MORE = 8, 4
"""Rows are stored for a quarter more tokens than they have, at least `LEAST_MORE`, and then for a multiple of
`STORED_MULTIPLE`: a third more in all. Batches of 32 are longer than that for 0.5 % of their tokens with lengths as in MRPC,
6 % as in RTE."""


class NotStoredError(Exception):
    """A job's outputs of its teacher are not in files; the message says why."""


@dataclass(frozen=True)
class Places:
    """Where the tokens of each row stand in the files of layers."""

    lengths: Int[np.ndarray, " rows"]
    """Tokens of each row."""
    pad_to: int | None
    """Tokens to store of every row; None where batches are as long as their longest row."""

    @cached_property
    def widths(self) -> Int[np.ndarray, " rows"]:
        """Tokens that are stored of each row, padding included."""
        longest = int(self.lengths.max())
        if self.pad_to is not None:
            return np.full_like(self.lengths, max(self.pad_to, longest))

        # min(longest, roundup(n + max(n / 4, 4), 8)) for a row of n tokens: no batch is longer than the longest row.
        wide = self.lengths + np.maximum(self.lengths // 4, LEAST_MORE)
        return np.minimum(-(-wide // STORED_MULTIPLE) * STORED_MULTIPLE, longest)

    @cached_property
    def first(self) -> Int[np.ndarray, " rows"]:
        """The line of each row's first token."""
        # The order in which the teacher goes over the rows, so that files grow from their beginning to their end.
        order = np.concatenate(list(in_length_order(self.lengths, BATCH)))
        first = np.empty_like(self.widths)
        first[order] = np.cumsum(self.widths[order]) - self.widths[order]
        return first

    @property
    def tokens(self) -> int:
        """Lines of a file."""
        return int(self.widths.sum())


@dataclass(frozen=True)
class StoredLayers:
    """Outputs of some layers at the tokens of all rows."""

    states: Mapping[int, Float[Tensor, "tokens hidden"]]
    """Layer → its output, mapped into memory."""
    depth: int
    """Layers of the teacher."""
    places: Places

    def of(self, batch: Batch) -> dict[int, Float[Tensor, "batch length hidden"]]:
        """The outputs for these rows on the batch's device; where a row is stored for fewer tokens, its last one again."""
        # Line of token t of row r: first[r] + t. One look-up brings all lines of a batch, in the order of the batch.
        rows, length = batch.rows.numpy(), batch.input_ids.shape[1]
        within = np.minimum(np.arange(length), self.places.widths[rows, None] - 1)
        lines = torch.from_numpy(self.places.first[rows, None] + within)

        return {
            layer: states.index_select(0, lines.flatten()).unflatten(0, lines.shape).to(batch.input_ids.device).float()
            for layer, states in self.states.items()
        }

    def short(self, batch: Batch) -> Int[Tensor, " some"]:
        """The rows of a batch, counted in it, that are stored for fewer tokens than it has."""
        return torch.from_numpy(np.flatnonzero(self.places.widths[batch.rows.numpy()] < batch.input_ids.shape[1]))


@dataclass(frozen=True)
class StoredOutputs:
    """A teacher's outputs for all training rows, as a job reads them."""

    outputs: Outputs
    """Logits and the vectors that the job reads, one entry a row."""
    layers: StoredLayers | None
    """None where the job reads no layers."""


def layer_numbers(layers: Layers, depth: int) -> list[int]:
    """The layers, counted from 0, that a plan reads of a teacher with `depth` of them."""
    return list(range(depth)) if layers == "all" else evenly_spaced(depth, layers)


def write_outputs(
    model: nn.Module,
    rows: TaskRows,
    accelerator: Accelerator,
    folder: Path,
    reads: Reads,
    layers: Sequence[int],
    precision: NumberFormat,
) -> None:
    """Run a teacher over all rows and write its logits, the vector that is read, and the outputs of these layers."""
    places = Places(rows.lengths, reads.pad_to)
    longest = int(rows.lengths.max())
    order: list[np.ndarray] = []
    logits: list[Tensor] = []
    vectors: list[Tensor] = []

    with ExitStack() as open_files:
        shape = (places.tokens, width_of(model))
        files = {layer: open_files.enter_context(_growing(layer_file(folder, layer), shape, precision)) for layer in layers}

        # Where no layers are stored, rows are padded no further than they must be.
        widths = places.widths if layers else None
        passes = outputs_by_batch(model, rows, accelerator, "teacher", reads.representation, bool(layers), widths)
        for batch, outputs in passes:
            order.append(batch.rows.numpy())
            logits.append(batch.to_store(outputs.logits, longest).float().cpu())
            vectors += [] if outputs.representation is None else [outputs.representation.float().cpu()]

            # Only what is stored of each row: in this batch there may be longer ones.
            if files:
                inside = torch.from_numpy(np.arange(batch.input_ids.shape[1]) < places.widths[order[-1], None])
                for layer, file in files.items():
                    file.write(as_array(outputs.hidden_states[layer].cpu()[inside], precision).data)

    # Batches went by length; logits and vectors lie in the order of the table.
    back = table_order(order)
    for name, parts in (("logits", logits), ("vectors", vectors)):
        if parts:
            with atomic(folder / f"{name}.npy") as path:
                np.save(path, torch.cat(parts)[back].numpy())


def width_of(model: nn.Module) -> int:
    """Hidden width of a model."""
    config: Any = model.config
    return int(config.hidden_size)


def depth_of(model: nn.Module) -> int:
    """Encoder layers of a model."""
    config: Any = model.config
    return int(config.num_hidden_layers)


def layer_file(folder: Path, layer: int) -> Path:
    """The file of a layer's outputs."""
    return folder / f"layer{layer}.npy"


@contextmanager
def _growing(path: Path, shape: tuple[int, int], precision: NumberFormat) -> Iterator[BinaryIO]:
    """A file of numbers of this shape, to be written line by line, so that a full disk is an error and no crash."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        description = {"descr": "<f4" if precision == "fp32" else "<i2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, description)
        yield file


def as_array(states: Float[Tensor, "tokens hidden"], precision: NumberFormat) -> np.ndarray:
    """Numbers as they are stored: numpy knows no bf16, whose bits are those of a whole number."""
    return states.float().numpy() if precision == "fp32" else states.bfloat16().view(torch.int16).numpy()


def mapped(path: Path, precision: NumberFormat = "fp32") -> Tensor:
    """What a file holds, mapped into memory; nothing is ever written back.

    Raises:
        NotStoredError: the file is not there, or not whole.
    """
    try:
        # Copy on write: torch warns of memory that it may not write to.
        numbers = torch.from_numpy(np.load(path, mmap_mode="c"))
    except (OSError, ValueError) as error:
        raise NotStoredError(f"{path} cannot be read ({error})") from None
    return numbers if precision == "fp32" else numbers.view(torch.bfloat16)


def digests_of(teacher: Sequence[Path], tokens: Sequence[Path]) -> dict[str, str]:
    """By which stored outputs know their teacher and their rows, whose files come in the order of the rows."""
    return {"teacher": " ".join(sorted(sha256(path) for path in teacher)), "tokens": " ".join(map(sha256, tokens))}


def open_outputs(note: Path, reads: Reads, lengths: Int[np.ndarray, " rows"], digests: Mapping[str, str]) -> StoredOutputs:
    """The stored outputs that a job reads.

    Args:
        note: what `teach` wrote about them.
        reads: what the job reads.
        lengths: tokens of each training row.
        digests: of the job's teacher and rows.

    Raises:
        NotStoredError: something is not stored, or is stored of another teacher or other rows.
    """
    # The note travels with the results, the files do not: they may be gone, or those of another run.
    said = read_json(note)
    contents = Path(said["folder"]) / CONTENTS
    if not contents.is_file():
        raise NotStoredError(f"{contents} is not there; `snakemake --forcerun teach --until teach` stores the files again")
    stored = read_json(contents)
    if not said["digests"] == stored["digests"] == digests or stored["reads"] != reads.name:
        raise NotStoredError(f"{note} or {contents} is on another teacher, on other rows or on what another plan reads")

    # Layers that do not pay, or do not fit, are left out by choice; so the choice's own reason is given.
    wanted = [] if reads.layers is None else layer_numbers(reads.layers, stored["depth"])
    if not set(wanted) <= set(stored["layers"]):
        raise NotStoredError(stored["why"])

    return map_outputs(contents.parent, reads, wanted, Places(lengths, reads.pad_to), stored["depth"], stored["precision"])


def map_outputs(
    folder: Path, reads: Reads, layers: Sequence[int], places: Places, depth: int, precision: NumberFormat
) -> StoredOutputs:
    """What `write_outputs` has written to a folder, mapped into memory.

    Args:
        folder: with the files.
        reads: what is read.
        layers: the layers that are read, counted from 0; all of them are stored.
        places: of the rows' tokens in the files.
        depth: layers of the teacher.
        precision: number format of the outputs of layers.

    Raises:
        NotStoredError: a file is not there, or not whole.
    """
    vectors = None if reads.representation is None else mapped(folder / "vectors.npy")
    outputs = Outputs(mapped(folder / "logits.npy"), vectors)
    if not layers:
        return StoredOutputs(outputs, None)
    states = {layer: mapped(layer_file(folder, layer), precision) for layer in layers}
    return StoredOutputs(outputs, StoredLayers(states, depth, places))
