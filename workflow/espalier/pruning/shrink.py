"""From masks to smaller models: removed parts are cut away, the weights that stay keep their values."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel

from espalier.models.classes import auto_class, encoder_prefix, model_class
from espalier.models.modeling_espalier import Family, Shape, blocks_of, compact_config, family_of, find, shape_of
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, heads_of, in_blocks, inner_of, masked_shape, queries_of, units_of, values_of

SCALED = (0, 4)
"""Numbers of the matrices that make queries, among those that heads read with: of tokens and, in DeBERTa, of positions."""


@torch.no_grad()
def shrink(model: PreTrainedModel, masks: Masks) -> PreTrainedModel:
    """A copy of a stock or compact model without the parts that the masks remove.

    A sublayer without any part left becomes an identity, its LayerNorm included. Attention divides scores by the root of a
    head's size; where that changes, queries are scaled, so that scores stay.

    Source: docs/methods/cofi.md §3.7, steps 2 and 3; docs/methods/grain.md §3 for dimensions of heads.

    Args:
        model: an encoder, alone or with a head for texts, tokens, masked-language modelling or spans; the head is as wide as
            the encoder.
        masks: one mask for each name in `full_masks` of the model's shape, True = kept; also over dimensions of heads, under
            the names of `queries_of` and `values_of`, where single ones go. A head that goes has none left there.
    """
    family = family_of(model.config)
    shape = shape_of(model.config)
    kept = {name: mask.nonzero().flatten() for name, mask in masks.items()}
    axes = _axes(model, family, shape, kept)

    wanted = masked_shape(shape, masks, rotary=family.rotary)
    config = compact_config(model.config, wanted)
    small = model_class(config, auto_class(model))(config)

    # The small model's tensors say which axes shrink; what it has no name for, such as removed layers, is left behind.
    state = model.state_dict()
    for name, target in small.state_dict().items():
        target.copy_(_select_kept(state[name], target.shape, axes.get(name, {}), kept[HIDDEN]))
    _keep_scores(small, family, shape, wanted)
    return small.to(model.device).train(model.training)


def _axes(
    model: PreTrainedModel, family: Family, shape: Shape, kept: dict[str, Int[Tensor, " _"]]
) -> dict[str, dict[int, Int[Tensor, " _"]]]:
    """Parameter → axis → indices to keep, for the axes that belong to heads or units."""
    axes: dict[str, dict[int, Tensor]] = {}
    for index, (_, units) in enumerate(shape.layers):
        place = f"{encoder_prefix(model)}{family.layers}.{index}"

        queries, values = _inner_kept(shape, index, kept)
        unit_rows = in_blocks(kept[units_of(index)], family.ffn_blocks, units)

        # Matrices that write heads or units lose rows and entries of the bias.
        rows = {path: _head_rows(family, number, shape, index, queries, values) for number, path in enumerate(family.to_heads)}
        rows |= dict.fromkeys(family.ffn_in, unit_rows)
        for path, indices in rows.items():
            axes[f"{place}.{path}.weight"] = {0: indices}
            axes[f"{place}.{path}.bias"] = {0: indices}

        # Matrices that read them lose columns.
        axes[f"{place}.{family.from_heads}.weight"] = {1: values}
        axes[f"{place}.{family.ffn_out}.weight"] = {1: kept[units_of(index)]}
    return axes


def _inner_kept(shape: Shape, layer: int, kept: dict[str, Int[Tensor, " _"]]) -> tuple[Int[Tensor, " _"], Int[Tensor, " _"]]:
    """Indices of the dimensions of a layer's queries and values that are kept, among those of all heads together."""
    indices = []
    for name, flags in zip((queries_of(layer), values_of(layer)), shape.heads_in(layer)[1:], strict=True):
        # Where dimensions have no masks of their own, those of a head stay or go together.
        sizes = torch.tensor([dimensions.count("1") for dimensions in flags], dtype=torch.long)
        heads = torch.arange(len(flags)).repeat_interleave(sizes)
        indices.append(kept.get(name, torch.isin(heads, kept[heads_of(layer)].cpu()).nonzero().flatten()))
    return indices[0], indices[1]


def _head_rows(
    family: Family, number: int, shape: Shape, layer: int, queries: Int[Tensor, " _"], values: Int[Tensor, " _"]
) -> Int[Tensor, " _"]:
    """Indices of the rows that a matrix of heads keeps, whose blocks stand one after another."""
    # Blocks of queries and of values may have unequal numbers of rows.
    sizes = blocks_of(family, number, *inner_of(shape, layer))
    rows = [
        indices + sum(sizes[:block]) for block, indices in enumerate(blocks_of(family, number, queries.cpu(), values.cpu()))
    ]
    return torch.cat(rows)


def _keep_scores(small: PreTrainedModel, family: Family, before: Shape, after: Shape) -> None:
    """Scale queries where heads have become narrower: q k / sqrt(d) = (q sqrt(d' / d)) k / sqrt(d')."""
    for index, layer in zip(range(len(after.layers)), find(small.base_model, family.layers), strict=True):
        # d' is the size that attention will see, d the one that it has seen.
        factor = (after.heads_in(index).size / before.heads_in(index).size) ** 0.5
        if factor == 1.0 or not after.layers[index][0]:
            continue

        # In stacked matrices queries have no module of their own; there heads keep their size.
        for number in SCALED:
            module = find(layer, family.to_heads[number]) if number < len(family.to_heads) else None
            for parameter in () if module is None else module.parameters():
                parameter.mul_(factor)


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
