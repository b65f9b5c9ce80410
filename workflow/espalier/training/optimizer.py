"""The optimiser of every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


def adamw(
    model: nn.Module, own: Sequence[dict[str, Any]], *, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """AdamW; biases and LayerNorms (all vectors) have no weight decay.

    Args:
        model: its parameters that need gradients are trained.
        own: groups of a method; what is in them has their settings.
        learning_rate: peak, > 0.
        weight_decay: decoupled, >= 0.
    """
    # What a method trains by itself is left out of the groups below.
    grouped = {id(parameter) for group in own for parameter in group["params"]}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in grouped]

    # Vectors (biases, LayerNorm weights) are not decayed.
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        *own,
    ]

    # The loop multiplies each group's peak by the schedule's factor, so the peak is kept.
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, fused=True)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer
