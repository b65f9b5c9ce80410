"""Settings of `specialise`: fine-tuning of task-agnostic students on a task."""

from __future__ import annotations

from typing import ClassVar, Literal

from espalier.config.families import NARROWED
from espalier.config.starts import Source
from espalier.config.teacher_outputs import Reads
from espalier.config.training import Fraction, Plan, Positive, Recover, Removal


class SpecialisePlan(Plan):
    """Fine-tune the students of a text task on every other task. Nothing is removed. Each target is one student, and no student
    starts from another target's."""

    method: Literal["specialise"]
    rule: ClassVar[Literal["compress", "specialise", "adopt"]] = "specialise"
    removes: ClassVar[Removal] = "nothing"
    start: Source  # type: ignore[assignment]  # narrower: never a teacher or the pre-trained base
    """The plan whose students are fine-tuned; it must work on text tasks."""
    chain: Literal[False] = False
    """Always false: every target has a source of its own. [ours]"""
    recover: Recover = Recover(epochs=0.0)
    """Training after a stage. Nothing was removed, so none is needed. [ours]"""
    epochs: Positive = 3.0
    """Passes over the training rows. [epochs; ours]"""
    alpha: Fraction = 0.0
    """Weight of logit distillation from the task's teacher; the task loss has weight 1 - alpha. [paper: HomoDistil fine-tunes
    without distillation]"""
    temperature: Positive = 2.0
    """Divides the logits of teacher and student in the distillation term; higher is softer. [common]"""

    @property
    def families(self) -> tuple[str, ...]:
        """Families of the plans on text that it starts from."""
        return NARROWED

    @property
    def distils(self) -> bool:
        """Where the distillation term has a weight."""
        return self.alpha > 0

    @property
    def reads(self) -> Reads | None:
        """Logits, where distillation is on."""
        return Reads() if self.alpha > 0 else None

    def parts(self, *, first_stage: bool) -> list[float]:
        """One part."""
        return [self.epochs]
