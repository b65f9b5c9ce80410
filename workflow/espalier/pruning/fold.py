"""Gates that are neither 0 nor 1, folded into the weights: the model without gates gives the same logits."""

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
    """A copy of a model without what closed gates remove, the open ones in its weights: its logits are the gated model's.

    Args:
        model: the model that the gates are of.
        values: gates, 0 = closed.
    """
    masks = masks_of(values, shape_of(model.config))
    small = shrink(model, masks)
    _fold(small, {name: value[masks[name]] if name in masks else value for name, value in values.items()})
    return small


@torch.no_grad()
def _fold(model: PreTrainedModel, values: Parts) -> None:
    """Scale a model's weights in place by the gates of what it has.

    Source: docs/methods/cofi.md §3.7, exact folding: embedding columns, every LayerNorm's weight and bias, and the
    rows of both output matrices take the hidden gate; input sides stay.
    Differs from the authors' code: there the residual path, biases and LayerNorms are left unscaled, which is not exact.

    Args:
        model: a model from which closed gates are gone already.
        values: its gates, in (0, 1].
    """
    family, shape, base = family_of(model.config), shape_of(model.config), model.base_model
    for index, (layer, (heads, units)) in enumerate(zip(find(base, family.layers), shape.layers, strict=True)):
        if heads:
            output = find(layer, family.from_heads)
            if heads_of(index) in values:
                output.weight.mul_(values[heads_of(index)].repeat_interleave(shape.head_dim))
            _scale_output(output, values, "attention", index)
        if units:
            output = find(layer, family.ffn_out)
            if units_of(index) in values:
                output.weight.mul_(values[units_of(index)])
            _scale_output(output, values, "ffn", index)
    if HIDDEN in values:
        _scale_stream(model, values[HIDDEN])


def _scale_output(output: nn.Linear, values: Parts, kind: Sublayer, index: int) -> None:
    for factor in (sublayer_gate(values, kind, index), values.get(HIDDEN)):
        if factor is not None:
            _scale_rows(output, factor)


def _scale_rows(module: nn.Linear | nn.LayerNorm, factor: Float[Tensor, "*rows"]) -> None:
    module.weight.mul_(factor.expand(module.weight.shape[0]).reshape(-1, *[1] * (module.weight.dim() - 1)))
    if module.bias is not None:
        module.bias.mul_(factor)


def _scale_stream(model: PreTrainedModel, hidden: Float[Tensor, " hidden"]) -> None:
    """Everything else that writes to the residual stream: embeddings or their projection, and all LayerNorms on it."""
    family, base = family_of(model.config), model.base_model
    projections = [module for path in family.projections if (module := find(base, path)) is not None]
    for module in projections:
        _scale_rows(module, hidden)
    for path in family.embeddings:
        table = find(base, path)
        if table is not None and not (projections and path.startswith("embeddings.")):
            table.weight.mul_(hidden)
    norms = [find(base, path) for path in (*family.embedding_norms, *family.final_norms)]
    norms += [find(layer, path) for layer in find(base, family.layers) for path in family.norms]
    for norm in norms:
        if isinstance(norm, nn.LayerNorm) and norm.normalized_shape == (len(hidden),):
            _scale_rows(norm, hidden)
