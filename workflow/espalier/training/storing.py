"""Whether to store the outputs of a teacher's layers: they must fit the budget, and reading must be faster than computing."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from espalier.config.job_specs import Storing
from espalier.config.teacher_outputs import NumberFormat, Reads
from espalier.data.batches import TaskRows, in_length_order
from espalier.evaluation.predict import BATCH
from espalier.models.forward import forward
from espalier.training.stored_outputs import Places, as_array, depth_of, layer_numbers, mapped, width_of

GIB = 2**30
BYTES = {"fp32": 4, "bf16": 2}
SAMPLES = (0.25, 0.5, 0.75)
"""Batches that costs are measured on: where they stand among all batches, from the shortest rows to the longest."""


class Choice(NamedTuple):
    """What is stored of a teacher's layers, and why."""

    layers: list[int]
    why: str


@dataclass(frozen=True)
class Costs:
    """Seconds for all training rows once."""

    teacher: float
    write: float
    read: float

    def favour_storing(self, passes: float) -> bool:
        """Whether to write once and read in every pass is faster than to run the teacher in every pass."""
        # The pass in which the outputs are computed counts on neither side: logits are stored in any case.
        return self.write + passes * self.read < passes * self.teacher


def chosen(
    model: nn.Module,
    rows: TaskRows,
    accelerator: Accelerator,
    folder: Path,
    settings: Storing,
    reads: Reads,
    precision: NumberFormat,
) -> Choice:
    """The layers to store.

    Args:
        model: the teacher, on its device.
        rows: the training rows.
        accelerator: device and precision.
        folder: where files would be stored: the disk that is measured.
        settings: budget, and how often the outputs will be read.
        reads: what plans read.
        precision: number format of the files.
    """
    if reads.layers is None:
        return Choice([], "no outputs of layers are read")

    # Whether they fit is known before anything is computed, and does not depend on the machine.
    places, layers = Places(rows.lengths, reads.pad_to), layer_numbers(reads.layers, depth_of(model))
    size = len(layers) * places.tokens * width_of(model) * BYTES[precision] / GIB
    said = f"the outputs of {len(layers)} layers take {size:.3g} GiB, and {settings.budget_gib:g} GiB are allowed"
    if size > settings.budget_gib:
        return Choice([], f"{said}, so they are not stored")
    if settings.store == "always":
        return Choice(layers, said)

    # What is left depends on the machine: a GPU may be faster than its disk.
    costs = measured_costs(model, rows, accelerator, folder, places, layers, precision)
    stores = costs.favour_storing(settings.passes)
    compared = (
        f"{settings.passes:g} passes over the rows take {settings.passes * costs.read + costs.write:.3g} s with stored outputs "
        f"and {settings.passes * costs.teacher:.3g} s with the teacher beside the student"
    )
    return Choice(layers if stores else [], f"{said}; {compared}, so they are {'' if stores else 'not '}stored")


@torch.no_grad()
def measured_costs(
    model: nn.Module,
    rows: TaskRows,
    accelerator: Accelerator,
    folder: Path,
    places: Places,
    layers: list[int],
    precision: NumberFormat,
) -> Costs:
    """Measure a few batches, and take them to all rows by their numbers of tokens."""
    batches = list(in_length_order(rows.lengths, BATCH))
    sample = [batches[int(len(batches) * place)] for place in SAMPLES]
    times: list[float] = []
    states: list[Tensor] = []
    tokens = 0

    # The first batch runs twice: a model's first pass takes longer.
    for picked in [sample[0], *sample]:
        batch = rows.widened(int(places.widths[picked].max())).batch(picked, accelerator.device)
        began = time.perf_counter()
        with accelerator.autocast():
            outputs = forward(model, batch, hidden_states=True)

        # A GPU has ended when its numbers are here.
        outputs.logits.cpu()
        times.append(time.perf_counter() - began)
        states += [outputs.hidden_states[layer].cpu().flatten(0, 1) for layer in layers]
        tokens += batch.input_ids.numel()

    # The first pass is no part of the time, but its outputs are part of what is written and read.
    first = sample[0]
    timed = tokens - len(first) * int(places.widths[first].max())
    write, read = disk_seconds(folder, as_array(torch.cat(states), precision), precision)
    return Costs(
        teacher=sum(times[1:]) * places.tokens / timed,
        write=write * places.tokens / tokens,
        read=read * places.tokens / tokens,
    )


def disk_seconds(folder: Path, numbers: np.ndarray, precision: NumberFormat) -> tuple[float, float]:
    """Seconds for writing these numbers to a folder's disk and for reading them from there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"measured-{os.getpid()}.npy"
    try:
        began = time.perf_counter()
        with path.open("wb") as file:
            np.save(file, numbers)
            file.flush()
            os.fsync(file.fileno())
            written = time.perf_counter() - began

            # Let the system forget the file, so that it is read from the disk: all files together may not fit into memory.
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

        # As in training, where a batch is brought into memory and turned into fp32.
        began = time.perf_counter()
        mapped(path, precision).float().sum()
        return written, time.perf_counter() - began
    finally:
        path.unlink(missing_ok=True)
