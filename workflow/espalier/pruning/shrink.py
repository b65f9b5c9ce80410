"""From masks to smaller models: removed parts are cut away, the weights that stay keep their values."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel

from espalier.models.classes import auto_class, encoder_prefix, model_class
from espalier.models.modeling_espalier import Family, Shape, compact_config, family_of, shape_of
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, heads_of, in_blocks, masked_shape, units_of


@torch.no_grad()
def shrink(model: PreTrainedModel, masks: Masks) -> PreTrainedModel:
    """A copy of a stock or compact model without the parts that the masks remove.

    A sublayer without any part left becomes an identity, its LayerNorm included.

    Source: docs/methods/cofi.md §3.7, steps 2 and 3.

    Args:
        model: an encoder, alone or with a head for texts, tokens, masked-language modelling or spans; the head is as wide as
            the encoder.
        masks: one mask for each name in `full_masks` of the model's shape, True = kept.
    """
    family = family_of(model.config)
    shape = shape_of(model.config)
    kept = {name: mask.nonzero().flatten() for name, mask in masks.items()}
    axes = _axes(model, family, shape, kept)

    config = compact_config(model.config, masked_shape(shape, masks))
    small = model_class(config, auto_class(model))(config)

    # The small model's tensors say which axes shrink; what it has no name for, such as removed layers, is left behind.
    state = model.state_dict()
    for name, target in small.state_dict().items():
        target.copy_(_select_kept(state[name], target.shape, axes.get(name, {}), kept[HIDDEN]))
    return small.to(model.device).train(model.training)


def _axes(
    model: PreTrainedModel, family: Family, shape: Shape, kept: dict[str, Int[Tensor, " _"]]
) -> dict[str, dict[int, Int[Tensor, " _"]]]:
    """Parameter → axis → indices to keep, for the axes that belong to heads or units."""
    axes: dict[str, dict[int, Tensor]] = {}
    for index, (heads, units) in enumerate(shape.layers):
        place = f"{encoder_prefix(model)}{family.layers}.{index}"

        # Head j holds the dimensions j d_h … (j + 1) d_h - 1.
        columns = (kept[heads_of(index)][:, None] * shape.head_dim + torch.arange(shape.head_dim)).flatten()
        head_rows = in_blocks(columns, family.head_blocks, heads * shape.head_dim)
        unit_rows = in_blocks(kept[units_of(index)], family.ffn_blocks, units)

        # Matrices that write heads or units lose rows and entries of the bias.
        rows = dict.fromkeys(family.to_heads, head_rows) | dict.fromkeys(family.ffn_in, unit_rows)
        for path, indices in rows.items():
            axes[f"{place}.{path}.weight"] = {0: indices}
            axes[f"{place}.{path}.bias"] = {0: indices}

        # Matrices that read them lose columns.
        axes[f"{place}.{family.from_heads}.weight"] = {1: columns}
        axes[f"{place}.{family.ffn_out}.weight"] = {1: kept[units_of(index)]}
    return axes


def _select_kept(weight: Tensor, shape: torch.Size, axes: dict[int, Tensor], hidden: Tensor) -> Tensor:
    """The part of a weight that is kept.

    Args:
        weight: tensor of the large model.
        shape: its shape in the small model.
        axes: axis → indices to keep, for axes that belong to heads or units.
        hidden: hidden dimensions to keep; any other axis that shrinks belongs to the residual stream.
    """
    for axis, size in enumerate(shape):
        if weight.shape[axis] != size:
            weight = weight.index_select(axis, axes.get(axis, hidden).to(weight.device))
    return weight
