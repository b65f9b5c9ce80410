"""Settings of methods that prune without training, from a look at some rows: kwon and kprune."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from espalier.config.starts import Start
from espalier.config.targets import TargetKind
from espalier.config.teacher_outputs import Reads
from espalier.config.training import Fraction, NonNegative, Plan, Positive, Recover, Removal


def _finished(start: Start) -> Start:
    """A head that was never trained would stay so."""
    if start == "pretrained":
        raise ValueError("got pretrained, whose head is new, and nothing is trained here; allowed: teacher, {plan: …, at: …}")
    return start


class UntrainedPlan(Plan):
    """What the methods share that prune without training."""

    target_kinds: ClassVar[frozenset[TargetKind]] = frozenset({"sparsity", "parameters", "latency"})
    removes: ClassVar[Removal] = "structure"
    no_vectors: ClassVar[str] = "it weighs parts by logits and labels, which models and rows of this kind do not have"
    start: Annotated[Start, AfterValidator(_finished)] = "teacher"
    """Model that every target starts from: the fine-tuned teacher, or a student of another plan, such as {plan: homodistil, at:
    0.5}. [paper]"""
    chain: Literal[False] = False
    """Always false: every target begins with the whole model, whose weights nothing has changed. [paper]"""
    calibration_rows: Annotated[int, Field(ge=1)] = 2048
    """Training rows that are looked at, drawn at random; all, where a task has fewer. [rows; paper: Kwon et al.]"""
    recover: Recover = Recover(epochs=0.0)
    """Training at the final masks, before export, with logit distillation. Without any, nothing is trained at all. [paper: no
    training]"""
    alpha: Fraction = 0.5
    """Weight of the distillation term in a recovery; the task loss has weight 1 - alpha. [common]"""
    temperature: Positive = 2.0
    """Divides the logits of teacher and student in the distillation term of a recovery. [common]"""

    def parts(self, *, first_stage: bool) -> list[float]:
        """No part: there are no steps."""
        return []

    @property
    def distils(self) -> bool:
        """Where there is a recovery in which the distillation term has a weight."""
        return self.recover.epochs > 0 and self.alpha > 0

    @property
    def reads(self) -> Reads | None:
        """Logits alone, where a recovery distils."""
        return Reads() if self.distils else None


class KwonPlan(UntrainedPlan):
    """Remove heads and FFN units by their Fisher information, and scale what stays by least squares: no training, minutes (Kwon
    et al. 2022, arXiv 2204.09656; docs/methods/kwon.md)."""

    method: Literal["kwon"]
    cost: Literal["weights", "macs"] = "weights"
    """What a sparsity is a fraction of: weights of the encoder's matrices, or multiplications and additions, among which the
    products of queries, keys and values make heads dearer. Targets in time have costs of their own. [paper: macs]"""
    length: Annotated[int, Field(ge=1)] = 128
    """Tokens of a row for which multiplications are counted. [tokens; ours]"""
    rearrange: bool = True
    """Exchange removed and kept parts of a layer where that changes the loss less, effects of parts on each other counted.
    [paper]"""
    tune: bool = True
    """Scale what each kept part writes, so that the sublayer adds up to what the whole one does. [paper]"""
    largest_scale: Positive = 10.0
    """Scales beyond this are not believed: the sublayer, and those after it, stay as they are. [factor; public code]"""
    refit: bool = False
    """Also fit the output matrices by least squares on calibration_rows training rows, before recovery. [ours: K-prune]"""


class KprunePlan(UntrainedPlan):
    """Remove heads and FFN units sublayer by sublayer, by what they know, and solve each output matrix anew: no training,
    minutes (Park, Choi, Kang 2024, arXiv 2308.03449; docs/methods/kprune.md)."""

    method: Literal["kprune"]
    temperature: Positive = 2.0
    """Divides the logits in the predictive part of importance, and in the distillation term of a recovery. [paper]"""
    predictive_weight: NonNegative = 1.0
    """Weight λ_p of how far the outputs move without a part. [paper]"""
    feature_weight: NonNegative = 2.5e-4
    """Weight λ_r of what a part writes to the residual stream. [paper]"""
    head_factor: Positive = 64.0
    """Factor of the importance of heads against that of FFN units. [paper]"""
    refit: bool = True
    """Solve each sublayer's output matrix by least squares once its parts are removed; false shows what that is worth.
    [paper]"""
