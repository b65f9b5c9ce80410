"""Settings of SPD: pruned layers are grafted onto a dense teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from espalier.config.blocks import Block
from espalier.config.families import ENCODERS, RECORDABLE
from espalier.config.kinds import LABELLED, Kind
from espalier.config.pictures import HistoryColumn, ScoreCurve
from espalier.config.teacher_outputs import Reads
from espalier.config.training import ClipScope, Epochs, Fraction, NonNegative, Positive, PrunedPlan, Recover


class Prediction(Block):
    """Form of SPD's prediction term."""

    reduction: Literal["mean", "batchmean"] = "mean"
    """Mean over rows and classes, or over rows alone. Spans always take the mean over rows alone. [public code]"""
    regression_target: Literal["gold", "teacher"] = "gold"
    """What the outputs of a regression task are compared with: the gold labels, or the teacher's outputs. [public code]"""


class SpdPlan(PrunedPlan):
    """Sparse progressive distillation (arXiv 2110.08190; docs/methods/spd.md §2 to 4): pruned student layers replace layers of
    the dense teacher at random, and more and more often."""

    method: Literal["spd"]
    kinds: ClassVar[frozenset[Kind]] = frozenset(LABELLED)
    start: Literal["teacher"] = "teacher"
    """Always the teacher: student layers begin as copies of its layers, and its embeddings and head are shared. [paper]"""
    learning_rate: Positive = 6.4e-4
    """Peak learning rate of AdamW; 1.6e-4 is the one to fall back to where training diverges. [public code: the authors'
    README; their code has 1.6e-4]"""
    warmup: Fraction = 0.0
    """Part of each learning-rate interval in which the rate rises from 0 to its peak. [fraction; public code]"""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay of AdamW; biases and LayerNorms are not decayed. [public code]"""
    recover: Recover = Recover(epochs=0.0)
    """Training after a stage at its final masks. A stage ends with fine-tuning already, so none is needed. [ours]"""
    sparsify_epochs: Positive = 30.0
    """Part 1 of a stage: weights are removed, the last ones at its end, where the target is reached. [epochs; public code]"""
    grafting_epochs: Epochs = 10.0
    """Part 2: the probability of student layers rises to 1; with 0 epochs it becomes 1 as soon as part 1 ends. [epochs; public
    code]"""
    finetune_epochs: Positive = 20.0
    """Part 3: the student layers train alone. Parts 2 and 3 share one learning-rate schedule. [epochs; inferred]"""
    prune_steps: Annotated[int, Field(ge=1)] = 12
    """Removals in part 1, evenly spaced; the last one reaches the stage's target. [removals; public code: meant to do 12, does
    11]"""
    prune_schedule: Literal["uniform", "geometric", "cubic"] = "cubic"
    """How sparsity rises over the removals: by equal steps, by the same share of what is left, or fast first. [public code]"""
    initial_probability: Fraction = 0.8
    """Probability in part 1 that a position runs its student layer rather than the teacher's; drawn for every layer in every
    step. 1 never runs a teacher layer, so nothing is grafted. [probability; public code]"""
    probability_schedule: Literal["constant", "linear", "constant-linear", "constant-jump-linear"] = "constant-linear"
    """How the probability of student layers goes on: it stays the same; it rises from the first step to the end of part 2; it
    rises in part 2 only; or it jumps to jump_probability and rises in part 2. [public code]"""
    jump_probability: Fraction = 0.5
    """Probability at which part 2 begins, for probability_schedule constant-jump-linear. [probability; ours]"""
    hidden_weight: NonNegative = 1.0
    """Weight of the term that compares the outputs of layers; 0 leaves the term out. [public code]"""
    attention_weight: NonNegative = 1.0
    """Weight of the term that compares attention probabilities; 0 leaves the term out. [public code]"""
    prediction_weight: NonNegative = 1.0
    """Weight of the term that compares predictions; 0 leaves the term out. [public code]"""
    hard_label_weight: NonNegative = 0.0
    """Weight of the task's own loss; 0 leaves it out. [public code]"""
    temperature: Positive = 1.0
    """Divides the logits of teacher and student in the prediction term; higher is softer. [public code]"""
    pred: Prediction = Prediction()
    """Form of the prediction term. [public code]"""
    mask_padding: bool = False
    """Leave padding out of the terms on outputs and attention. [public code]"""
    pad_to: Annotated[int, Field(ge=8)] | None = None
    """Tokens of every row of a training batch, padding included; null pads to the longest row of the batch. The terms on
    outputs and attention are means over padding too, so their size depends on it. [tokens; ours: 128 in the public code]"""
    clip_scope: ClipScope = "trainable"
    """Parameters whose gradients count in the norm that clip_norm limits: only those that are trained, or also the teacher's
    layers as in the authors' code. Removed weights never count. [ours]"""
    freeze_embeddings: bool = True
    """Do not train the embeddings. [public code]"""
    freeze_head: bool = True
    """Do not train what comes after the encoder's layers. [public code]"""
    divergence_factor: Annotated[float, Field(gt=1.0)] | None = 10.0
    """Stop the run when the hidden-state term stays above this multiple of its first value for 200 consecutive steps; null
    never stops it. The learning rate is not lowered automatically. [multiple; ours]"""

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if not self.hidden_weight + self.attention_weight + self.prediction_weight + self.hard_label_weight:
            raise ValueError("hidden_weight, attention_weight, prediction_weight and hard_label_weight are all 0: no loss left")
        if self.initial_probability == 0 and self.probability_schedule == "constant":
            raise ValueError("initial_probability 0 with probability_schedule constant: no student layer would ever be trained")
        return self

    @property
    def distils(self) -> bool:
        """Where a term on layers, attention or predictions has a weight."""
        return self.hidden_weight + self.attention_weight + self.prediction_weight > 0

    @property
    def grafts(self) -> bool:
        """Whether a teacher layer may ever run in place of a student layer."""
        jumps = self.probability_schedule == "constant-jump-linear" and self.grafting_epochs > 0
        return self.initial_probability < 1 or (jumps and self.jump_probability < 1)

    @property
    def reads(self) -> Reads | None:
        """All layers, or logits alone; nothing where attention is compared, for which the teacher must run."""
        if self.attention_weight or not self.hidden_weight + self.prediction_weight:
            return None
        return Reads(layers="all", pad_to=self.pad_to) if self.hidden_weight else Reads()

    @property
    def families(self) -> tuple[str, ...]:
        """Families whose attention can be recorded, where it is compared."""
        return RECORDABLE if self.attention_weight else ENCODERS

    def parts(self, *, first_stage: bool) -> list[float]:
        """Sparsification; grafting and fine-tuning, which share a learning-rate schedule."""
        return [self.sparsify_epochs, self.grafting_epochs + self.finetune_epochs]

    def removal_steps(self, *, bounds: Sequence[int], first_stage: bool) -> list[int]:
        """Evenly over part 1, the last one at its end."""
        return [round(number * bounds[0] / self.prune_steps) for number in range(1, self.prune_steps + 1)]


