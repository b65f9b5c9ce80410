"""Settings of structured methods: CoFi, CoFi without distillation, and the baselines that they must beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from espalier.config.blocks import Many
from espalier.config.families import HEADED, STRUCTURED
from espalier.config.kinds import LABELLED, Kind
from espalier.config.methods.pruning import IterativePlan
from espalier.config.pictures import HistoryColumn
from espalier.config.targets import TargetKind, Timed, target_key
from espalier.config.teacher_outputs import Reads
from espalier.config.training import ClipScope, Epochs, Fraction, NonNegative, Plan, Positive, Removal

GateKind = Literal["heads", "units", "attention", "ffn", "hidden"]
"""Attention heads, FFN units, whole attention and FFN sublayers, dimensions of the hidden states."""

LayerSizes = Literal["free", "equal"]
"""Whether every layer has a size of its own, or all have the same."""


class RefitPlan(Plan):
    """Settings of structured methods whose students can be refitted."""

    refit: bool = False
    """At the end of a stage, before recovery, fit the output matrices of heads and FFN units by least squares to what the
    teacher's sublayers add up to. Taken back where outputs then are further from the teacher's. [ours: K-prune]"""
    calibration_rows: Annotated[int, Field(ge=1)] = 2048
    """Training rows to fit on, drawn at random; all, where a task has fewer. [rows; ours: Kwon et al.]"""


class GatePlan(RefitPlan):
    """Pruning of whole parts by hard-concrete gates under a Lagrangian (docs/methods/cofi.md §3.1 to 3.5)."""

    target_kinds: ClassVar[frozenset[TargetKind]] = frozenset({"sparsity", "parameters", "latency"})
    removes: ClassVar[Removal] = "structure"
    learning_rate: Positive = 2.0e-5
    """Peak learning rate of AdamW for the model's weights. [public code]"""
    warmup: Fraction = 0.0
    """Part of each learning-rate interval in which the rate rises from 0 to its peak. [fraction; public code]"""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay of AdamW; biases and LayerNorms are not decayed. [public code]"""
    gates: Annotated[tuple[GateKind, ...], Many, Field(min_length=1)] = ("heads", "units", "attention", "ffn", "hidden")
    """Parts that have gates; heads or units must be among them. Targets in time (latency_ms, speedup) do not count hidden
    dimensions, because the table of latencies does not. [paper]"""
    prepruning_epochs: Epochs = 1.0
    """Training without gates before the first stage's pruning. [epochs; paper: 1 for large tasks, 4 for small ones]"""
    prepruning_schedule: Literal["own", "whole"] = "own"
    """Learning-rate schedule of the pre-pruning epochs: one of their own, which ends with them; or the beginning of one over
    the whole stage. Pruning begins a new one in either case. [ours: whole in the public code]"""
    pruning_epochs: Positive = 19.0
    """Training with gates, in every stage. [epochs; paper: 19 for large tasks, 96 for small ones]"""
    sparsity_warmup_epochs: Epochs = 2.0
    """First part of pruning_epochs, in which the target rises linearly to the stage's own; at most pruning_epochs. [epochs;
    paper: 2 for large tasks, 20 for small ones]"""
    gate_learning_rate: Positive | None = None
    """Constant learning rate of the gates; their gradients are not clipped. null takes 75 / steps, at least 0.01, because a
    short run with 0.01 would not reach its target, and at most 0.5. [ours: 0.01 in the public code, with 7,500 steps and
    more]"""
    multiplier_learning_rate: Positive | None = None
    """Constant learning rate of both Lagrange multipliers; null as for gate_learning_rate. [ours: 0.01 in the public code]"""
    gate_mean: float = 10.0
    """First log alpha of all gates except those of FFN units. Values are clamped to log 100 ≈ 4.6, so 10.0 starts every gate
    open. [log alpha; public code]"""
    unit_mean: float = 10.0
    """First log alpha of the gates of FFN units. [log alpha; ours: 0 in the public code, which its authors call unintended]"""
    deviation: Literal["signed", "absolute"] = "signed"
    """Deviation from the target in the Lagrangian's linear term: with its sign, or its absolute value. [paper]"""
    exact_size: bool = True
    """After a stage, close or open the FFN units nearest to the decision, so that the model has exactly the size asked for.
    [ours]"""
    tolerance: Fraction = 0.01
    """How far the expected sparsity may be from the target, on either side. With checkpoint: best, other evaluations do not
    count; a student whose gates miss the target by more is reported. [fraction; paper: 0.01 below, at a sparsity of 0.95]"""
    layers: LayerSizes = "free"
    """Sizes of layers. free: every layer keeps as many heads and FFN units as its gates say. equal: all layers keep equally
    many, no sublayer goes as a whole, and hidden states are as wide as the heads together, so that the student is a checkpoint
    of transformers' own class, which opens in any tool without code of ours. [ours]"""
    freeze_embeddings: bool = True
    """Do not train the embeddings. [public code]"""
    clip_scope: ClipScope = "trainable"
    """Parameters whose gradients count in the norm that clip_norm limits: only those that are trained, or also frozen
    embeddings as in the authors' code. Gates and multipliers never count. [ours]"""

    @model_validator(mode="after")
    def _ramp_fits(self) -> Self:
        if self.sparsity_warmup_epochs > self.pruning_epochs:
            raise ValueError(
                f"sparsity_warmup_epochs {self.sparsity_warmup_epochs} is longer than pruning_epochs {self.pruning_epochs}"
            )
        if not {"heads", "units"} & set(self.gates):
            raise ValueError(f"gates: got {list(self.gates)}; heads or units must be among them")
        return self

    @model_validator(mode="after")
    def _layers_alike(self) -> Self:
        if self.layers == "free":
            return self

        # transformers' own classes take the head size to be hidden size / heads
        if "units" not in self.gates or ("heads" in self.gates) != ("hidden" in self.gates):
            raise ValueError(
                f"layers: equal needs gates of units, and of heads and hidden together or of neither, because a checkpoint of "
                f"transformers' own class has hidden size = heads x head size; got gates: {list(self.gates)}"
            )
        if not self.exact_size:
            raise ValueError("layers: equal needs exact_size: true, because gates by themselves leave layers unlike")
        if isinstance(self.path[0], Timed):
            raise ValueError(
                f"layers: equal cannot aim at {target_key(self.path[0])}, because tables of latencies do not count hidden "
                "dimensions; allowed: a sparsity, or parameters"
            )
        return self

    @property
    def keeps_layers_alike(self) -> bool:
        """As the settings say."""
        return self.layers == "equal"

    @property
    def families(self) -> tuple[str, ...]:
        """Where heads have no gates, also families that keep all heads of a layer or none."""
        return HEADED if "heads" in self.gates else STRUCTURED

    @property
    def gated(self) -> tuple[GateKind, ...]:
        """Parts that have gates: with equal layers no sublayer goes as a whole."""
        whole = ("attention", "ffn") if self.layers == "equal" else ()
        return tuple(kind for kind in self.gates if kind not in whole)

    def parts(self, *, first_stage: bool) -> list[float]:
        """The pre-pruning epochs, where there are any, then the pruning epochs."""
        if first_stage and self.prepruning_epochs > 0:
            return [self.prepruning_epochs, self.pruning_epochs]
        return [self.pruning_epochs]

    def decay_ends(self, bounds: Sequence[int]) -> list[int]:
        """Pre-pruning may be the beginning of a schedule over the whole stage."""
        return [bounds[-1]] * len(bounds) if self.prepruning_schedule == "whole" else list(bounds)


