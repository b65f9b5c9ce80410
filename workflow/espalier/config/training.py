"""Blocks for training: the teacher and one settings class a method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from espalier.config.blocks import Block, Many
from espalier.config.data import Kind
from espalier.config.starts import Start
from espalier.config.targets import Goal, Target, check_path, goal_of, kind_of

Positive = Annotated[float, Field(gt=0.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Epochs = Annotated[float, Field(ge=0.0)]
Removal = Literal["nothing", "weights", "structure"]
"""What a method removes: single weights, which leaves zeros in matrices of the same shape, or whole parts."""


def _rows_or_auto(value: object) -> object:
    """One message for what may be of three types."""
    if value is None or value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"got {value!r}; allowed: a whole number >= 1, auto, null")


class Training(Block):
    """What every training run has."""

    learning_rate: Positive = 3.0e-5
    """Peak learning rate of AdamW."""
    schedule: Literal["linear", "constant"] = "linear"
    """Learning rate after warm-up: linear to 0, or constant."""
    warmup: Fraction = 0.1
    """Fraction of each learning-rate interval in which the rate rises from 0."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows in one optimiser step."""
    micro_batch_size: Annotated[Annotated[int, Field(ge=1)] | Literal["auto"] | None, BeforeValidator(_rows_or_auto)] = None
    """Rows in one forward pass, of all processes together; smaller saves memory and leaves the gradient as it is. batch_size
    when left out; auto begins there and halves it where memory runs out."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    """AdamW's decoupled weight decay; biases and LayerNorms have none."""
    clip_norm: Positive = 1.0
    """Largest gradient norm over the trainable parameters."""
    evaluate_every: Epochs = 1.0
    """Epochs between two evaluations; 0 evaluates at the end only."""
    evaluate_train: bool = False
    """Score as many training rows as the evaluation set has, too, with each evaluation: how much a run overfits."""
    checkpoint: Literal["last", "best"] = "last"
    """Weights to keep: those of the last step, or of the best evaluation at the target sparsity."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if isinstance(self.micro_batch_size, int) and self.micro_batch_size > self.batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} is larger than batch_size {self.batch_size}")
        return self


class Teacher(Training):
    """Fine-tuning of a base on a task."""

    epochs: Positive = 3.0
    per_task: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings for single tasks, e.g. {rte: {epochs: 6.0}}."""


class Pretrain(Training):
    """Masked-language modelling with a base: the teacher of a text task."""

    train: Literal["head", "all"] = "head"
    """head leaves the encoder and the word embeddings as they are; all trains them, too."""
    epochs: Epochs | None = None
    """Passes over the corpus. When left out: 1 where the base brings no head, and 0, which copies the base unchanged,
    where it brings one."""
    learning_rate: Positive = 5.0e-4
    per_task: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings for single tasks, e.g. {docs-corpus: {epochs: 2.0}}."""


class Recover(Block):
    """Training at the fixed final masks, from which the exported model is taken; it does not feed the next stage."""

    epochs: Epochs = 1.0
    """0 exports the stage's student as it is."""
    learning_rate: Positive | None = None
    """The plan's learning rate when left out."""


class Plan(Training):
    """What every method has."""

    goals: ClassVar[frozenset[Goal]] = frozenset({"sparsity", "parameters"})
    """What the method can aim at."""
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "regression", "span"})
    """Kinds of task that the method can work on."""
    rule: ClassVar[Literal["compress", "specialise"]] = "compress"
    """What runs a stage."""
    removes: ClassVar[Removal] = "weights"
    """What the method removes."""
    trains_whole: ClassVar[bool] = False
    """Whether the path may be [0.0]: training under the method's own objective, and nothing removed."""
    learning_rate: Positive = 5.0e-5
    path: Annotated[tuple[Target, ...], Many, Field(min_length=1)]
    """Targets of one kind, each smaller than the one before; one cached stage each. A number is a sparsity, the fraction
    of the encoder's weights that is removed."""
    start: Start = "pretrained"
    """The first stage starts from the pre-trained base with a new head, from the fine-tuned teacher, or from a student of
    another plan: {plan: homodistil, at: 0.5}."""
    recover: Recover = Recover()
    per_task: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings for single tasks, e.g. {rte: {recover: {epochs: 6.0}}}."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        check_path(self.path)
        return self

    @model_validator(mode="after")
    def _aims_right(self) -> Self:
        if not self.can_aim_at(self.path[0]):
            allowed = ", ".join(sorted(self.goals))
            raise ValueError(f"method {self.method} cannot aim at {kind_of(self.path[0])}; allowed: {allowed}")
        if self.removes != "nothing" and self.path[0] == 0.0 and (len(self.path) > 1 or not self.trains_whole):
            control = "; [0.0] alone trains under the same objective and removes nothing" if self.trains_whole else ""
            raise ValueError(f"path must begin above 0, got {self.path[0]}; the method 'dense' is the control{control}")
        return self

    @classmethod
    def can_aim_at(cls, target: Target) -> bool:
        """Whether the method knows how to reach this kind of target."""
        return goal_of(target) in cls.goals

    @property
    def is_chain(self) -> bool:
        """Whether a stage starts from the student of the stage before; otherwise each starts as the first one does."""
        return True

    @property
    def needs_whole(self) -> bool:
        """Whether a student must have the base's own shape, because its states are compared with the teacher's as they are."""
        return False

    def parts(self, *, first_stage: bool) -> list[float]:
        """Lengths, in epochs, of the parts of a stage."""
        raise NotImplementedError

    def removal_steps(self, *, bounds: Sequence[int], first_stage: bool) -> list[int]:
        """Steps before which the stage removes something, given the steps at which its parts end.

        None where nothing is removed, and where the method says itself when it removes.
        """
        return []

    def schedule_ends(self, bounds: Sequence[int]) -> list[int]:
        """Steps at which learning-rate schedules end, given the steps at which the parts of the stage end."""
        return list(bounds)


class PrunedPlan(Plan):
    """Pruning of single weights in several removals."""

    prune_steps: Annotated[int, Field(ge=1)] = 1
    """Removals in a stage; the last one reaches the stage's target."""
    prune_schedule: Literal["uniform", "geometric", "cubic"] = "uniform"
    """How sparsity rises over the removals of a stage."""
    restart_schedule: bool = True
    """Begin the learning-rate schedule anew where a part of the stage begins."""
    allocation: Literal["layer", "global"] = "layer"
    """The same fraction in each matrix, or one ranking over all of them."""
    prune_embeddings: bool = False
    """Prune the word embeddings, too."""
    evaluate_removals: bool = False
    """Evaluate just before and just after each removal, too: how a student recovers from it."""

    def removal_steps(self, *, bounds: Sequence[int], first_stage: bool) -> list[int]:
        """Steps before which weights are removed, given the steps at which the parts of the stage end."""
        raise NotImplementedError

    def schedule_ends(self, bounds: Sequence[int]) -> list[int]:
        """The end of every part, or of the last one alone."""
        return list(bounds) if self.restart_schedule else [bounds[-1]]
