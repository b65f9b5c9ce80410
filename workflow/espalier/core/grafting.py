"""Grafted encoders: at each position either the student's layer runs or its teacher's, as bits say.

Source: SPD (Huang et al. 2022, arXiv 2110.08190; specification, sections 2.1 and 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from espalier.core.masks import encoder_layers

Ramp = Literal["constant", "linear", "constant-linear", "constant-jump-linear"]
"""How the probability of a student layer goes on from its first value."""


def grafting_probability(step: int, first: float, begin: int, end: int, ramp: Ramp, jump: float) -> float:
    """Probability in [0, 1] that a position takes the student's layer in this step.

    Source: specification, section 3.2: p0 up to t1, then p0 + (1 - p0) (t - t1) / (t2 - t1), then 1.
    Differs from the authors' code: there each ramp has a slope of its own; here all but `constant` are 1 from `end` on.

    Args:
        step: optimiser step, from 0.
        first: p0, the probability at the beginning.
        begin: t1, where the ramp begins.
        end: t2, where it ends.
        ramp: constant stays at p0; linear rises from step 0; constant-linear from `begin`; constant-jump-linear is `jump`
            at `begin` and rises from there.
        jump: for constant-jump-linear alone.
    """
    if ramp == "constant" or (ramp != "linear" and step < begin):
        return first
    if step >= end:
        return 1.0
    low, start = {"linear": (first, 0), "constant-linear": (first, begin), "constant-jump-linear": (jump, begin)}[ramp]
    return low + (1.0 - low) * (step - start) / (end - start)


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


def draw(probability: float, layers: int, generator: torch.Generator) -> Bool[Tensor, " layers"]:
    """Independent bits, True with this probability: exactly one uniform number a layer, whatever the probability."""
    return torch.rand(layers, generator=generator) < probability