class L0Plan(GatePlan):
    """CoFi's pruning without distillation, under the task loss alone (docs/methods/cofi.md §3.1 to 3.5)."""

    method: Literal["l0"]


class CofiPlan(GatePlan):
    """Structured pruning of coarse and fine parts with layerwise distillation (arXiv 2204.00408; docs/methods/cofi.md §2 to
    4)."""

    method: Literal["cofi"]
    kinds: ClassVar[frozenset[Kind]] = frozenset(LABELLED)
    prediction_weight: NonNegative = 0.1
    """Weight of the term that compares predictions. [paper: grid 0.1, 0.3, 0.5]"""
    layer_weight: NonNegative = 0.9
    """Weight of the term that compares the outputs of layers. [paper: grid 0.9, 0.7, 0.5]"""
    temperature: Positive = 2.0
    """Divides the logits of teacher and student in the prediction term; higher is softer. [public code]"""
    teacher_layers: Annotated[int, Field(ge=1)] = 4
    """Teacher layers that student layers are matched to; evenly spaced, the last layer among them. [layers; paper]"""
    matching: Literal["unrestricted", "ordered", "fixed", "random"] = "ordered"
    """Student layer for each of these teacher layers: the nearest, the nearest that keeps the order, the one of the same index,
    or the nearest to a teacher layer drawn at random from each block. [public code: versions 3, 4, 2 and 6; 4 for small
    tasks]"""
    match_gone: bool = False
    """Also match student layers that pruning has removed. [ours: true in the public code]"""
    mask_padding: bool = False
    """Leave padding out of the layer term. [public code]"""
    keep_transform: bool = False
    """Hand the trained layer map on to the recovery and to the next target of the path; otherwise each begins with the
    identity. [ours: true in the public code]"""

    @property
    def distils(self) -> bool:
        """Where a term on predictions or layers has a weight."""
        return self.prediction_weight + self.layer_weight > 0

    @property
    def reads(self) -> Reads:
        """The teacher layers to match; random matching may draw any."""
        return Reads(layers="all" if self.matching == "random" else self.teacher_layers)


