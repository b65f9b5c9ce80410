"""Grafted encoders: at each position either the student's layer runs or its teacher's, as bits say.

Source: SPD (Huang et al. 2022, arXiv 2110.08190; docs/methods/spd.md §2.1 and 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor, nn

from espalier.models.encoder import encoder_layers


@dataclass(frozen=True)
class Pair:
    """One position of a grafted encoder. The teacher's layer is no part of the student: no weights, nothing saved."""

    own: nn.Module
    theirs: nn.Module


class Grafts:
    """A pair for every layer of a student and its teacher, which must be as deep.

    The teacher's layers compute in eval mode, as the teacher does. They are frozen, yet gradients pass through them to
    the student's layers below; where there are none, autograd finds nothing to keep.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        own, theirs = (encoder_layers(model)[1] for model in (student, teacher))
        self.pairs = [Pair(*pair) for pair in zip(own, theirs, strict=True)]

    def __len__(self) -> int:
        return len(self.pairs)

    @contextmanager
    def grafted(self, bits: Bool[Tensor, " layers"]) -> Iterator[None]:
        """The student's forward passes inside this context take its own layers where `bits` are True.

        A teacher's layer stands in through its `forward` alone, so that hooks on the student's layers see what it gives.
        """
        replaced = [pair for pair, bit in zip(self.pairs, bits.tolist(), strict=True) if not bit]
        for pair in replaced:
            pair.own.forward = pair.theirs.forward
        try:
            yield
        finally:
            for pair in replaced:
                del pair.own.forward


def acting(layer: nn.Module) -> nn.Module:
    """The layer that computes at this position: itself, or the teacher's that stands in for it."""
    return layer.forward.__self__
