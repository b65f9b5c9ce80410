"""What methods share that decide about whole heads and FFN units and keep the decision in masks: heads, kwon, kprune, obs."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from espalier.methods.base import Method
from espalier.pruning.budget import SizeBudget
from espalier.pruning.masks import Masks
from espalier.pruning.parts import full_masks, masks_of, part_counts, prunable_shape, within


class PartRemoval(Method):
    """A method whose parts are there or gone; `open` says which, and is put in by the method itself."""

    masks_over = "parts"
    open: dict[str, Tensor]
    """Heads or units of a sublayer → which of them are there, 1 or 0; sublayers without parts are left out."""

    def begin(self, student: PreTrainedModel, masks: Masks | None) -> None:
        """Note the student's shape and size, and what was kept before."""
        self.student = student
        self.shape = prunable_shape(student.config)
        self.before = full_masks(self.shape) if masks is None else masks
        self.size = SizeBudget.of(student, self.before, self.stage.target)

    def end(self) -> Masks:
        """What is kept of the model that the path began with."""
        return within(self.before, masks_of(self.open, self.shape)) if self.stage.removes else self.before

    @property
    def sparsity(self) -> float:
        """Fraction of the encoder's weights removed so far."""
        return float(self.size.saved(masks_of(self.open, self.shape)))

    def structure(self) -> dict[str, Any]:
        """Heads, units and hidden dimensions that are kept."""
        return {"sparsity": self.sparsity, **part_counts(self.end())}