GRAFTING_COLUMNS = (
    HistoryColumn(name="grafting_probability", turn="the student runs alone"),
    HistoryColumn(name="student_layers"),
)
"""Probability that a student layer runs, and how many of them ran, averaged over the logged steps."""
GRAFTING = frozenset({"initial_probability", "probability_schedule", "jump_probability", "grafting_epochs", "finetune_epochs"})
"""Settings of grafting alone. Grafting and fine-tuning together take the same epochs in all plans of a comparison."""
FIRST_PROBABILITIES = 3
"""A comparison has at least this many first probabilities: two make no curve."""


def grafting_curves(plans: Mapping[str, SpdPlan]) -> list[ScoreCurve]:
    """Score against the first probability of a student layer, for plans that differ in nothing but grafting.

    Source: docs/methods/spd.md §6.2; the definition is ours.

    Args:
        plans: the study's plans of this method.
    """
    comparisons: dict[str, dict[str, tuple[float, str]]] = {}
    for name, plan in plans.items():
        # Plans belong together where all other settings, and the length of the stage, are the same.
        others = f"{plan.model_dump_json(exclude=set(GRAFTING))} {plan.grafting_epochs + plan.finetune_epochs}"

        # Without grafting epochs there is no ramp, whatever the schedule: the probability jumps to 1.
        schedule = plan.probability_schedule if plan.grafting_epochs else "constant, then 1"
        comparisons.setdefault(others, {})[name] = (plan.initial_probability, schedule)

    return [
        ScoreCurve(
            name="first grafting probability",
            axis="first probability of a student layer",
            note="Grafting, definition ours (SPD specification, 6.2): plans that differ in it alone.",
            points=points,
        )
        for points in comparisons.values()
        if len({first for first, _ in points.values()}) >= FIRST_PROBABILITIES
    ]
