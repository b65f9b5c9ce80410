"""Settings of HomoDistil: task-agnostic compression on unlabelled text."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from espalier.config.families import NARROWED
from espalier.config.kinds import Kind
from espalier.config.pictures import HistoryColumn
from espalier.config.starts import TextStart
from espalier.config.training import Fraction, NonNegative, Plan, Positive, Recover, Removal

Average = Annotated[float, Field(ge=0.0, lt=1.0)]
Steps = Annotated[int, Field(ge=1)]


class HomodistilPlan(Plan):
    """Narrow every width little by little under distillation on unlabelled text (arXiv 2302.09632; docs/methods/homodistil.md
    §2 to 4). Where the origin is public code, that is the code of PLATON, which the paper builds on."""

    kinds: ClassVar[frozenset[Kind]] = frozenset({"text"})
    no_vectors: ClassVar[str] = "its students learn to guess masked words under a teacher that guesses them"
    no_labels: ClassVar[str] = "its students learn to guess masked words; method specialise fine-tunes them then"
    method: Literal["homodistil"]
    removes: ClassVar[Removal] = "structure"
    start: TextStart = "teacher"
    """Model that the first stage starts from: the teacher, whose copy has no gap to it, or a student of another homodistil
    plan. [paper]"""
    learning_rate: Positive = 5.3e-5
    """Peak learning rate of AdamW. [ours: the paper has 6.0e-4 at 4,096 rows a step; square-root scaling to 32 rows]"""
    adam_epsilon: Positive = 1.0e-6
    """Epsilon of AdamW. [paper]"""
    epochs: Positive = 3.0
    """Passes over the corpus in a stage. [epochs; paper: 28,000 steps]"""
    recover: Recover = Recover(epochs=0.0)
    """Training after a stage. A stage goes on training after its last cut already, so none is needed. [ours]"""
    prune_start: Fraction = 0.018
    """Part of the stage that passes before narrowing begins; at least one step, and less than prune_end. [fraction; ours: 500
    of 28,000 steps]"""
    prune_end: Fraction = 0.7
    """Part of the stage that has passed when the target is reached. [fraction; ours]"""
    decide_every: Steps = 10
    """Optimiser steps from one cut to the next. [steps; public code]"""
    prune_schedule: Literal["cubic", "linear", "step"] = "cubic"
    """How widths fall between prune_start and prune_end: fast first, evenly, or in four equal cuts. [paper: cubic; the others
    are ablations]"""
    removal: Literal["iterative", "one-shot", "random-start"] = "iterative"
    """When units are removed: little by little; all at prune_start, with scores gathered until then and no update; or all
    before the first step, with every weight drawn anew. [paper: iterative; the others are ablations]"""
    importance: Literal["platon", "averaged-sensitivity", "sensitivity", "magnitude", "random"] = "platon"
    """Score of a weight w: the running average of |w dL/dw| times its uncertainty; that average alone; |w dL/dw| of the last
    step; |w|; or a random number for every unit. [inferred]"""
    beta1: Average = 0.85
    """Decay of the running average of importance. [public code]"""
    beta2: Average = 0.95
    """Decay of the running average of uncertainty. [public code]"""
    score_gradients: Literal["raw", "clipped"] = "raw"
    """Gradients in the importance: as they are computed, or scaled down by clip_norm where the optimiser reads them so. [ours:
    clipped in the public code]"""
    window: Steps = 10
    """Optimiser steps whose mean enters the running averages as one value. [steps; public code]"""
    member_scores: Literal["divided", "undivided"] = "divided"
    """How a unit's score is summed: over all matrices that the unit belongs to, each divided by its mean score; or only over
    the matrices that write to the unit, undivided. [ours]"""
    allocation: Literal["local", "global"] = "local"
    """Narrow every width by the same fraction, or rank the FFN units of all layers together; heads keep equal numbers in all
    layers. [paper]"""
    multiple: Steps = 8
    """FFN widths, and hidden widths until the last cut, are multiples of this number, because other widths compute slowly. The
    size that is reached differs from the target by at most half of this number. [units; ours: on a CPU, width 383 took a
    quarter longer than 384]"""
    mlm_weight: NonNegative = 1.0
    """Weight of masked-language modelling; 0 leaves the term out. [ours: not found in the paper]"""
    prediction_weight: NonNegative = 1.0
    """Weight of the KL divergence from the teacher at masked tokens; 0 leaves the term out. [ours: not found in the paper]"""
    hidden_weight: NonNegative = 1.0
    """Weight of the mean squared error of the layers' outputs, averaged over layers; 0 leaves the term out. [ours: not found in
    the paper]"""
    embedding_weight: NonNegative = 0.1
    """Weight of the mean squared error of the embeddings; 0 leaves the term out. [ours: not found in the paper]"""
    attention_weight: NonNegative = 0.1
    """Weight of the mean squared error of the attention scores, averaged over layers; 0 leaves the term out. [ours: not found
    in the paper]"""
    temperature: Positive = 1.0
    """Divides the logits of teacher and student in the prediction term; higher is softer. [ours]"""
    attention: Literal["pre-softmax", "post-softmax"] = "pre-softmax"
    """Attention scores that are compared, averaged over heads: before the softmax or after it. [ours]"""
    embedding: Literal["output", "table"] = "output"
    """What the embedding term compares: the output of the embedding block after its LayerNorm, or rows of the word table.
    [ours]"""
    projections: Literal["identity", "random"] = "identity"
    """First values of the maps from the student's width to the teacher's: identity makes every distillation term 0 at step 0;
    random draws them. [ours]"""

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        if self.prune_start >= self.prune_end:
            raise ValueError(f"prune_start {self.prune_start} must be below prune_end {self.prune_end}")
        return self

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if not self.mlm_weight + self.prediction_weight:
            raise ValueError("mlm_weight and prediction_weight are both 0: nothing would train the head")
        return self

    @model_validator(mode="after")
    def _cuts_once(self) -> Self:
        if self.removal != "iterative" and self.chain and len(self.path) > 1:
            raise ValueError(f"removal {self.removal} does not go on from an earlier target: set chain: false")
        return self

    @property
    def families(self) -> tuple[str, ...]:
        """Families whose widths can be narrowed."""
        return NARROWED

    @property
    def keeps_layers_alike(self) -> bool:
        """Unless FFN units of all layers are ranked together."""
        return self.allocation == "local"

    def parts(self, *, first_stage: bool) -> list[float]:
        """One part."""
        return [self.epochs]


WIDTH_COLUMNS = (
    HistoryColumn(name="width/hidden", panel="widths", label="hidden", unit="dimensions", logarithmic=True),
    HistoryColumn(name="width/head", panel="widths", label="head", unit="dimensions", logarithmic=True),
    HistoryColumn(name="width/ffn", panel="widths", label="ffn", unit="dimensions", logarithmic=True),
)
"""Width of the hidden states, of one head, and of the FFN, averaged over layers."""
