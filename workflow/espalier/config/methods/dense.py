"""Settings of `dense`: training without compression, the control."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from espalier.config.blocks import Many
from espalier.config.targets import Target, TargetKind, number_of
from espalier.config.training import Plan, Positive, Removal


class DensePlan(Plan):
    """Train without compression: the control."""

    target_kinds: ClassVar[frozenset[TargetKind]] = frozenset()
    removes: ClassVar[Removal] = "nothing"
    method: Literal["dense"]
    path: Annotated[tuple[Target, ...], Many, Field(min_length=1)] = (0.0,)
    """Always [0.0], because nothing is removed. [targets; ours]"""
    epochs: Positive = 3.0
    """Passes over the training rows in the single stage; recovery comes on top. [epochs; ours]"""

    @model_validator(mode="after")
    def _aims_right(self) -> Self:
        if self.path != (0.0,):
            raise ValueError(f"method dense removes nothing, so its path is [0.0]; got {list(map(number_of, self.path))}")
        return self

    def parts(self, *, first_stage: bool) -> list[float]:
        """One part."""
        return [self.epochs]
