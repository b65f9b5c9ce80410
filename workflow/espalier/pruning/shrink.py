"""Masks → smaller models: the removed parts are physically gone, the weights that stay are the same numbers."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel

from espalier.models.classes import auto_class, model_class
from espalier.models.modeling_espalier import Family, Shape, compact_config, family_of, shape_of
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, heads_of, masked_shape, units_of


@torch.no_grad()
def shrink(model: PreTrainedModel, masks: Masks) -> PreTrainedModel:
    """A copy of a stock or compact model without what the masks remove.

    A sublayer of which nothing is kept becomes an identity, its LayerNorm included.

    Args:
        model: with a classification head, or one for masked-language modelling or spans, which is as wide as the encoder.
        masks: named as `full_masks` of the model's own shape, True = kept.
    """
    family, shape = family_of(model.config), shape_of(model.config)
    config = compact_config(model.config, masked_shape(shape, masks))
    kept = {name: mask.nonzero().flatten() for name, mask in masks.items()}
    axes, state = _axes(model, family, shape, kept), model.state_dict()
    small = model_class(config, auto_class(model))(config)
    for name, target in small.state_dict().items():
        target.copy_(_cut(state[name], target.shape, axes.get(name, {}), kept[HIDDEN]))
    return small.to(model.device).train(model.training)


def _axes(
    model: PreTrainedModel, family: Family, shape: Shape, kept: dict[str, Int[Tensor, " _"]]
) -> dict[str, dict[int, Int[Tensor, " _"]]]:
    """Parameter → axis → indices to keep, for the axes that belong to heads or units."""
    found: dict[str, dict[int, Tensor]] = {}
    for index, (heads, units) in enumerate(shape.layers):
        place = f"{model.base_model_prefix}.{family.layers}.{index}"
        columns = (kept[heads_of(index)][:, None] * shape.head_dim + torch.arange(shape.head_dim)).flatten()
        rows = _in_blocks(columns, family.head_blocks, heads * shape.head_dim)
        unit_rows = _in_blocks(kept[units_of(index)], family.ffn_blocks, units)
        for path, part in (*((path, rows) for path in family.to_heads), (family.ffn_in, unit_rows)):
            found |= {f"{place}.{path}.weight": {0: part}, f"{place}.{path}.bias": {0: part}}
        found[f"{place}.{family.from_heads}.weight"] = {1: columns}
        found[f"{place}.{family.ffn_out}.weight"] = {1: kept[units_of(index)]}
    return found


def _in_blocks(indices: Int[Tensor, " _"], blocks: int, size: int) -> Int[Tensor, " _"]:
    return torch.cat([indices + block * size for block in range(blocks)])


def _cut(weight: Tensor, shape: torch.Size, axes: dict[int, Tensor], hidden: Tensor) -> Tensor:
    """Select along the axes that shrink; those that belong neither to heads nor to units are the residual stream's."""
    for axis, size in enumerate(shape):
        if weight.shape[axis] != size:
            weight = weight.index_select(axis, axes.get(axis, hidden).to(weight.device))
    return weight
