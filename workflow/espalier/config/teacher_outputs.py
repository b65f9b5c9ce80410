"""The teacher's outputs for the training rows: what plans read of them, and whether they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from espalier.config.blocks import Block

Layers = Annotated[int, Field(ge=1)] | Literal["all"]
"""So many layers of a teacher, evenly spaced and the last one among them, or all of them."""
NumberFormat = Literal["fp32", "bf16"]


class TeacherOutputs(Block):
    """Whether a teacher's outputs for the training rows are stored once, in work/, for all jobs that read them. Where those of
    layers are not, the teacher runs beside the student. Text tasks, attention maps and relations are never stored. With
    another budget, or auto instead of always, nothing runs again."""

    store: Literal["auto", "always", "never"] = "auto"
    """When the outputs of layers are stored: with auto where they fit the budget and reading them is faster than running the
    teacher, which is measured; with always where they fit the budget. Logits are stored in both cases. With never nothing is
    stored, and each job computes what it reads. [ours]"""
    budget_gib: Annotated[float, Field(ge=0.0)] = 4.0
    """Most disk space that the outputs of a teacher's layers may take, for each choice of layers that is read. [GiB; ours]"""
    precision: NumberFormat = "fp32"
    """Number format of stored outputs of layers: fp32 is exact; bf16 takes half the space and rounds to 3 digits. Logits are
    always stored in fp32. [ours]"""


@dataclass(frozen=True)
class Reads:
    """What a plan reads of its teacher's outputs besides the logits. The same rows have the same outputs in every epoch."""

    representation: Literal["first-token", "mean"] | None = None
    layers: Layers | None = None
    pad_to: int | None = None
    """Tokens of every row, padding included, where layers are read; None reads them up to the longest row of a batch."""

    @property
    def name(self) -> str:
        """By which plans that read the same share files; part of a path."""
        layers = None if self.layers is None else f"layers-{self.layers}"
        length = None if self.pad_to is None else f"pad-{self.pad_to}"
        return "-".join(filter(None, [self.representation, layers, length])) or "logits"
