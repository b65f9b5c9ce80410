"""Gates that are neither 0 nor 1, folded into the weights: the model without gates gives the same logits.

Source: docs/methods/cofi.md §3.7, exact folding. The hidden gate goes into embedding columns, into weight and bias of every
LayerNorm, and into the rows of both output matrices; matrices that read the residual stream stay as they are.
Differs from the authors' code: there the residual path, biases and LayerNorms are left unscaled, which is not exact.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from espalier.models.modeling_espalier import family_of, find, shape_of
from espalier.pruning.gates import sublayer_gate
from espalier.pruning.parts import HIDDEN, Parts, Sublayer, heads_of, masks_of, units_of
from espalier.pruning.shrink import shrink


def folded(model: PreTrainedModel, values: Parts) -> PreTrainedModel:
    """A smaller copy of a model: closed parts are cut away, open gates are folded into its weights.

    The copy's logits are the gated model's, up to rounding.

    Args:
        model: the model that the gates belong to.
        values: gates, 0 = closed.
    """
    masks = masks_of(values, shape_of(model.config))
    small = shrink(model, masks)

    # Gates of parts that are left, in the coordinates of the smaller model; gates of sublayers have no mask.
    remaining = {name: value[masks[name]] if name in masks else value for name, value in values.items()}
    _fold(small, remaining)
    return small


@torch.no_grad()
def _fold(model: PreTrainedModel, values: Parts) -> None:
    """Scale a model's weights in place by its gates.

    Args:
        model: a model from which closed parts are gone already.
        values: its gates, in (0, 1].
    """
    family = family_of(model.config)
    shape = shape_of(model.config)

    layers = find(model.base_model, family.layers)
    for index, (layer, (heads, units)) in enumerate(zip(layers, shape.layers, strict=True)):
        # z_head scales the columns of W_O that read the head: d_h neighbouring columns.
        if heads:
            output = find(layer, family.from_heads)
            if heads_of(index) in values:
                output.weight.mul_(values[heads_of(index)].repeat_interleave(shape.head_dim))
            _scale_output(output, values, "attention", index)

        # z_int scales the column of W_D that reads the unit.
        if units:
            output = find(layer, family.ffn_out)
            if units_of(index) in values:
                output.weight.mul_(values[units_of(index)])
            _scale_output(output, values, "ffn", index)

    if HIDDEN in values:
        _scale_stream(model, values[HIDDEN])


def _scale_output(output: nn.Linear, values: Parts, kind: Sublayer, index: int) -> None:
    """Scale what a sublayer writes, its bias included, by the sublayer's gate and by the hidden gates."""
    for factor in (sublayer_gate(values, kind, index), values.get(HIDDEN)):
        if factor is not None:
            _scale_rows(output, factor)


def _scale_rows(module: nn.Linear | nn.LayerNorm, factor: Float[Tensor, "*rows"]) -> None:
    """Multiply the rows of a weight, and the bias, by one factor or by one factor a row."""
    rows = factor.expand(module.weight.shape[0])
    module.weight.mul_(rows.reshape(-1, *[1] * (module.weight.dim() - 1)))

    if module.bias is not None:
        module.bias.mul_(factor)


def _scale_stream(model: PreTrainedModel, hidden: Float[Tensor, " hidden"]) -> None:
    """Scale what writes to the residual stream outside the sublayers: embeddings or their projection, and LayerNorms."""
    family = family_of(model.config)
    base = model.base_model

    projections = [module for path in family.projections if (module := find(base, path)) is not None]
    for module in projections:
        _scale_rows(module, hidden)

    # Where a projection follows the embedding tables, the tables are not on the residual stream.
    for path in family.embeddings:
        table = find(base, path)
        if table is not None and not (projections and path.startswith("embeddings.")):
            table.weight.mul_(hidden)

    # A LayerNorm of another width, such as one between tables and projection, is not on the stream either.
    norms = [find(base, path) for path in (*family.embedding_norms, *family.final_norms)]
    norms += [find(layer, path) for layer in find(base, family.layers) for path in family.norms]
    for norm in norms:
        if isinstance(norm, nn.LayerNorm) and norm.normalized_shape == (len(hidden),):
            _scale_rows(norm, hidden)
