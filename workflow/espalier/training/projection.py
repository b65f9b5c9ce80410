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


def projection_for(student: nn.Module, teacher: nn.Module | None, method: Method) -> VectorProjection | None:
    """The projection of a run; None where models give no vectors, or both give vectors of one width.

    Args:
        student: as it is trained.
        teacher: whose vectors it learns; None where no teacher runs.
        method: of the run, after `begin`; it knows which dimensions are left.
    """
    if teacher is None or not KIND_RULES[method.stage.kind].vectors:
        return None

    # a student that lost no hidden dimension lies in the teacher's space already
    own, other = _width(student), _width(teacher)
    return None if own == other else VectorProjection(own, other, method.dimensions, method.generator)


def _width(model: nn.Module) -> int:
    """Dimensions of the vectors that a model gives."""
    config: Any = model.config
    return int(config.hidden_size)
