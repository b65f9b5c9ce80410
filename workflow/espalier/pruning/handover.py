"""What a plan takes over from the student that it starts from: masks as its method can use them, and what is gone already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from espalier.config.kinds import Kind
from espalier.config.training import Plan
from espalier.models.encoder import count_weights
from espalier.models.files import empty_model
from espalier.models.modeling_espalier import Shape, shape_of
from espalier.pruning.masks import MaskKind, Masks
from espalier.pruning.parts import HEAD, HIDDEN, heads_of, queries_of, units_of, values_of


def mask_kind(masks: Masks) -> MaskKind:
    """Whether masks are over widths, over parts and dimensions of heads, over parts alone, or over single weights; their names
    tell."""
    if queries_of(0) in masks:
        return "rows" if heads_of(0) in masks else "widths"
    return "parts" if HIDDEN in masks else "weights"


def taken_over(masks: Masks, wanted: MaskKind, student: PreTrainedModel) -> Masks | None:
    """The masks of a student as a method can use them, or None where the method begins with the student as a whole.

    A method that removes parts can use masks over widths: hidden dimensions and units as they are, every head, and how
    many dimensions of a head are kept. One that removes dimensions of heads can use either. Other masks of another kind are of
    no use to it: a structured method trains the zeros of single weights like any other weights, and a method that removes
    single weights begins anew on matrices that are smaller.

    Args:
        masks: masks of the student; empty where nothing was removed.
        wanted: what the method's own masks are over.
        student: the model that the masks have led to.
    """
    if not masks:
        return None

    kind = mask_kind(masks)
    if kind == wanted:
        return masks
    shape = shape_of(student.config)
    if (kind, wanted) == ("widths", "parts"):
        return parts_of(masks, shape)
    if (kind, wanted) == ("widths", "rows"):
        return masks | {heads_of(layer): torch.ones(heads, dtype=torch.bool) for layer, (heads, _) in enumerate(shape.layers)}
    if (kind, wanted) == ("parts", "rows"):
        return as_row_masks(masks, shape.head_dim)
    return None


def as_row_masks(parts: Masks, head_dim: int) -> Masks:
    """Masks over dimensions of heads besides those over parts of the base.

    Args:
        parts: masks as `pruning.parts` names them.
        head_dim: dimensions of one head in the model that they have led to.
    """
    head = parts.get(HEAD, torch.ones(head_dim, dtype=torch.bool))
    masks = {name: mask for name, mask in parts.items() if name != HEAD}
    for layer in range(sum(name.endswith(".heads") for name in parts)):
        inside = (parts[heads_of(layer)][:, None] & head).flatten()
        masks |= {queries_of(layer): inside, values_of(layer): inside.clone()}
    return masks


def parts_of(widths: Masks, shape: Shape) -> Masks:
    """Masks over parts of the base, from masks over its widths.

    Args:
        widths: masks as `pruning.widths` names them.
        shape: shape of the model that they have led to.
    """
    # Queries of all heads stand in one mask. HEAD says how wide a head was: its length is the old width, its sum the new.
    original_head_dim = widths[queries_of(0)].numel() // shape.layers[0][0]
    masks = {HIDDEN: widths[HIDDEN], HEAD: torch.arange(original_head_dim) < shape.head_dim}

    # Narrowing keeps every head, and all heads are equally wide.
    for layer, (heads, _) in enumerate(shape.layers):
        masks[heads_of(layer)] = torch.ones(heads, dtype=torch.bool)
        masks[units_of(layer)] = widths[units_of(layer)]
    return masks


def gone(student: PreTrainedModel, teacher: Sequence[Path], kind: Kind, settings: Plan) -> float:
    """Fraction of the dense weights whose rows, columns or layers were cut away, in [0, 1). Zeroed weights count as present.

    Args:
        student: a model of any shape.
        teacher: files of the dense model.
        kind: kind of the task, which says what head both models have.
        settings: settings of the method; where it does not prune single weights, nothing counts as gone.
    """
    if settings.removes != "weights":
        return 0.0

    # Weights are counted by the shapes of tensors, so zeros inside them count as present.
    present = count_weights(student, settings.prune_embeddings)
    dense = count_weights(empty_model(teacher, kind), settings.prune_embeddings)
    return 1.0 - present / dense
