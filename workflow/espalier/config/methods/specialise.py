"""The block of what comes after task-agnostic compression: fine-tuning on a task."""

from __future__ import annotations

from typing import ClassVar, Literal

from espalier.config.starts import Source
from espalier.config.training import Fraction, Plan, Positive, Recover, Removal


class SpecialisePlan(Plan):
    """Fine-tuning of task-agnostic students, one for each target, as if they were pre-trained."""

    method: Literal["specialise"]
    rule: ClassVar[Literal["compress", "specialise"]] = "specialise"
    removes: ClassVar[Removal] = "nothing"
    start: Source
    """A plan that works on text tasks."""
    recover: Recover = Recover(epochs=0.0)
    """Nothing was removed, so nothing is left to recover."""
    epochs: Positive = 3.0
    alpha: Fraction = 0.0
    """Weight of logit distillation from the task's teacher; the task loss has 1 - alpha."""
    temperature: Positive = 2.0
    """Softens both distributions of that term."""

    @property
    def is_chain(self) -> bool:
        """Every target has a source of its own."""
        return False

    def parts(self, *, first_stage: bool) -> list[float]:
        """One part."""
        return [self.epochs]
