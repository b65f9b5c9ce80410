"""Losses over a vocabulary, a few tokens at a time.

Logits of all masked tokens of a batch fill tens of megabytes, and what autograd keeps of a loss over them several times as
much. Here a piece is small, its gradient is written where it is known, and one tensor of the logits' own type is all that
is kept: a third of the time on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

PIECE = 1 << 21
"""Logits in a piece."""
Term = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
"""Log-probabilities of a piece, which it may overwrite, and its place → sum of its losses, and their gradient by logits."""


class _InPieces(torch.autograd.Function):
    """Sum over tokens of a loss of log softmax(logits / temperature)."""

    @staticmethod
    def forward(ctx, logits: Tensor, temperature: float, term: Term) -> Tensor:
        total, gradient = torch.zeros((), device=logits.device), torch.empty_like(logits)
        size = max(1, PIECE // logits.shape[1])
        for begin in range(0, len(logits), size):
            piece = slice(begin, begin + size)
            value, gradient[piece] = term(F.log_softmax(logits[piece].float() / temperature, dim=-1), piece)
            total += value
        ctx.save_for_backward(gradient)
        ctx.temperature = temperature
        return total

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None, None]:
        return ctx.saved_tensors[0] * (upstream / ctx.temperature), None, None


def token_cross_entropy(logits: Float[Tensor, "tokens vocabulary"], wanted: Int[Tensor, " tokens"]) -> Float[Tensor, ""]:
    """Cross-entropy summed over tokens, in fp32.

    Source: Devlin et al. 2019, arXiv 1810.04805, section 3.1.
    Differs from the authors' code: nothing.
    """

    def term(own: Tensor, piece: slice) -> tuple[Tensor, Tensor]:
        places = torch.arange(len(own), device=own.device), wanted[piece]
        value, slope = -own[places].sum(), own.exp_()
        slope[places] -= 1.0
        return value, slope

    return _InPieces.apply(logits, 1.0, term)


def token_divergence(
    student: Float[Tensor, "tokens vocabulary"], teacher: Float[Tensor, "tokens vocabulary"], temperature: float
) -> Float[Tensor, ""]:
    """KL(teacher || student) of the softened distributions, summed over tokens, in fp32; no factor of the temperature.

    Source: docs/methods/homodistil.md §2 (L_pred).
    Differs from the authors' code: no code is public.
    """

    def term(own: Tensor, piece: slice) -> tuple[Tensor, Tensor]:
        theirs = F.log_softmax(teacher[piece].float() / temperature, dim=-1)
        expected = theirs.exp()
        value = torch.einsum("tv,tv->", expected, theirs.sub_(own))
        return value, own.exp_().sub_(expected)

    return _InPieces.apply(student, temperature, term)
