"""All dimensions of heads and all FFN units of a model in one vector: what each weighs, and what a choice of them saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from transformers import PreTrainedModel

from espalier.models.modeling_espalier import Shape, family_of
from espalier.pruning.budget import matrices_that_read
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, full_masks, heads_of, inner_of, prunable_shape, queries_of, units_of, values_of

VALUE_WEIGHTS = 2.0
"""Weights of a dimension of values for each hidden dimension: a row of one matrix, a column of another."""


def full_row_masks(shape: Shape) -> Masks:
    """Masks that keep everything: heads and their dimensions, units and hidden dimensions."""
    masks = full_masks(shape)
    for layer in range(len(shape.layers)):
        queries, values = inner_of(shape, layer)
        masks[queries_of(layer)] = torch.ones(queries, dtype=torch.bool)
        masks[values_of(layer)] = torch.ones(values, dtype=torch.bool)
    return masks


@dataclass(frozen=True)
class RowTable:
    """Every dimension of a head and every unit; "row" is either of them here, whatever its weights are."""

    shape: Shape
    sizes: dict[str, int]
    """Name → number of rows, in the order of the vector; sublayers without any are left out."""
    weights: Float[Tensor, " rows"]
    """Weights of each row for each hidden dimension."""
    heads: Int[Tensor, " rows"]
    """Number of the row's head, counted through the model; -1 for units."""
    are_queries: Bool[Tensor, " rows"]
    whole: int
    """Dimensions of a head, of queries and of values together, in the model that the path began with."""
    dense: float
    """Weights of the matrices of that model."""

    @classmethod
    def of(cls, model: PreTrainedModel, masks: Masks) -> RowTable:
        """The rows of a model, whose masks are over the model that the path began with.

        Raises:
            UserError: the model's family, or a part of it, cannot be pruned structurally.
        """
        shape = prunable_shape(model.config, model.base_model, rows=True)
        family = family_of(model.config)

        # All matrices of heads but the values' make queries or keys: 2 for BERT, up to 4 for DeBERTa.
        query_weights = float(matrices_that_read(model) * family.head_blocks - 1)
        unit_weights = float(len(family.ffn_in) * family.ffn_blocks + 1)
        costs = {"qk": query_weights, "vo": VALUE_WEIGHTS, "ffn": unit_weights}

        # Names, sizes and heads in one order: queries, values and units of a layer, layer after layer.
        sizes: dict[str, int] = {}
        heads: list[Tensor] = []
        for layer, (_, units) in enumerate(shape.layers):
            before = sum(count for count, _ in shape.layers[:layer])
            for name, flags in zip((queries_of(layer), values_of(layer)), shape.heads_in(layer)[1:], strict=True):
                sizes[name] = "".join(flags).count("1")
                heads += [torch.full((own.count("1"),), before + head) for head, own in enumerate(flags)]
            sizes[units_of(layer)] = units
            heads.append(torch.full((units,), -1))

        sizes = {name: size for name, size in sizes.items() if size}
        kinds = [name.rpartition(".")[2] for name, size in sizes.items() for _ in range(size)]
        # M counts the model that the path began with, which masks have the size of.
        dense = sum(mask.numel() * costs.get(name.rpartition(".")[2], 0.0) for name, mask in masks.items())
        first = next(name for name in masks if name.endswith(".qk"))
        return cls(
            shape=shape,
            sizes=sizes,
            weights=torch.tensor([costs[kind] for kind in kinds]),
            heads=torch.cat(heads),
            are_queries=torch.tensor([kind == "qk" for kind in kinds], dtype=torch.bool),
            whole=2 * masks[first].numel() // masks[first.replace(".qk", ".heads")].numel(),
            dense=dense * masks[HIDDEN].numel(),
        )

    def split(self, vector: Shaped[Tensor, " rows"]) -> dict[str, Shaped[Tensor, " _"]]:
        """A vector over all rows as one for each name."""
        return dict(zip(self.sizes, vector.split(list(self.sizes.values())), strict=True))

    def joined(self, parts: Mapping[str, Shaped[Tensor, " _"]]) -> Shaped[Tensor, " rows"]:
        """The vector over all rows; 0 where a name is missing."""
        anything = next(iter(parts.values()))
        return torch.cat([parts.get(name, anything.new_zeros(size)) for name, size in self.sizes.items()])

    def left(self, kept: Bool[Tensor, " rows"]) -> Int[Tensor, " heads"]:
        """Rows that each head has left."""
        inside = kept & (self.heads >= 0)
        return torch.bincount(self.heads[inside], minlength=sum(heads for heads, _ in self.shape.layers))

    def settled(self, kept: Bool[Tensor, " rows"]) -> Bool[Tensor, " rows"]:
        """Without queries of heads that have no values left: nothing reads what those attend to."""
        # A head is there as long as it has a dimension of values.
        values = kept & ~self.are_queries
        return kept & (~self.are_queries | (self.left(values)[self.heads.clamp(min=0)] > 0))

    def saved(self, kept: Bool[Tensor, " rows"]) -> float:
        """Fraction of the first model's weights that is gone, in [0, 1]."""
        weights = self.weights.double()[kept].sum() * self.shape.hidden
        return 1.0 - float(weights) / self.dense

    def masks(self, kept: Bool[Tensor, " rows"]) -> Masks:
        """Masks over heads, their dimensions, units and hidden dimensions of the model, on the CPU."""
        masks = full_row_masks(self.shape) | self.split(kept)
        left, first = self.left(kept & ~self.are_queries) > 0, 0
        for layer, (heads, _) in enumerate(self.shape.layers):
            masks[heads_of(layer)] = left[first : first + heads]
            first += heads
        return masks
