"""The block of HomoDistil: task-agnostic compression on unlabelled text."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from espalier.config.data import Kind
from espalier.config.pictures import HistoryColumn
from espalier.config.starts import TextStart
from espalier.config.training import Fraction, Plan, Positive, Recover, Removal

Weight = Annotated[float, Field(ge=0.0)]
Average = Annotated[float, Field(ge=0.0, lt=1.0)]
Steps = Annotated[int, Field(ge=1)]


class HomodistilPlan(Plan):
    """Iterative narrowing of every width under distillation (arXiv 2302.09632; docs/methods/homodistil.md §2 to 4).

    Steps are optimiser steps. What the paper does not say is marked: ours, or the code that it builds on (PLATON).
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"text"})
    method: Literal["homodistil"]
    removes: ClassVar[Removal] = "structure"
    start: TextStart = "teacher"
    """The student begins as a copy of the teacher, so that the gap to it is zero; or where another such plan stands."""
    chain: bool = True
    """Whether a target goes on from the student of the target before it. Without it every target starts as the first one
    does and takes the same number of steps: what ablations compare."""
    learning_rate: Positive = 5.3e-5
    """The paper has 6.0e-4 (3.0e-4 for its largest model) at 4,096 rows a step; this is its square-root scaling to 32."""
    adam_epsilon: Positive = 1.0e-6
    """Adam's epsilon, as in the paper."""
    epochs: Positive = 3.0
    """Passes over the corpus in a stage, as in the paper (28,000 steps)."""
    recover: Recover = Recover(epochs=0.0)
    """A stage goes on training after its last cut, so nothing is left to recover."""
    prune_start: Fraction = 0.018
    """Fraction of the stage at which narrowing begins: ours, 500 of 28,000 steps. At least one step comes before."""
    prune_end: Fraction = 0.7
    """Fraction of the stage at which the target is reached. Ours."""
    decide_every: Steps = 10
    """Steps from one cut to the next; as in PLATON."""
    prune_schedule: Literal["cubic", "linear", "step"] = "cubic"
    """How widths fall: fast first, evenly, or in four equal cuts."""
    removal: Literal["iterative", "one-shot", "random-start"] = "iterative"
    """Little by little; all at prune_start, with scores gathered until then and no update; or before the first step, with
    every weight drawn anew."""
    importance: Literal["platon", "averaged-sensitivity", "sensitivity", "magnitude", "random"] = "platon"
    """Score of a weight: running average of |w dL/dw| times its uncertainty; that average; |w dL/dw| of the last step;
    |w|; or a number drawn for every unit."""
    beta1: Average = 0.85
    """Of the running average; PLATON's."""
    beta2: Average = 0.95
    """Of the uncertainty; PLATON's."""
    window: Steps = 10
    """Steps whose mean enters the averages as one; PLATON's."""
    member_scores: Literal["divided", "undivided"] = "divided"
    """A unit's score sums over all matrices that it belongs to, each divided by its mean score; or over those that write
    to it, as they are. Ours."""
    allocation: Literal["local", "global"] = "local"
    """Every width by the same fraction; or FFN units of all layers in one ranking, heads alike all the same."""
    multiple: Steps = 8
    """FFN widths, and on the way hidden ones, are multiples of this, because others multiply slowly: measured on a CPU,
    a step of width 383 took a quarter longer than one of 384. The size reached is off by at most half of it. Ours."""
    mlm_weight: Weight = 1.0
    """Weight of masked-language modelling. Weights of 0 leave a term out; the paper's are unknown, so these are ours."""
    prediction_weight: Weight = 1.0
    """Weight of the KL divergence from the teacher at masked tokens."""
    hidden_weight: Weight = 1.0
    """Weight of the outputs' mean squared error, averaged over layers."""
    embedding_weight: Weight = 0.1
    """Weight of the embeddings' mean squared error."""
    attention_weight: Weight = 0.1
    """Weight of the attention scores' mean squared error, averaged over layers."""
    temperature: Positive = 1.0
    """Softens both distributions of the prediction term. Ours."""
    attention: Literal["pre-softmax", "post-softmax"] = "pre-softmax"
    """Scores averaged over heads, before the softmax or after one. Ours."""
    embedding: Literal["output", "table"] = "output"
    """What the embedding term compares: the block's output, after its LayerNorm, or rows of the word table. Ours."""
    projections: Literal["identity", "random"] = "identity"
    """How the maps from the student's to the teacher's width begin: identity makes every distillation term 0 at step 0.
    Ours; the paper is remembered to draw them."""

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
        if self.removal != "iterative" and self.is_chain and len(self.path) > 1:
            raise ValueError(f"removal {self.removal} does not go on from an earlier target: set chain: false")
        return self

    @property
    def is_chain(self) -> bool:
        """As the settings say."""
        return self.chain

    def parts(self, *, first_stage: bool) -> list[float]:
        """One part."""
        return [self.epochs]


WIDTH_COLUMNS = (
    HistoryColumn(name="width/hidden", panel="widths", label="hidden", unit="dimensions", logarithmic=True),
    HistoryColumn(name="width/head", panel="widths", label="head", unit="dimensions", logarithmic=True),
    HistoryColumn(name="width/ffn", panel="widths", label="ffn", unit="dimensions", logarithmic=True),
)
"""Width of the hidden states, of one head, and of the FFN, averaged over layers."""
