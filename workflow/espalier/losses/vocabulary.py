"""Losses over a vocabulary, a few tokens at a time.

Logits of all masked tokens of a batch fill tens of megabytes, and what autograd keeps of a loss over them fills several
times as much. Here each piece of the logits is small, and its gradient is computed together with its loss. So only one
tensor of the logits' own type is kept, and on a CPU the loss takes a third of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

LOGITS_PER_PIECE = 1 << 21
"""Number of logits that are worked on at once."""
Term = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
"""A loss of one piece: takes the piece's log-probabilities and its range of tokens, returns the sum of its losses and the
gradient of that sum by the scaled logits. It may overwrite the log-probabilities.
"""


class _InPieces(torch.autograd.Function):
    """Sum over tokens of a loss of log softmax(logits / temperature)."""

    @staticmethod
    def forward(ctx, logits: Tensor, temperature: float, term: Term) -> Tensor:
        total = torch.zeros((), device=logits.device)
        gradient = torch.empty_like(logits)

        for piece in _ranges(logits):
            log_probabilities = F.log_softmax(logits[piece].float() / temperature, dim=-1)
            value, gradient[piece] = term(log_probabilities, piece)
            total += value

        ctx.save_for_backward(gradient)
        ctx.temperature = temperature
        return total

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None, None]:
        # Chain rule: the terms give gradients by logits / temperature.
        return ctx.saved_tensors[0] * (upstream / ctx.temperature), None, None


def token_cross_entropy(logits: Float[Tensor, "tokens vocabulary"], wanted: Int[Tensor, " tokens"]) -> Float[Tensor, ""]:
    """Cross-entropy summed over tokens, in fp32.

    Source: Devlin et al. 2019, arXiv 1810.04805, section 3.1.
    Differs from the authors' code: nothing.
    """

    def term(own: Tensor, piece: slice) -> tuple[Tensor, Tensor]:
        places = torch.arange(len(own), device=own.device), wanted[piece]
        value = -own[places].sum()

        # The gradient of -log p_wanted by the logits: p - 1 at the wanted word, p elsewhere.
        slope = own.exp_()
        slope[places] -= 1.0
        return value, slope

    return _InPieces.apply(logits, 1.0, term)


def token_divergence(
    student: Float[Tensor, "tokens vocabulary"], teacher: Float[Tensor, "tokens vocabulary"], temperature: float
) -> Float[Tensor, ""]:
    """KL(teacher || student) of the softened distributions, summed over tokens, in fp32; without the factor temperature^2.

    Source: docs/methods/homodistil.md §2 (L_pred).
    Differs from the authors' code: no code is public.
    """

    def term(own: Tensor, piece: slice) -> tuple[Tensor, Tensor]:
        teacher_log = F.log_softmax(teacher[piece].float() / temperature, dim=-1)
        expected = teacher_log.exp()

        # KL = sum p_t (log p_t - log p_s); its gradient by the student's scaled logits is p_s - p_t.
        value = torch.einsum("tv,tv->", expected, teacher_log.sub_(own))
        return value, own.exp_().sub_(expected)

    return _InPieces.apply(student, temperature, term)


class _BothTerms(torch.autograd.Function):
    """Sums over tokens of cross-entropy and divergence, at a temperature of 1: one softmax of the student serves both."""

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        entropy, divergence = (torch.zeros((), device=student.device) for _ in range(2))
        own, gap = torch.empty_like(student), torch.empty_like(student)

        for piece in _ranges(student):
            log_probabilities = F.log_softmax(student[piece].float(), dim=-1)
            places = torch.arange(len(log_probabilities), device=student.device), wanted[piece]
            entropy -= log_probabilities[places].sum()

            # KL = sum p_t (log p_t - log p_s).
            teacher_log = F.log_softmax(teacher[piece].float(), dim=-1)
            expected = teacher_log.exp()
            divergence += torch.einsum("tv,tv->", expected, teacher_log.sub_(log_probabilities))

            # Subtracted before they are rounded to the type of the logits: later in training both are nearly the same.
            own[piece] = log_probabilities.exp_()
            gap[piece] = log_probabilities.sub_(expected)

        ctx.save_for_backward(own, gap, wanted)
        return entropy, divergence

    @staticmethod
    @once_differentiable
    def backward(ctx, by_entropy: Tensor, by_divergence: Tensor) -> tuple[Tensor, None, None]:
        own, gap, wanted = ctx.saved_tensors
        gradient = torch.empty_like(own)

        # a (p_s - 1 at the wanted word) + b (p_s - p_t).
        for piece in _ranges(own):
            slope = torch.mul(own[piece], by_entropy, out=gradient[piece])
            slope.addcmul_(gap[piece], by_divergence.to(slope.dtype))
            places = torch.arange(len(slope), device=slope.device), wanted[piece]
            slope[places] -= by_entropy.to(slope.dtype)
        return gradient, None, None


def _ranges(logits: Float[Tensor, "tokens vocabulary"]) -> Iterator[slice]:
    """The tokens, so many at a time."""
    size = max(1, LOGITS_PER_PIECE // logits.shape[1])
    return (slice(begin, begin + size) for begin in range(0, len(logits), size))


def token_terms(
    student: Float[Tensor, "tokens vocabulary"], teacher: Float[Tensor, "tokens vocabulary"], wanted: Int[Tensor, " tokens"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """`token_cross_entropy` and `token_divergence` at a temperature of 1, for little more than the price of one.

    Source: docs/methods/homodistil.md §2 (L_MLM, L_pred).
    Differs from the authors' code: no code is public.
    """
    return _BothTerms.apply(student, teacher, wanted)
