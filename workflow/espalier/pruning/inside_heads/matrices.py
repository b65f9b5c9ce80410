"""Weights of the dimensions of heads and of FFN units: where they stand, sums over them, and setting them to zero.

Source: GRAIN (Yang, Cui, Yao, Wang 2023; docs/methods/grain.md §2.1). A dimension of queries and keys is a row of each matrix
that makes them. A dimension of values is a row of the values' matrix and a column of the output matrix. A unit is a row of the
matrix that reads the stream (two, where the FFN is gated) and a column of the one that writes to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from transformers import PreTrainedModel

from espalier.models.modeling_espalier import blocks_of, family_of, find, shape_of
from espalier.pruning.masks import Masks
from espalier.pruning.parts import queries_of, units_of, values_of
from espalier.pruning.widths import MOMENTS


@dataclass(frozen=True)
class RowMatrix:
    """A matrix whose rows, or whose columns, belong to dimensions of heads or to units."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    """Its bias, where rows belong to them; columns have none."""
    axis: int
    """0 for rows, 1 for columns."""
    names: Sequence[str]
    """Whose they are, for each of the blocks that stand one after another."""

    def along(self, parts: Mapping[str, Shaped[Tensor, " _"]]) -> Shaped[Tensor, "..."]:
        """One number for each dimension or unit, in the shape that multiplies the weight."""
        numbers = torch.cat([parts[name] for name in self.names])
        return numbers[:, None] if self.axis == 0 else numbers


def matrices_of(model: PreTrainedModel) -> list[RowMatrix]:
    """The matrices of all heads and FFN units of a model, layer by layer."""
    return list(_matrices(model))


def _matrices(model: PreTrainedModel) -> Iterator[RowMatrix]:
    family, shape = family_of(model.config), shape_of(model.config)
    for index, (layer, (heads, units)) in enumerate(zip(find(model.base_model, family.layers), shape.layers, strict=True)):
        if heads:
            for number, path in enumerate(family.to_heads):
                # a family may name matrices that only some of its models have
                if (module := find(layer, path)) is not None:
                    names = blocks_of(family, number, queries_of(index), values_of(index))
                    yield RowMatrix(module.weight, module.bias, 0, names)
            yield RowMatrix(find(layer, family.from_heads).weight, None, 1, [values_of(index)])
        if units:
            for path in family.ffn_in:
                reads = find(layer, path)
                yield RowMatrix(reads.weight, reads.bias, 0, [units_of(index)] * family.ffn_blocks)
            yield RowMatrix(find(layer, family.ffn_out).weight, None, 1, [units_of(index)])


@torch.no_grad()
def sums_over(
    matrices: Sequence[RowMatrix], gradients: Sequence[Tensor | None], sizes: Mapping[str, int]
) -> dict[str, Float[Tensor, " _"]]:
    """Sum of w dL/dw over the weights of each dimension of a head and of each unit; biases do not count.

    Source: docs/methods/grain.md §2.1.
    Differs from the authors' code: written from the paper's description.

    Args:
        matrices: of the model.
        gradients: dL/dw of each matrix; None where the loss does not depend on it.
        sizes: numbers of dimensions and units, by name.
    """
    totals: dict[str, Tensor] = {}
    for matrix, gradient in zip(matrices, gradients, strict=True):
        if gradient is None:
            continue
        lines = (matrix.weight * gradient).sum(dim=1 - matrix.axis)
        for name, block in zip(matrix.names, lines.split([sizes[name] for name in matrix.names]), strict=True):
            totals[name] = totals[name] + block if name in totals else block
    return totals


@torch.no_grad()
def set_to_zero(matrices: Sequence[RowMatrix], kept: Masks, optimizer: torch.optim.Optimizer | None) -> None:
    """Set the weights and biases of what is gone to zero, and Adam's moments of them."""
    for matrix in matrices:
        mask = matrix.along(kept)
        for parameter, own in _with_bias(matrix, mask):
            parameter.mul_(own)

            # A moment that is not 0 would move a removed weight although its gradient is 0.
            state = optimizer.state.get(parameter, {}) if optimizer is not None else {}
            for moment in MOMENTS:
                if moment in state:
                    state[moment].mul_(own)


@torch.no_grad()
def mask_gradients(matrices: Sequence[RowMatrix], kept: Masks) -> None:
    """Set the gradients of what is gone to zero."""
    for matrix in matrices:
        for parameter, own in _with_bias(matrix, matrix.along(kept)):
            if parameter.grad is not None:
                parameter.grad.mul_(own)


def _with_bias(matrix: RowMatrix, mask: Bool[Tensor, "..."]) -> Iterator[tuple[nn.Parameter, Bool[Tensor, "..."]]]:
    yield matrix.weight, mask
    if matrix.bias is not None:
        yield matrix.bias, mask.flatten()
