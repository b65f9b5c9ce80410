"""The frozen teacher during training: its outputs read from files, computed once or beside the student, or not needed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from espalier.config.kinds import KIND_RULES
from espalier.data.batches import Batch, TaskRows
from espalier.evaluation.predict import all_outputs
from espalier.methods.base import Method
from espalier.models.forward import forward
from espalier.models.outputs import Outputs, Representation
from espalier.training.sharing import Share
from espalier.training.stored_outputs import StoredLayers, StoredOutputs


@dataclass(frozen=True)
class StoredTeacher:
    """A frozen teacher's outputs for every training row, computed once.

    It is in eval mode, so its outputs for a row are constant: each is computed once before training, in an order that
    does not depend on the run, and looked up afterwards. Those of spans take two numbers for each place of the longest
    row, 3 KiB a window of 384 tokens: 260 MiB for SQuAD. Outputs of layers come from the files of `teach` alone.
    """

    outputs: Outputs
    model: nn.Module
    accelerator: Accelerator
    """Device and precision for rows that a batch pads to more tokens than are stored."""
    layers: StoredLayers | None = None

    @classmethod
    @torch.no_grad()
    def of(
        cls, model: nn.Module, rows: TaskRows, accelerator: Accelerator, representation: Representation | None
    ) -> StoredTeacher:
        """Run the teacher over all training rows."""
        return cls(all_outputs(model, rows, accelerator, representation, "teacher"), model, accelerator)

    def __call__(self, batch: Batch) -> Outputs:
        """The outputs for these rows, on the batch's device; every process looks up all of them."""
        # Looked up by the number of the row in its table.
        device = batch.input_ids.device
        vectors = self.outputs.representation
        logits = batch.from_store(self.outputs.logits[batch.rows].to(device))
        chosen = None if vectors is None else vectors[batch.rows].to(device)
        return Outputs(logits, chosen, () if self.layers is None else self._hidden_states(self.layers, batch))

    @torch.no_grad()
    def _hidden_states(self, stored: StoredLayers, batch: Batch) -> tuple[Float[Tensor, "batch length hidden"], ...]:
        """Outputs of all layers; in place of those that the job does not read there is not-a-number."""
        states = stored.of(batch)

        # Rows that meet much longer ones are stored for fewer tokens than the batch has: the teacher runs on these alone.
        short = stored.short(batch)
        if len(short):
            with self.accelerator.autocast():
                computed = forward(self.model, batch.part(short), hidden_states=True).hidden_states
            for layer, values in states.items():
                values[short.to(values.device)] = computed[layer].float()

        # One number takes the place of a whole layer that the job did not ask for; a loss that reads it is stopped by it.
        some = next(iter(states.values()))
        nothing = some.new_tensor(torch.nan).expand(some.shape)
        return tuple(states.get(layer, nothing) for layer in range(stored.depth))


@dataclass(frozen=True)
class LiveTeacher:
    """A frozen teacher that runs beside the student.

    For outputs of layers that are not in files, attention maps, relations and vectors of words, and for rows that are
    masked anew in every epoch.
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


def teacher_for(
    method: Method, model: nn.Module, rows: TaskRows, accelerator: Accelerator, stored: StoredOutputs | None = None
) -> AnyTeacher:
    """What the method needs of its teacher: its outputs, computed once for every row where they can be kept, or none.

    Args:
        method: of the job.
        model: the teacher.
        rows: the training rows.
        accelerator: device and precision.
        stored: what `teach` has stored of all that `method.settings.reads` names.
    """
    model.requires_grad_(False).eval().to(accelerator.device)
    if stored is not None:
        return StoredTeacher(stored.outputs, model, accelerator, stored.layers)

    # Hidden states and attention of all rows, or vectors of all words, would fill the memory; masked rows differ from epoch to
    # epoch.
    vectors = method.representation is not None and not KIND_RULES[method.stage.kind].one_vector
    if method.needs_hidden_states or method.relations is not None or vectors or not rows.same_every_epoch:
        return LiveTeacher(model, accelerator, method)

    return StoredTeacher.of(model, rows, accelerator, method.representation) if method.reads_teacher else SilentTeacher(model)
