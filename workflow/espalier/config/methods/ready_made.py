"""Settings of `ready-made`: fine-tuning of another, smaller base that somebody else trained."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from espalier.config.blocks import Many, Name
from espalier.config.kinds import ROW_PER_TEXT, Kind
from espalier.config.targets import Target, TargetKind, number_of
from espalier.config.training import Fraction, Plan, Positive, Recover, Removal


class ReadyMadePlan(Plan):
    """Fine-tune another, smaller base on the task, with the teacher of the base that is compressed as its teacher: what one
    could take instead of a pruned model of the same size. Only for kinds of task whose rows are the same
    for every tokenizer: classification, regression, multilabel, ranking."""

    method: Literal["ready-made"]
    target_kinds: ClassVar[frozenset[TargetKind]] = frozenset()
    kinds: ClassVar[frozenset[Kind]] = frozenset(ROW_PER_TEXT)
    no_vectors: ClassVar[str] = (
        "another base has vectors of another space; compare its own scores, as a base that is compressed"
    )
    no_labels: ClassVar[str] = "the tokenizer of another base cuts such texts into other rows than the teacher's"
    rule: ClassVar[Literal["compress", "specialise", "adopt"]] = "adopt"
    removes: ClassVar[Removal] = "nothing"
    base: Name
    """The other base, one of `bases`. A base that such a plan names has no teacher and no other plans; to compress it, too,
    name it a second time. [base]"""
    path: Annotated[tuple[Target, ...], Many, Field(min_length=1)] = (0.0,)
    """Always [0.0], because nothing is removed. The sparsities in the table count the other base's weights against those of the
    base that is compressed. [targets; ours]"""
    start: Literal["pretrained"] = "pretrained"
    """Always pretrained: the other base with a new head. [ours]"""
    recover: Recover = Recover(epochs=0.0)
    """Nothing was removed, so there is no recovery; its epochs are 0. [ours]"""
    epochs: Positive = 3.0
    """Passes over the training rows. [epochs; ours]"""
    alpha: Fraction = 0.5
    """Weight of logit distillation from the teacher; the task loss has weight 1 - alpha. 0 fine-tunes without a teacher.
    [common]"""
    temperature: Positive = 2.0
    """Divides the logits of teacher and student in the distillation term; higher is softer. [common]"""

    @model_validator(mode="after")
    def _aims_right(self) -> Self:
        if self.path != (0.0,):
            raise ValueError(
                f"a ready-made model is not made smaller, so its path is [0.0]; got {list(map(number_of, self.path))}"
            )
        if self.recover.epochs:
            raise ValueError(f"recover.epochs: got {self.recover.epochs}; nothing was removed, so raise epochs instead")
        return self

    @property
    def distils(self) -> bool:
        """Where the distillation term has a weight."""
        return self.alpha > 0

    def parts(self, *, first_stage: bool) -> list[float]:
        """One part."""
        return [self.epochs]