GATE_COLUMNS = (
    HistoryColumn(name="expected_sparsity", panel="sparsity", label="expected", unit="fraction"),
    HistoryColumn(name="target_sparsity", panel="sparsity", label="target", unit="fraction", is_goal=True),
    HistoryColumn(name="sparsity", panel="sparsity", label="measured", unit="fraction"),
    HistoryColumn(name="decided_sparsity", panel="sparsity", label="decided", unit="fraction"),
    HistoryColumn(name="expected_saved_latency", panel="saved latency", label="expected", unit="fraction"),
    HistoryColumn(name="decided_saved_latency", panel="saved latency", label="decided", unit="fraction"),
    HistoryColumn(name="target_saved_latency", panel="saved latency", label="target", unit="fraction", is_goal=True),
    HistoryColumn(name="lambda/1", panel="multipliers", label="λ1"),
    HistoryColumn(name="lambda/2", panel="multipliers", label="λ2"),
)
"""What methods with gates log: sparsity, or saved latency where a plan aims at a speed, and the Lagrange multipliers."""


class HeadsPlan(IterativePlan, RefitPlan):
    """Remove attention heads and FFN units by first-order importance (Michel et al. 2019, arXiv 1905.10650)."""

    method: Literal["heads"]
    removes: ClassVar[Removal] = "structure"
    allocation: Literal["global"] = "global"
    """Always one ranking over all layers. [paper]"""
    prune_embeddings: Literal[False] = False
    """Always false: embeddings have neither heads nor units. [paper]"""
    parts_to_prune: Annotated[tuple[Literal["heads", "units"], ...], Many, Field(min_length=1)] = ("heads", "units")
    """Parts that are ranked and removed. [paper: heads; units as in later work]"""
    normalise: bool = True
    """Divide the importances of a layer by their norm before layers are compared. [paper]"""
    dense_epochs: Positive = 1.0
    """Training before the first removal of every stage, during which the importances are gathered. [epochs; ours]"""
    layers: LayerSizes = "free"
    """Sizes of layers. free: one ranking over all layers. equal: every layer keeps equally many FFN units and all heads, so
    that the student is a checkpoint of transformers' own class, which opens in any tool without code of ours. [ours]"""

    @model_validator(mode="after")
    def _layers_alike(self) -> Self:
        if self.layers == "equal" and self.parts_to_prune != ("units",):
            raise ValueError(
                "layers: equal needs parts_to_prune: [units], because a checkpoint of transformers' own class has hidden size "
                f"= heads x head size, and this method leaves the hidden size; got {list(self.parts_to_prune)}"
            )
        return self

    @property
    def keeps_layers_alike(self) -> bool:
        """As the settings say."""
        return self.layers == "equal"

    @property
    def families(self) -> tuple[str, ...]:
        """Where no head goes, also families that keep all heads of a layer or none."""
        return HEADED if "heads" in self.parts_to_prune else STRUCTURED

    def begins_dense(self, *, first_stage: bool) -> bool:
        """Every stage begins with its dense epochs."""
        return True


class SmallDensePlan(RefitPlan):
    """A small student of the target's size, made without search and trained with logit distillation."""

    method: Literal["small-dense"]
    kinds: ClassVar[frozenset[Kind]] = frozenset(LABELLED)
    removes: ClassVar[Removal] = "structure"
    kind: Literal["sliced", "layers"] = "sliced"
    """How the student is made: sliced keeps the same share of heads and units in every layer, drawn at random; layers keeps
    evenly spaced layers, sliced to the size. [ours]"""
    layers: LayerSizes = "free"
    """Sizes of sliced layers. free: numbers of heads and units differ by at most one between layers. equal: they do not differ,
    and hidden states are as wide as the heads together, so that the student is a checkpoint of transformers' own class, which
    opens in any tool without code of ours. [ours]"""
    epochs: Positive = 3.0
    """Passes over the training rows in a stage. [epochs; ours]"""
    alpha: Fraction = 0.5
    """Weight of the distillation term; the task loss has weight 1 - alpha. [common]"""
    temperature: Positive = 2.0
    """Divides the logits of teacher and student before the softmax; higher is softer. [common]"""

    @model_validator(mode="after")
    def _layers_alike(self) -> Self:
        if self.layers == "equal" and self.kind != "sliced":
            raise ValueError(f"layers: equal needs kind: sliced; got {self.kind}")
        return self

    @property
    def keeps_layers_alike(self) -> bool:
        """As the settings say."""
        return self.layers == "equal"

    @property
    def families(self) -> tuple[str, ...]:
        """Also families that keep all heads of a layer or none: units then make up the size."""
        return STRUCTURED

    def parts(self, *, first_stage: bool) -> list[float]:
        """One part."""
        return [self.epochs]

    @property
    def distils(self) -> bool:
        """Where the distillation term has a weight."""
        return self.alpha > 0

    @property
    def reads(self) -> Reads:
        """Logits alone."""
        return Reads()
