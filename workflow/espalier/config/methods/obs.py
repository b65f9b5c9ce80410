"""Settings of `obs`: second-order removal of heads and FFN units with a table of latencies, as in ZipLM."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from espalier.config.starts import Start
from espalier.config.targets import TargetKind
from espalier.config.teacher_outputs import Reads
from espalier.config.training import Epochs, NonNegative, Plan, Positive, Recover, Removal

Rows = Annotated[int, Field(ge=1)]
Trials = Annotated[int, Field(ge=0)]


class ObsPlan(Plan):
    """Remove heads and FFN units by the second order, refit what is left, and choose the sizes of all sublayers under a time or
    a size by a dynamic programme; then train with distillation (ZipLM, arXiv 2302.04089; docs/methods/obs.md)."""

    method: Literal["obs"]
    target_kinds: ClassVar[frozenset[TargetKind]] = frozenset({"sparsity", "parameters", "latency"})
    removes: ClassVar[Removal] = "structure"
    start: Start = "teacher"
    """Model that the first stage starts from: the teacher, as in the paper, the base with a new head, or a student of another
    plan. [paper]"""
    epochs: Epochs = 3.0
    """Training after the removal of every stage; with 0 nothing is trained, and a stage takes minutes. [epochs; ours]"""
    recover: Recover = Recover(epochs=0.0)
    """Training after a stage. A stage trains after its removal already, so none is needed. [ours]"""
    calibration_rows: Rows = 1024
    """Training rows of which inputs of matrices are gathered, at the beginning of every stage. [rows; paper]"""
    search_rows: Rows = 256
    """How many of them score a choice of sizes, by how far it moves the outputs. [rows; ours]"""
    search_random: Trials = 10
    """Random coefficients of the sublayers' errors that the search tries first, after all equal ones. [trials; public code]"""
    search_mutations: Trials = 40
    """Changes of the best coefficients that it tries then. Where this and search_random are 0, all coefficients are 1. [trials;
    ours]"""
    mutation_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """Probability with which a change draws each coefficient anew. [fraction; public code]"""
    task_weight: NonNegative = 0.5
    """Weight of the task loss; 0 leaves the term out. [ours: not found in the paper]"""
    prediction_weight: NonNegative = 0.5
    """Weight of logit distillation; 0 leaves the term out. [ours: not found in the paper]"""
    hidden_weight: NonNegative = 1.0
    """Weight of the mean squared error between the outputs of each layer and of the same layer of the teacher, without padding,
    averaged over layers; 0 leaves the term out. [ours: not found in the paper]"""
    temperature: Positive = 2.0
    """Divides the logits of teacher and student in the prediction term; higher is softer. [common]"""

    @model_validator(mode="after")
    def _searches_in_what_it_sees(self) -> Self:
        if self.search_rows > self.calibration_rows:
            raise ValueError(f"search_rows {self.search_rows} is larger than calibration_rows {self.calibration_rows}")
        return self

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if not self.task_weight + self.prediction_weight:
            raise ValueError("task_weight and prediction_weight are both 0: nothing would train the head")
        if self.start == "pretrained" and not self.epochs + self.recover.epochs:
            raise ValueError(
                "start: got pretrained, whose head is new, and with epochs 0 nothing trains it; allowed: teacher, {plan: …}"
            )
        return self

    def parts(self, *, first_stage: bool) -> list[float]:
        """One part, or none where nothing is trained."""
        return [self.epochs] if self.epochs else []

    @property
    def reads(self) -> Reads | None:
        """All layers of the teacher where they are compared; nothing where nothing is trained."""
        if not (self.epochs or self.recover.epochs):
            return None
        return Reads(layers="all") if self.hidden_weight else Reads()
