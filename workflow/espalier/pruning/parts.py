"""Names and masks of the parts that structured pruning removes: heads, FFN units, hidden dimensions, sublayers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from transformers import PreTrainedConfig

from espalier.models.modeling_espalier import Shape, check, family_of, shape_of
from espalier.pruning.masks import Masks
from espalier.runtime.errors import UserError

HIDDEN = "hidden"
HEAD = "head"
"""Dimensions of one head, where heads were narrowed before parts were removed: as many as are kept come first."""
Sublayer = Literal["attention", "ffn"]
SUBLAYERS: tuple[Sublayer, Sublayer] = ("attention", "ffn")
Parts = Mapping[str, Shaped[Tensor, " _"]]
"""One vector for each layer's heads and units, for hidden dimensions, and for the sublayers of each kind.

Masks, gates and probabilities come in this form. What is missing is wholly kept.
"""


def prunable_shape(config: PreTrainedConfig, base: nn.Module | None = None) -> Shape:
    """The shape of a model that is to be pruned structurally; the parts of its base model are looked at where it is given.

    Raises:
        UserError: the model's family, or a part of it, cannot be pruned structurally.
    """
    try:
        if base is not None:
            check(base, family_of(config))
        return shape_of(config)
    except ValueError as error:  # models.modeling_espalier, which travels with models, has no UserError
        raise UserError(str(error)) from None


def heads_of(layer: int) -> str:
    """Name of a layer's heads."""
    return f"layer.{layer}.heads"


def units_of(layer: int) -> str:
    """Name of a layer's FFN units."""
    return f"layer.{layer}.ffn"


def inside(kind: Sublayer, layer: int) -> str:
    """Name of what a sublayer holds."""
    return heads_of(layer) if kind == "attention" else units_of(layer)


def sizes(shape: Shape) -> dict[str, int]:
    """Name → number of parts, for heads and units of every layer and for hidden dimensions."""
    found = {HIDDEN: shape.hidden}
    for layer, (heads, units) in enumerate(shape.layers):
        found |= {heads_of(layer): heads, units_of(layer): units}
    return found


def full_masks(shape: Shape) -> Masks:
    """Masks that keep everything."""
    return {name: torch.ones(size, dtype=torch.bool) for name, size in sizes(shape).items()}


def masks_of(values: Parts, shape: Shape) -> Masks:
    """What non-zero gates keep: a part of a closed sublayer is gone."""
    masks = {name: (values[name] != 0).cpu() if name in values else mask for name, mask in full_masks(shape).items()}
    for kind in SUBLAYERS:
        for layer in range(len(shape.layers)):
            if kind in values and values[kind][layer] == 0:
                masks[inside(kind, layer)] = torch.zeros_like(masks[inside(kind, layer)])
    return masks


def within(outer: Masks, inner: Masks) -> Masks:
    """Masks of what `inner` keeps of the parts that `outer` keeps, in the coordinates of `outer`; all where it says nothing."""
    found = {}
    for name, mask in outer.items():
        found[name] = mask.clone()
        if name in inner:
            found[name][mask] = inner[name].to(mask.device)
    return found


def original_shape(masks: Masks, head_dim: int) -> Shape:
    """The shape of the model that the masks belong to; `head_dim` is that of what they have led to.

    The classification head's width is that of the hidden states.
    """
    layers = sum(name.endswith(".heads") for name in masks)
    hidden, head_dim = masks[HIDDEN].numel(), masks[HEAD].numel() if HEAD in masks else head_dim
    return Shape(
        hidden, head_dim, hidden, tuple((masks[heads_of(i)].numel(), masks[units_of(i)].numel()) for i in range(layers))
    )


def masked_shape(shape: Shape, masks: Masks) -> Shape:
    """The shape that is left."""
    layers = tuple((int(masks[heads_of(i)].sum()), int(masks[units_of(i)].sum())) for i in range(len(shape.layers)))
    return Shape(int(masks[HIDDEN].sum()), shape.head_dim, shape.pooled, layers)


def describe(masks: Masks) -> dict[str, Any]:
    """Counts for structure.json: kept and all heads and units of each layer, hidden dimensions, and those of narrowed heads."""
    layers = sum(name.endswith(".heads") for name in masks)
    count = lambda name: {"kept": int(masks[name].sum()), "total": masks[name].numel()}  # noqa: E731
    return {
        "layers": [{"heads": count(heads_of(layer)), "ffn": count(units_of(layer))} for layer in range(layers)],
        "hidden": count(HIDDEN),
        **({"head": count(HEAD)} if HEAD in masks else {}),
    }
