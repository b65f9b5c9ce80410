"""Settings of methods that remove single weights step by step: random, magnitude, movement, distil."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from espalier.config.kinds import LABELLED, Kind
from espalier.config.teacher_outputs import Reads
from espalier.config.training import Epochs, Fraction, Positive, PrunedPlan


class IterativePlan(PrunedPlan):
    """Iterative pruning: remove a little, train, remove more (docs/methods/sdp.md §3.1)."""

    dense_epochs: Epochs = 1.0
    """Training before the first removal of the path. [epochs; inferred: SDP's E_0]"""
    epochs_per_step: Positive = 1.0
    """Training after each removal. [epochs; inferred: SDP's E_r]"""

    def parts(self, *, first_stage: bool) -> list[float]:
        """The dense epochs, where there are any, then one part after each removal."""
        dense = [self.dense_epochs] if self.begins_dense(first_stage=first_stage) else []
        return dense + [self.epochs_per_step] * self.prune_steps

    def begins_dense(self, *, first_stage: bool) -> bool:
        """Whether a part comes before the first removal."""
        return first_stage and self.dense_epochs > 0

    def removal_steps(self, *, bounds: Sequence[int], first_stage: bool) -> list[int]:
        """A part begins with a removal, but for the dense epochs."""
        begins = [0, *bounds[:-1]]
        return begins[1:] if self.begins_dense(first_stage=first_stage) else begins


class RandomPlan(IterativePlan):
    """Remove weights at random: the floor that every other criterion must beat."""

    method: Literal["random"]


class MagnitudePlan(IterativePlan):
    """Remove the smallest weights, and train with the task loss alone."""

    method: Literal["magnitude"]


class MovementPlan(IterativePlan):
    """Movement pruning: remove the weights that training moves towards zero (Sanh et al. 2020, arXiv 2005.07683)."""

    method: Literal["movement"]
    dense_epochs: Positive = 1.0
    """Training before the first removal of every stage, during which the scores are gathered. [epochs; inferred: SDP's E_0]"""

    def begins_dense(self, *, first_stage: bool) -> bool:
        """Every stage begins with its dense epochs."""
        return True


class DistilPlan(IterativePlan):
    """Magnitude pruning with logit distillation (Hinton et al. 2015, arXiv 1503.02531)."""

    method: Literal["distil"]
    kinds: ClassVar[frozenset[Kind]] = frozenset(LABELLED)
    trains_whole: ClassVar[bool] = True
    alpha: Fraction = 0.5
    """Weight of the distillation term; the task loss has weight 1 - alpha. [common]"""
    temperature: Positive = 2.0
    """Divides the logits of teacher and student before the softmax; higher is softer. [common]"""

    @property
    def distils(self) -> bool:
        """Where the distillation term has a weight."""
        return self.alpha > 0

    @property
    def reads(self) -> Reads:
        """Logits alone."""
        return Reads()
