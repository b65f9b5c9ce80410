"""Settings of SDP (self-distilled pruning, arXiv 2109.15014)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from espalier.config.blocks import Block
from espalier.config.methods.pruning import IterativePlan
from espalier.config.training import Fraction, Positive


class CrossCorrelation(Block):
    """The cross-correlation term of SDP (docs/methods/sdp.md §2.5)."""

    beta: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the term. Inferred; grid {0.1, 1, 10}."""
    off_diagonal: Annotated[float, Field(ge=0.0)] = 5.0e-3
    """lambda: weight of the off-diagonal entries. Barlow Twins' default."""
    centre: bool = True
    """Subtract each feature's mean over the batch."""
    normalise: bool = True
    """Divide the term by the hidden width, so that beta stays of order 1."""


class SdpPlan(IterativePlan):
    """Self-distilled pruning (arXiv 2109.15014)."""

    method: Literal["sdp"]
    trains_whole: ClassVar[bool] = True
    objective: Literal["kld", "cos", "cc", "cc+kld"] = "cc"
    """What ties the pruned student to its unpruned teacher."""
    representation: Literal["first-token", "mean"] = "first-token"
    """Last hidden state of the first token, or the mean over the real tokens."""
    alpha: Fraction = 0.5
    """Weight of the KL term (objectives kld, cc+kld); the task loss has 1 - alpha."""
    temperature: Positive = 2.0
    """Temperature of the KL term."""
    beta_cos: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the cosine term (objective cos)."""
    cc: CrossCorrelation = CrossCorrelation()

    @property
    def needs_whole(self) -> bool:
        """All objectives but kld compare hidden states."""
        return self.objective != "kld"

    @model_validator(mode="after")
    def _whole_batch(self) -> Self:
        size = self.micro_batch_size
        if "cc" in self.objective and (size == "auto" or (size and size < self.batch_size)):
            raise ValueError(
                f"objective {self.objective!r} is a statistic of the whole batch: micro_batch_size {size} below batch_size "
                f"{self.batch_size} would change it; lower batch_size instead, or use more processes"
            )
        return self
