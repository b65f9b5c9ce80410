"""A small student of equal size without any search, with logit distillation: what structured pruning must beat.

`sliced` keeps heads and FFN units at random, the same share in every layer; `layers` keeps evenly spaced layers, as few
as can hold the size, and slices them to it. The cut comes first, so training is as fast as the student is small.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import PreTrainedModel

from espalier.config.methods.structured import GateKind, SmallDensePlan
from espalier.losses.layer_matching import evenly_spaced
from espalier.methods.logit_distillation import LogitDistillation
from espalier.methods.refitting import Refitting
from espalier.models.modeling_espalier import whole_heads
from espalier.pruning.budget import SizeBudget
from espalier.pruning.equal_layers import equal_shape, with_narrow_head
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, full_masks, heads_of, part_counts, prunable_shape, sizes, units_of, within
from espalier.pruning.shrink import shrink
from espalier.runtime.errors import UserError


class SmallDense(Refitting, LogitDistillation):
    """Cut before training."""

    settings: SmallDensePlan
    masks_over = "parts"

    def cut(self, student: PreTrainedModel, masks: Masks | None) -> PreTrainedModel:
        """The small student, with the weights that it keeps."""
        before = full_masks(prunable_shape(student.config)) if masks is None else masks
        chosen = self._choose(SizeBudget.of(student, before, self.stage.target), whole_heads(student.config) > 0)

        # Masks are over the model that the path began with, the cut is in the student that came.
        self.kept = within(before, chosen)
        small = shrink(student, chosen)
        return with_narrow_head(small, small.config.hidden_size) if self.settings.layers == "equal" else small

    def begin(self, student: PreTrainedModel, masks: Masks | None) -> None:
        """Nothing is left to remove."""
        self.student = student
        if not self.stage.removes:
            self.kept = full_masks(prunable_shape(student.config)) if masks is None else masks

    @property
    def dimensions(self) -> Bool[Tensor, " hidden"]:
        """Hidden dimensions that were kept."""
        return self.kept[HIDDEN]

    def _choose(self, budget: SizeBudget, whole: bool) -> Masks:
        """Heads and units at random; their numbers differ by at most one between layers.

        Args:
            budget: the size.
            whole: whether a layer keeps all of its heads, as some families need it.
        """
        if self.settings.layers == "equal":
            return self._choose_equal(budget, ("units",) if whole else ("heads", "units", "hidden"))

        shape = budget.shape
        layers = [index for index, sizes in enumerate(shape.layers) if sizes != (0, 0)]

        # Weights of heads and units are counted for each hidden dimension, of which all stay.
        weights = budget.dense * (1.0 - budget.target) / shape.hidden
        there = _weights_of(layers, budget)
        if self.settings.kind == "layers":
            # A hair less, so that a whole number of layers is not rounded up.
            count = max(1, math.ceil(weights / there * len(layers) - 1e-9))
            layers = [layers[place] for place in evenly_spaced(len(layers), count)]
            there = _weights_of(layers, budget)

        # The same share of heads as of all weights; units, which are small, make up the rest.
        heads = sum(shape.layers[index][0] for index in layers)
        heads = heads if whole else round(weights / there * heads)
        units = round((weights - heads * budget.head_weights) / budget.unit_weights)
        if units < 0:
            raise UserError(
                f"target {100 * budget.target:.4g} % is out of reach of method small-dense: {len(layers)} layers keep all of "
                "their heads in this family, which are more; choose another target"
            )

        masks = {name: torch.zeros_like(mask) for name, mask in full_masks(shape).items()}
        masks["hidden"][:] = True
        self._spread(masks, heads_of, heads, {index: shape.layers[index][0] for index in layers})
        self._spread(masks, units_of, units, {index: shape.layers[index][1] for index in layers})
        return masks

    def _choose_equal(self, budget: SizeBudget, kinds: tuple[GateKind, ...]) -> Masks:
        """Equally many heads and units of every layer at random, and hidden dimensions as many as the heads have."""
        shape = equal_shape(budget, kinds)
        masks = {name: torch.zeros_like(mask) for name, mask in full_masks(budget.shape).items()}
        for name, count in sizes(shape).items():
            masks[name][torch.randperm(len(masks[name]), generator=self.generator)[:count]] = True
        return masks

    def _spread(self, masks: Masks, name: Any, count: int, sizes: dict[int, int]) -> None:
        """Keep `count` parts at random, as evenly over the layers as their sizes allow."""
        order = [list(sizes)[place] for place in torch.randperm(len(sizes), generator=self.generator).tolist()]

        # Small layers come first: what they cannot hold goes to the others.
        order.sort(key=lambda index: sizes[index])

        for place, index in enumerate(order):
            # An equal share, rounded up, of what is still to be placed.
            share = min(sizes[index], -(-count // (len(order) - place)))
            chosen = torch.randperm(sizes[index], generator=self.generator)[:share]
            masks[name(index)][chosen] = True
            count -= share

    def end(self) -> Masks:
        """What is kept of the model that the path began with."""
        return self.kept

    @property
    def sparsity(self) -> float:
        """Fraction of the encoder's weights removed."""
        return float(SizeBudget.of(self.student, self.kept, 0.0).saved({}))

    def structure(self) -> dict[str, Any]:
        """Heads, units and hidden dimensions that are kept."""
        return {"sparsity": self.sparsity, **part_counts(self.kept)}


def _weights_of(layers: list[int], budget: SizeBudget) -> float:
    """Weights of the heads and units of some layers, for each hidden dimension."""
    sizes = [budget.shape.layers[layer] for layer in layers]
    return sum(budget.head_weights * heads + budget.unit_weights * units for heads, units in sizes)
