"""Names and masks of the parts that structured pruning removes: heads and rows inside them, FFN units, hidden dimensions,
sublayers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn
from transformers import PreTrainedConfig

from espalier.models.modeling_espalier import HeadRows, Shape, check_covered, family_of, shape_of
from espalier.pruning.masks import Masks
from espalier.runtime.errors import UserError

HIDDEN = "hidden"
"""Name of the hidden dimensions."""
HEAD = "head"
"""Name of the dimensions of one head, where heads were narrowed before parts were removed; the kept ones come first."""
Sublayer = Literal["attention", "ffn"]
SUBLAYERS: tuple[Sublayer, Sublayer] = ("attention", "ffn")
Parts = Mapping[str, Shaped[Tensor, " _"]]
"""One vector for each layer's heads and units, for hidden dimensions, and for the sublayers of each kind.

Masks, gates and probabilities come in this form. Parts whose name is missing are wholly kept.
"""


def prunable_shape(config: PreTrainedConfig, base: nn.Module | None = None, *, rows: bool = False) -> Shape:
    """The shape of a model that is to be pruned structurally.

    Args:
        config: the model's configuration.
        base: its base model; where it is given, its modules are checked, too.
        rows: whether heads may have lost single dimensions before.

    Raises:
        UserError: the model's family, or a part of it, cannot be pruned structurally.
    """
    try:
        if base is not None:
            check_covered(base, family_of(config))
        shape = shape_of(config)
    except ValueError as error:
        # models.modeling_espalier travels with models and stands alone, so it cannot raise a UserError.
        raise UserError(str(error)) from None

    if shape.rows and not rows:
        raise UserError("heads of this model differ in their dimensions; among structured methods only grain goes on from it")
    return shape


def heads_of(layer: int) -> str:
    """Name of a layer's heads."""
    return f"layer.{layer}.heads"


def units_of(layer: int) -> str:
    """Name of a layer's FFN units."""
    return f"layer.{layer}.ffn"


def queries_of(layer: int) -> str:
    """Name of the dimensions of a layer's queries and keys, head by head."""
    return f"layer.{layer}.qk"


def values_of(layer: int) -> str:
    """Name of the dimensions of a layer's values, head by head."""
    return f"layer.{layer}.vo"


def is_ragged(shape: Shape, layer: int) -> bool:
    """Whether heads of a layer lack dimensions that attention sees."""
    _, queries, values = shape.heads_in(layer)
    return any("0" in flags for flags in (*queries, *values))


def inner_of(shape: Shape, layer: int) -> tuple[int, int]:
    """How many dimensions all heads of a layer have together: of queries, and of values."""
    _, queries, values = shape.heads_in(layer)
    return "".join(queries).count("1"), "".join(values).count("1")


def parts_in(kind: Sublayer, layer: int) -> str:
    """Name of the parts that a sublayer holds: a layer's heads, or its FFN units."""
    return heads_of(layer) if kind == "attention" else units_of(layer)


def in_blocks(indices: Int[Tensor, " _"], blocks: int, size: int) -> Int[Tensor, " _"]:
    """The indices in each of several stacked blocks, such as queries, keys and values in one matrix."""
    return torch.cat([indices + block * size for block in range(blocks)])


def sizes(shape: Shape) -> dict[str, int]:
    """Name → number of parts, for heads and units of every layer and for hidden dimensions."""
    counts = {HIDDEN: shape.hidden}
    for layer, (heads, units) in enumerate(shape.layers):
        counts |= {heads_of(layer): heads, units_of(layer): units}
    return counts


def full_masks(shape: Shape) -> Masks:
    """Masks that keep everything."""
    return {name: torch.ones(size, dtype=torch.bool) for name, size in sizes(shape).items()}


def masks_of(values: Parts, shape: Shape) -> Masks:
    """Masks of the parts whose gate is not 0, on the CPU; the parts of a closed sublayer are gone."""
    masks = full_masks(shape)
    for name in masks:
        if name in values:
            masks[name] = (values[name] != 0).cpu()

    # Sublayers have no masks of their own: a closed one removes all parts inside it.
    for kind in SUBLAYERS:
        for layer in range(len(shape.layers)):
            if kind in values and values[kind][layer] == 0:
                name = parts_in(kind, layer)
                masks[name] = torch.zeros_like(masks[name])
    return masks


