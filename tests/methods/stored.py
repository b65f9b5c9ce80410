"""A tiny teacher's outputs in files, for rows of very different lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from espalier.config.teacher_outputs import Reads
from espalier.data.batches import TokenisedRows
from espalier.runtime.files import write_json
from espalier.training.stored_outputs import CONTENTS, StoredOutputs, layer_numbers, open_outputs, write_outputs
from tests import tiny

DIGESTS = {"teacher": "t", "tokens": "r"}


def uneven_rows(count: int = 64, longest: int = 36) -> TokenisedRows:
    """Rows of 4 to 36 tokens, most of them short."""
    generator = np.random.default_rng(0)
    lengths = np.minimum(4 + generator.geometric(0.15, count), longest)
    return TokenisedRows(
        ids=generator.integers(4, 64, lengths.sum()),
        types=None,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        labels=np.arange(count) % 3,
        sets=None,
        pad=0,
    )


def stored(folder: Path, model: nn.Module, rows: TokenisedRows, reads: Reads, precision: str = "fp32") -> Path:
    """The note on a teacher's outputs, all layers that are read among them, as the stage writes them."""
    depth = model.config.num_hidden_layers
    layers = [] if reads.layers is None else layer_numbers(reads.layers, depth)
    model.eval()
    write_outputs(model, rows, tiny.accelerator(), folder, reads, layers, precision)
    contents = {"reads": reads.name, "why": "too dear", "layers": layers, "depth": depth, "precision": precision}
    write_json(folder / CONTENTS, contents | {"digests": DIGESTS})
    write_json(folder / "note.json", {"folder": str(folder), "digests": DIGESTS})
    return folder / "note.json"


def opened(note: Path, rows: TokenisedRows, reads: Reads) -> StoredOutputs:
    return open_outputs(note, reads, rows.lengths, DIGESTS)


def batches(rows: TokenisedRows, size: int = 16) -> list:
    """Batches in which short rows meet long ones."""
    cuts = np.array_split(np.random.default_rng(1).permutation(len(rows)), len(rows) // size)
    return [rows.batch(cut, torch.device("cpu")) for cut in cuts]
