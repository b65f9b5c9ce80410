"""Settings of SDP (self-distilled pruning, arXiv 2109.15014)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from espalier.config.blocks import Block
from espalier.config.kinds import LABELLED, Kind
from espalier.config.methods.pruning import IterativePlan
from espalier.config.teacher_outputs import Reads
from espalier.config.training import Fraction, Positive


class CrossCorrelation(Block):
    """The cross-correlation term of SDP, for objectives cc and cc+kld (docs/methods/sdp.md §2.5)."""

    beta: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the cross-correlation term. [inferred: grid 0.1, 1, 10]"""
    off_diagonal: Annotated[float, Field(ge=0.0)] = 5.0e-3
    """Weight of the matrix's off-diagonal entries, lambda in the paper. [inferred: the default of Barlow Twins]"""
    centre: bool = True
    """Subtract each feature's mean over the batch. [inferred]"""
    normalise: bool = True
    """Divide the term by the hidden width, so that suitable values of beta stay near 1. [inferred]"""


class SdpPlan(IterativePlan):
    """Self-distilled pruning (arXiv 2109.15014; docs/methods/sdp.md §2 to 4): magnitude pruning under a loss that ties the
    pruned student to its unpruned teacher."""

    method: Literal["sdp"]
    kinds: ClassVar[frozenset[Kind]] = frozenset(LABELLED)
    trains_whole: ClassVar[bool] = True
    objective: Literal["kld", "cos", "cc", "cc+kld"] = "cc"
    """Loss that ties the student to its teacher: KL divergence of the logits (kld), cosine similarity of hidden states (cos),
    their cross-correlation (cc), or both cc and kld. [paper]"""
    representation: Literal["first-token", "mean"] = "first-token"
    """Hidden state that cos and cc compare: the first token's in the last layer, or the mean over all real tokens. On tasks of
    kind tokens it is that of the first token of each word, whatever stands here, of at most 1024 words of a batch.
    [inferred]"""
    alpha: Fraction = 0.5
    """Weight of the KL term, for objectives kld and cc+kld; the task loss has weight 1 - alpha. [inferred]"""
    temperature: Positive = 2.0
    """Divides the logits of teacher and student in the KL term; higher is softer. [inferred]"""
    beta_cos: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the cosine term, for objective cos. [inferred]"""
    cc: CrossCorrelation = CrossCorrelation()
    """Settings of the cross-correlation term, for objectives cc and cc+kld. [inferred]"""

    @property
    def distils(self) -> bool:
        """Every objective compares with the teacher."""
        return True

    @property
    def needs_whole(self) -> bool:
        """All objectives but kld compare hidden states."""
        return self.objective != "kld"

    @property
    def reads(self) -> Reads:
        """A vector of each row, for all objectives but kld."""
        return Reads(None if self.objective == "kld" else self.representation)

    @model_validator(mode="after")
    def _whole_batch(self) -> Self:
        size = self.micro_batch_size
        if "cc" in self.objective and (size == "auto" or (size and size < self.batch_size)):
            raise ValueError(
                f"objective {self.objective!r} is a statistic of the whole batch: micro_batch_size {size} below batch_size "
                f"{self.batch_size} would change it; lower batch_size instead, or use more processes"
            )
        return self
