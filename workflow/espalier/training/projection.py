"""Vectors of a narrower student at the teacher's width, where models give vectors that are compared.

The projection is no part of the student and is dropped with the run. Its columns are orthonormal, so it changes no cosine
between two of the student's vectors: what is learned through it holds without it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from espalier.config.kinds import KIND_RULES
from espalier.methods.base import Method
from espalier.models.outputs import Outputs


class VectorProjection(nn.Module):
    """A trained matrix with orthonormal columns; it begins by putting each dimension where the teacher has it."""

    def __init__(self, width: int, target: int, kept: Bool[Tensor, " target"] | None, generator: torch.Generator) -> None:
        super().__init__()
        # Without knowledge of the dimensions any columns will do: they are learned.
        if kept is not None and int(kept.sum()) == width:
            weight = torch.eye(target)[:, kept.cpu()]
        else:
            weight = torch.randn(target, width, generator=generator)
        self.weight = nn.Parameter(weight)

    def matrix(self) -> Float[Tensor, "target width"]:
        """The orthonormal columns: Q of W = QR, with the signs that make the diagonal of R positive, so that Q is unique."""
        # Gradients flow through QR, so the optimiser may change the weight freely.
        columns, triangle = torch.linalg.qr(self.weight)
        return columns * triangle.diagonal().sign()

    def forward(self, outputs: Outputs) -> Outputs:
        """The outputs with the vectors at the teacher's width; their lengths stay 1."""
        # s -> P s for every row; |P s| = |s|, because P'P = I
        return replace(outputs, logits=outputs.logits.float() @ self.matrix().T)


def projection_for(student: PreTrainedModel, method: Method) -> nn.Module:
    """The projection of a run; the identity where models give no vectors, or both give vectors of one width.

    Args:
        student: as it is trained, on its device.
        method: of the run, after `begin`; it knows the teacher, and which dimensions are left.
    """
    if method.teacher is None or not KIND_RULES[method.stage.kind].vectors:
        return nn.Identity()

    # a student that lost no hidden dimension lies in the teacher's space already
    own, other = _width(student), _width(method.teacher)
    if own == other:
        return nn.Identity()
    return VectorProjection(own, other, method.dimensions, method.generator).to(student.device)


def projection_groups(projection: nn.Module) -> list[dict[str, Any]]:
    """Parameter groups of a projection, which is not decayed; none where it has nothing to train."""
    weights = list(projection.parameters())
    return [{"params": weights, "weight_decay": 0.0}] if weights else []


def _width(model: nn.Module) -> int:
    """Dimensions of the vectors that a model gives."""
    config: Any = model.config
    return int(config.hidden_size)
