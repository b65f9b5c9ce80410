"""Grafted encoders: at each position either the student's layer or its teacher's runs, as a vector of bits decides.

Source: SPD (Huang et al. 2022, arXiv 2110.08190; docs/methods/spd.md §2.1 and §3.2).
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
    """One position of a grafted encoder. The teacher's layer is no part of the student and is not saved with it."""

    own: nn.Module
    theirs: nn.Module


class Grafts:
    """One pair of layers for each position; student and teacher must have the same number of layers.

    The teacher's layers compute in eval mode, as the teacher does. They are frozen, yet gradients pass through them to
    the student's layers below. Where no student's layer lies below, autograd stores nothing.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        own, theirs = (encoder_layers(model)[1] for model in (student, teacher))
        self.pairs = [Pair(*pair) for pair in zip(own, theirs, strict=True)]

    def __len__(self) -> int:
        return len(self.pairs)

    @contextmanager
    def grafted(self, bits: Bool[Tensor, " layers"]) -> Iterator[None]:
        """The student's forward passes inside this context take its own layers where `bits` are True.

        Only the layer's `forward` is replaced, so that hooks on the student's layers see the output of the teacher's layer.
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
    """The layer that computes at this position: the student's own, or the teacher's in its place."""
    # `grafted` sets `forward` to a bound method of the layer that computes
    return layer.forward.__self__
