"""The block of SPD: pruned layers grafted onto a dense teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from espalier.config.blocks import Block
from espalier.config.pictures import HistoryColumn, ScoreCurve
from espalier.config.training import Epochs, Fraction, Positive, PrunedPlan, Recover

Weight = Annotated[float, Field(ge=0.0)]


class Prediction(Block):
    """What the prediction term is."""

    reduction: Literal["mean", "batchmean"] = "mean"
    """Mean over rows and classes, as in the authors' code; or over rows alone. Spans: over rows alone."""
    regression_target: Literal["gold", "teacher"] = "gold"
    """Regression compares with the labels, as in the authors' code, or with the teacher's outputs."""


class SpdPlan(PrunedPlan):
    """Sparse progressive distillation (arXiv 2110.08190; docs/methods/spd.md §2 to 4)."""

    method: Literal["spd"]
    start: Literal["teacher"] = "teacher"
    """Student layers begin as copies of the teacher's, and share its embeddings and head."""
    learning_rate: Positive = 6.4e-4
    """The authors' README; the default in their code is 1.6e-4, to fall back to where training diverges."""
    warmup: Fraction = 0.0
    weight_decay: Weight = 0.0
    recover: Recover = Recover(epochs=0.0)
    """A stage ends with fine-tuning, so nothing is left to recover."""
    sparsify_epochs: Positive = 30.0
    """Part 1: weights are removed; the last removal is at its end, and at the target."""
    grafting_epochs: Epochs = 10.0
    """Part 2: the probability of student layers rises to 1; 0 sets it to 1 where part 1 ends."""
    finetune_epochs: Positive = 20.0
    """Part 3: student layers alone. One learning-rate schedule for parts 2 and 3."""
    prune_steps: Annotated[int, Field(ge=1)] = 12
    """Removals in part 1, evenly spaced."""
    prune_schedule: Literal["uniform", "geometric", "cubic"] = "cubic"
    """How sparsity rises over them."""
    initial_probability: Fraction = 0.8
    """Probability of a student layer in part 1; 1 never runs a teacher layer."""
    probability_schedule: Literal["constant", "linear", "constant-linear", "constant-jump-linear"] = "constant-linear"
    """How it goes on: it stays; rises from the first step to the end of part 2; rises in part 2; or rises in part 2 from
    `jump_probability`."""
    jump_probability: Fraction = 0.5
    """For constant-jump-linear alone."""
    hidden_weight: Weight = 1.0
    """Weight of the layers' outputs; weights of 0 leave a term out."""
    attention_weight: Weight = 1.0
    """Weight of attention probabilities."""
    prediction_weight: Weight = 1.0
    """Weight of the prediction term."""
    hard_label_weight: Weight = 0.0
    """Weight of the task's own loss."""
    temperature: Positive = 1.0
    """Softens both distributions of the prediction term."""
    pred: Prediction = Prediction()
    mask_padding: bool = False
    """Leave padding out of both layer terms."""
    clip_scope: Literal["trainable", "all"] = "trainable"
    """Whose gradients count for `clip_norm`: of what is trained; or of all, the teacher's layers too, as in the authors' code.
    Removed weights count in neither."""
    freeze_embeddings: bool = True
    freeze_head: bool = True
    """All that comes after the encoder's layers."""
    divergence_factor: Annotated[float, Field(gt=1.0)] | None = 10.0
    """Stop where the hidden-state term is more than this many times its first value, that of dropout, for 200 steps on end;
    null: never. The rate is not lowered by itself: a run is what its configuration says."""

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if not self.hidden_weight + self.attention_weight + self.prediction_weight + self.hard_label_weight:
            raise ValueError("hidden_weight, attention_weight, prediction_weight and hard_label_weight are all 0: no loss left")
        if self.initial_probability == 0 and self.probability_schedule == "constant":
            raise ValueError("initial_probability 0 with probability_schedule constant: no student layer would ever be trained")
        return self

    @property
    def grafts(self) -> bool:
        """Whether a teacher's layer may ever stand in."""
        jumps = self.probability_schedule == "constant-jump-linear" and self.grafting_epochs > 0
        return self.initial_probability < 1 or (jumps and self.jump_probability < 1)

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