def within(outer: Masks, inner: Masks) -> Masks:
    """Masks of the parts that both keep, in the coordinates of `outer`.

    Args:
        outer: masks over a model's parts.
        inner: masks over the parts that `outer` has left; where a name is missing, all of them are kept.
    """
    masks = {}
    for name, mask in outer.items():
        masks[name] = mask.clone()
        # inner has one entry for each True of outer, in order.
        if name in inner:
            masks[name][mask] = inner[name].to(mask.device)
    return masks


def original_shape(masks: Masks, head_dim: int) -> Shape:
    """The shape of the model that the masks belong to; its classification head is as wide as the hidden states.

    Args:
        masks: masks over all parts of the model.
        head_dim: dimensions of one head in the model that the masks have led to.
    """
    # The length of a mask is the size before, its sum the size after.
    hidden = masks[HIDDEN].numel()
    if HEAD in masks:
        head_dim = masks[HEAD].numel()

    depth = sum(name.endswith(".heads") for name in masks)
    layers = tuple((masks[heads_of(layer)].numel(), masks[units_of(layer)].numel()) for layer in range(depth))
    return Shape(hidden, head_dim, hidden, layers)


def masked_shape(shape: Shape, masks: Masks, *, rotary: bool = False) -> Shape:
    """The shape of a model after the parts that the masks remove are cut away.

    Args:
        shape: the shape before.
        masks: over heads, units and hidden dimensions; where there are some over dimensions of heads, over these, too.
        rotary: whether dimensions of a head keep their places in it; otherwise those that stay move to the front.
    """
    layers, rows = [], []
    for layer in range(len(shape.layers)):
        layers.append((int(masks[heads_of(layer)].sum()), int(masks[units_of(layer)].sum())))
        rows.append(_masked_rows(shape, masks, layer, rotary))
    return Shape(int(masks[HIDDEN].sum()), shape.head_dim, shape.pooled, tuple(layers), tuple(rows) if any(rows) else ())


def _masked_rows(shape: Shape, masks: Masks, layer: int, rotary: bool) -> HeadRows | None:
    """Dimensions that a layer's heads have left; None where all heads that are left are whole, or none is."""
    size, *before = shape.heads_in(layer)
    left: list[list[str]] = []
    for name, heads in zip((queries_of(layer), values_of(layer)), before, strict=True):
        # Masks are over the dimensions that there are, head by head; one that was missing is so still.
        kept = iter(masks[name].tolist() if name in masks else [True] * "".join(heads).count("1"))
        now = ["".join("01"[flag == "1" and next(kept)] for flag in flags) for flags in heads]
        left.append([flags for flags, stays in zip(now, masks[heads_of(layer)].tolist(), strict=True) if stays])

    if not left[0]:
        return None
    if not rotary:
        # The order of dimensions makes no difference to a product of queries and keys, nor to one with the output matrix.
        size = max(flags.count("1") for heads in left for flags in heads)
        left = [[("1" * flags.count("1")).ljust(size, "0") for flags in heads] for heads in left]

    # Heads that lack nothing of what attention sees need no texts.
    if any("0" in flags for heads in left for flags in heads):
        return HeadRows(size, *map(tuple, left))
    return None if size == shape.head_dim else HeadRows(size)


def part_counts(masks: Masks) -> dict[str, Any]:
    """Kept and all parts for structure.json: heads, units and, where they are masked, dimensions of queries and values of each
    layer; hidden dimensions; dimensions of narrowed heads."""
    kinds = {"heads": heads_of, "ffn": units_of, "queries": queries_of, "values": values_of}

    def count(name: str) -> dict[str, int]:
        return {"kept": int(masks[name].sum()), "total": masks[name].numel()}

    depth = sum(name.endswith(".heads") for name in masks)
    counts: dict[str, Any] = {
        "layers": [
            {kind: count(name_of(layer)) for kind, name_of in kinds.items() if name_of(layer) in masks}
            for layer in range(depth)
        ],
        "hidden": count(HIDDEN),
    }
    if HEAD in masks:
        counts["head"] = count(HEAD)
    return counts
