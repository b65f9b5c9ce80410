"""The frozen teacher during training: outputs stored once, computed beside the student, or not needed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn

from espalier.data.batches import Batch, TaskRows
from espalier.evaluation.predict import all_outputs
from espalier.methods.base import Method
from espalier.models.forward import forward
from espalier.models.outputs import Outputs, Representation
from espalier.training.sharing import Share


@dataclass(frozen=True)
class StoredTeacher:
    """A frozen teacher's outputs for every training row, computed once.

    It is in eval mode, so its outputs for a row are constant: each is computed once before training, in an order that
    does not depend on the run, and looked up afterwards. Those of spans take two numbers for each place of the longest
    row, 3 KiB a window of 384 tokens: 260 MiB for SQuAD.
    """

    outputs: Outputs
    model: nn.Module

    @classmethod
    @torch.no_grad()
    def of(
        cls, model: nn.Module, rows: TaskRows, accelerator: Accelerator, representation: Representation | None
    ) -> StoredTeacher:
        """Run the teacher over all training rows."""
        return cls(all_outputs(model, rows, accelerator, representation, "teacher"), model)

    def __call__(self, batch: Batch) -> Outputs:
        """The outputs for these rows, on the batch's device."""
        # Looked up by the number of the row in its table.
        device = batch.input_ids.device
        vectors = self.outputs.representation
        logits = self.outputs.logits[batch.rows].to(device)
        return Outputs(batch.from_store(logits), None if vectors is None else vectors[batch.rows].to(device))


@dataclass(frozen=True)
class LiveTeacher:
    """A frozen teacher that runs beside the student.

    For outputs of every layer, which would fill the memory if kept, and for rows that are masked anew in every epoch.
    """

    model: nn.Module
    accelerator: Accelerator
    method: Method

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Outputs:
        """What the method compares, for these rows."""
        method, share = self.method, Share(batch)
        with self.accelerator.autocast():
            outputs = forward(self.model, share.own, method.representation, method.needs_hidden_states, method.relations)
        return share.join(outputs)

    @torch.no_grad()
    def logits(self, batch: Batch) -> Outputs:
        """Logits alone."""
        with self.accelerator.autocast():
            return forward(self.model, batch)


@dataclass(frozen=True)
class SilentTeacher:
    """A frozen teacher that is never run as a whole: no term compares with it, only its layers are used."""

    model: nn.Module

    def __call__(self, batch: Batch) -> None:
        """No outputs."""


AnyTeacher = StoredTeacher | LiveTeacher | SilentTeacher


def teacher_for(method: Method, model: nn.Module, rows: TaskRows, accelerator: Accelerator) -> AnyTeacher:
    """What the method needs of its teacher: its outputs, computed once for every row where they can be kept, or none."""
    model.requires_grad_(False).eval().to(accelerator.device)

    # Hidden states and attention of all rows would fill the memory; masked rows differ from epoch to epoch.
    if method.needs_hidden_states or method.relations is not None or not rows.same_every_epoch:
        return LiveTeacher(model, accelerator, method)

    return StoredTeacher.of(model, rows, accelerator, method.representation) if method.reads_teacher else SilentTeacher(model)
