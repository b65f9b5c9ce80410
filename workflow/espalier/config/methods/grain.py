"""Settings of `grain`: pruning inside heads by the gradient of the prediction term, in one run."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from espalier.config.kinds import LABELLED, Kind
from espalier.config.pictures import HistoryColumn
from espalier.config.starts import Start
from espalier.config.teacher_outputs import Reads
from espalier.config.training import Fraction, NonNegative, Plan, Positive, Recover, Removal

Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


class GrainPlan(Plan):
    """Remove single dimensions of attention heads, and FFN units, by the gradient of the prediction term alone, while the
    student is distilled (GRAIN: Yang et al. 2023, arXiv 2212.07634; docs/methods/grain.md)."""

    method: Literal["grain"]
    kinds: ClassVar[frozenset[Kind]] = frozenset(LABELLED)
    removes: ClassVar[Removal] = "structure"
    goes_on_from_rows: ClassVar[bool] = True
    leaves_rows: ClassVar[bool] = True
    start: Start = "teacher"
    """Model that the first stage starts from: the teacher, the base with a new head, or a student of another plan. [ours: not
    found in the paper]"""
    learning_rate: Positive = 3.0e-5
    """Peak learning rate of AdamW. [paper]"""
    epochs: Positive = 20.0
    """Training in every stage, removal and what comes after it together. [epochs; paper]"""
    recover: Recover = Recover(epochs=0.0)
    """Training after a stage. A stage trains on after its last removal already, so none is needed. [paper]"""
    head_rows: Literal["equal", "unequal"] = "equal"
    """How many dimensions the heads of a layer lose. equal: all the same number, of queries as of values, so that attention
    stays one call of small heads. unequal: every head its own, as the ranking says; attention sees heads as wide as the widest
    of the layer, with zeros in the place of what is gone, and matrices keep what is left alone. [ours: unequal in the
    paper]"""
    prune_start: Fraction = 0.2
    """Part of the stage that passes before removal begins, in which importance is gathered; at least one step, and less than
    prune_end. [fraction; paper]"""
    prune_end: Fraction = 0.4
    """Part of the stage that has passed when the target is reached. [fraction; paper]"""
    smoothing: Decay = 0.998
    """Decay of the running average of importance; larger averages over more steps. [paper]"""
    regularisation: NonNegative = 0.3
    """Strength alpha of StructReg: scores of a head's dimensions are multiplied by tanh(density / alpha), so that heads that
    have lost much go as a whole; 0 leaves scores as they are. [paper]"""
    separate_gradients: bool = True
    """Take importance from the gradient of the prediction term alone, at the cost of one more backward pass until the last
    removal; false takes it from the gradient of the whole loss. [paper]"""
    prediction_weight: Positive = 1.0
    """Weight of the term that compares predictions. [paper]"""
    hidden_weight: NonNegative = 1.0
    """Weight of the term that compares the outputs of layers through a linear map, a sum over all layers; 0 leaves the term
    out. [paper]"""
    temperature: Positive = 8.0
    """Divides the logits of teacher and student in the prediction term; higher is softer. [paper]"""

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        if self.prune_start >= self.prune_end:
            raise ValueError(f"prune_start {self.prune_start} must be below prune_end {self.prune_end}")
        return self

    def parts(self, *, first_stage: bool) -> list[float]:
        """One part."""
        return [self.epochs]

    @property
    def distils(self) -> bool:
        """Always: both terms compare with the teacher."""
        return True

    @property
    def reads(self) -> Reads:
        """All layers of the teacher where they are compared."""
        return Reads(layers="all") if self.hidden_weight else Reads()


GRAIN_COLUMNS = (
    HistoryColumn(name="target_sparsity", panel="sparsity", label="target", unit="fraction", is_goal=True),
    HistoryColumn(name="sparsity", panel="sparsity", label="measured", unit="fraction"),
)
"""The sparsity that the schedule asks for, and the one that the student has."""
