"""Blocks of the structured methods: CoFi, its ablation without distillation, and the baselines that they must beat."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from espalier.config.blocks import Many
from espalier.config.methods.pruning import IterativePlan
from espalier.config.pictures import HistoryColumn
from espalier.config.targets import Goal
from espalier.config.training import Epochs, Fraction, Plan, Positive, Removal

GateKind = Literal["heads", "units", "attention", "ffn", "hidden"]
"""Attention heads, FFN units, whole attention and FFN sublayers, dimensions of the hidden states."""
Weight = Annotated[float, Field(ge=0.0)]


class GatePlan(Plan):
    """Hard-concrete gates under a Lagrangian (docs/methods/cofi.md §3.1 to 3.5)."""

    goals: ClassVar[frozenset[Goal]] = frozenset({"sparsity", "parameters", "latency"})
    removes: ClassVar[Removal] = "structure"
    learning_rate: Positive = 2.0e-5
    warmup: Fraction = 0.0
    weight_decay: Weight = 0.0
    gates: Annotated[tuple[GateKind, ...], Many, Field(min_length=1)] = ("heads", "units", "attention", "ffn", "hidden")
    """What has gates. A target in milliseconds leaves hidden dimensions out, because the table of latencies does."""
    prepruning_epochs: Epochs = 1.0
    """Training without gates before the first removal, in the first stage only."""
    pruning_epochs: Positive = 19.0
    """Training with gates, in every stage."""
    sparsity_warmup_epochs: Epochs = 2.0
    """The part of them in which the target rises linearly to the stage's own."""
    gate_learning_rate: Positive | None = None
    """Constant rate of the gates, not clipped. Left out: fits the run's length, never below the paper's 0.01."""
    multiplier_learning_rate: Positive | None = None
    """Constant rate of both Lagrange multipliers; as for the gates when left out."""
    gate_mean: float = 10.0
    """First log alpha of all gates but those of FFN units; kept within log 0.01 … log 100."""
    unit_mean: float = 10.0
    """First log alpha of FFN units; 0 in the authors' code, which they call unintended."""
    deviation: Literal["signed", "absolute"] = "signed"
    """Deviation from the target in the Lagrangian's linear term."""
    exact_size: bool = True
    """Close or open the FFN units nearest to the decision, so that the model has exactly the size asked for."""
    tolerance: Fraction = 0.01
    """checkpoint: best looks at evaluations from this far below the target on."""
    freeze_embeddings: bool = True

    @model_validator(mode="after")
    def _ramp_fits(self) -> Self:
        if self.sparsity_warmup_epochs > self.pruning_epochs:
            raise ValueError(
                f"sparsity_warmup_epochs {self.sparsity_warmup_epochs} is longer than pruning_epochs {self.pruning_epochs}"
            )
        if not {"heads", "units"} & set(self.gates):
            raise ValueError(f"gates: got {list(self.gates)}; heads or units must be among them")
        return self

    def parts(self, *, first_stage: bool) -> list[float]:
        """The pre-pruning epochs, where there are any, then the pruning epochs."""
        if first_stage and self.prepruning_epochs > 0:
            return [self.prepruning_epochs, self.pruning_epochs]
        return [self.pruning_epochs]


class L0Plan(GatePlan):
    """CoFi's pruning without distillation: the task loss alone."""

    method: Literal["l0"]


class CofiPlan(GatePlan):
    """Coarse- and fine-grained structured pruning with layerwise distillation (arXiv 2204.00408)."""

    method: Literal["cofi"]
    prediction_weight: Weight = 0.1
    """Weight of the prediction term."""
    layer_weight: Weight = 0.9
    """Weight of the layer term."""
    temperature: Positive = 2.0
    """Softens both distributions of the prediction term."""
    teacher_layers: Annotated[int, Field(ge=1)] = 4
    """Teacher layers to match, evenly spaced, the last one among them."""
    matching: Literal["unrestricted", "ordered", "fixed", "random"] = "ordered"
    """How student layers are found for them: the nearest, the nearest in order, those of the same index, or the nearest
    to one teacher layer drawn at random in each block."""
    match_gone: bool = False
    """Let layers that are gone count as student layers, as the public code did."""
    mask_padding: bool = False
    """Leave padding out of the layer term."""


GATE_COLUMNS = (
    HistoryColumn(name="expected_sparsity", panel="sparsity", label="expected", unit="fraction"),
    HistoryColumn(name="target_sparsity", panel="sparsity", label="target", unit="fraction", is_goal=True),
    HistoryColumn(name="sparsity", panel="sparsity", label="measured", unit="fraction"),
    HistoryColumn(name="expected_saved_latency", panel="saved latency", label="expected", unit="fraction"),
    HistoryColumn(name="target_saved_latency", panel="saved latency", label="target", unit="fraction", is_goal=True),
    HistoryColumn(name="lambda/1", panel="multipliers", label="λ1"),
    HistoryColumn(name="lambda/2", panel="multipliers", label="λ2"),
)
"""What methods with gates log: sparsity, or saved latency where a plan aims at a speed, and the Lagrange multipliers."""


class HeadsPlan(IterativePlan):
    """First-order importance of heads and FFN units (Michel et al. 2019, arXiv 1905.10650)."""

    method: Literal["heads"]
    removes: ClassVar[Removal] = "structure"
    allocation: Literal["global"] = "global"
    prune_embeddings: Literal[False] = False
    parts_to_prune: Annotated[tuple[Literal["heads", "units"], ...], Many, Field(min_length=1)] = ("heads", "units")
    """What is ranked and removed."""
    normalise: bool = True
    """Divide importances by their norm over the layer before layers are compared."""
    dense_epochs: Positive = 1.0
    """Training before the first removal of every stage: importances are gathered there."""

    def begins_dense(self, *, first_stage: bool) -> bool:
        """Every stage begins with its dense epochs."""
        return True


class SmallDensePlan(Plan):
    """A small student of equal size without any search, with logit distillation."""

    method: Literal["small-dense"]
    removes: ClassVar[Removal] = "structure"
    kind: Literal["sliced", "layers"] = "sliced"
    """Heads and units drawn at random, the same share in every layer; or evenly spaced layers, sliced to the size."""
    epochs: Positive = 3.0
    alpha: Fraction = 0.5
    """Weight of the distillation term; the task loss has 1 - alpha."""
    temperature: Positive = 2.0

    def parts(self, *, first_stage: bool) -> list[float]:
        """One part."""
        return [self.epochs]
