"""What a plan takes over from the student that it starts from: masks as its method can use them, and what is gone already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from espalier.config.data import Kind
from espalier.config.training import Plan
from espalier.models.encoder import count_weights
from espalier.models.files import empty_model
from espalier.models.modeling_espalier import Shape, shape_of
from espalier.pruning.masks import MaskKind, Masks
from espalier.pruning.parts import HEAD, HIDDEN, heads_of, units_of
from espalier.pruning.widths import queries_of


def kind_of(masks: Masks) -> MaskKind:
    """What masks are over."""
    if queries_of(0) in masks:
        return "widths"
    return "parts" if HIDDEN in masks else "weights"


def taken_over(masks: Masks, wanted: MaskKind, student: PreTrainedModel) -> Masks | None:
    """The masks of a student as a method can use them, or None where it begins with what is left as a whole.

    Narrowed widths become parts: hidden dimensions and units as they are, every head, and how many of its dimensions are
    kept. Otherwise masks of another kind say nothing to the method: a structured one trains zeros of single weights like
    any others, and one that removes single weights begins anew on matrices that are smaller.

    Args:
        masks: of the student; empty where nothing was removed.
        wanted: what the method's own masks are over.
        student: that the masks have led to.
    """
    if masks and kind_of(masks) == wanted:
        return masks
    return parts_of(masks, shape_of(student.config)) if masks and (kind_of(masks), wanted) == ("widths", "parts") else None


def parts_of(widths: Masks, shape: Shape) -> Masks:
    """Masks over parts of the base, from masks over its widths that have led to a shape."""
    head_dim = widths[queries_of(0)].numel() // shape.layers[0][0]
    found = {HIDDEN: widths[HIDDEN], HEAD: torch.arange(head_dim) < shape.head_dim}
    for layer, (heads, _) in enumerate(shape.layers):
        found |= {heads_of(layer): torch.ones(heads, dtype=torch.bool), units_of(layer): widths[units_of(layer)]}
    return found


def gone(student: PreTrainedModel, teacher: Sequence[Path], kind: Kind, settings: Plan) -> float:
    """Fraction of the dense model's prunable weights that a student has no place for, in [0, 1); zeros have one.

    Args:
        student: of any shape.
        teacher: files of the dense model.
        kind: of the task, which says what head both have.
        settings: of the method; where it does not prune single weights, nothing counts as gone.
    """
    if settings.removes != "weights":
        return 0.0

    here, dense = (count_weights(model, settings.prune_embeddings) for model in (student, empty_model(teacher, kind)))
    return 1.0 - here / dense
