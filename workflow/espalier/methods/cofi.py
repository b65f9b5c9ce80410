"""CoFi: coarse- and fine-grained structured pruning with layerwise distillation, and its ablation without distillation.

Paper: M. Xia, Z. Zhong, D. Chen, "Structured Pruning Learns Compact and Accurate Models", ACL 2022, arXiv 2204.00408;
code princeton-nlp/CoFiPruning at da855a8.

Idea: every weight is under several gates at once (its head or FFN unit, its sublayer, its hidden dimensions). The gates are
random variables trained with the weights; a Lagrangian drives the expected size to a target that rises linearly. The dense,
fine-tuned model teaches its logits and the outputs of some layers, each to the student layer that comes nearest to it.

Symbols                  Names
    log alpha, z          gates.log_alpha, gates.sampled()
    q(log alpha)          gates.probabilities()
    s hat, t, s*          expected sparsity, ramped(...), budget.target; of latency where the target is a time
    lambda_1, lambda_2    multipliers
    W_layer, m(i)         transform, pairs

Steps: pre-pruning epochs without gates (first stage of a path only, with a learning-rate schedule of their own); pruning
epochs with gates, from a fresh optimiser state; the decision, exact folding and slicing (`shrink`); `recover`. Where paper and
code differ (docs/methods/cofi.md §7): 1 epochs, 4 and 4b existence by the layer's own index, 6 squared error for regression, 8
all gates start open, 9 an empty sublayer is absent, 10 exact folding. No data augmentation.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from espalier.config.methods.structured import CofiPlan, GatePlan, L0Plan
from espalier.data.batches import Batch
from espalier.kinds.base import soft_label_loss, task_loss
from espalier.losses.layer_matching import evenly_spaced, one_per_block, pairs
from espalier.losses.terms import distance
from espalier.methods.base import Method
from espalier.models.encoder import embedding_parameters
from espalier.models.outputs import Outputs
from espalier.pruning.budget import Budget, LatencyBudget, SizeBudget, check_reach, land
from espalier.pruning.fold import folded
from espalier.pruning.gates import GateState, attach
from espalier.pruning.hard_concrete import HardConcreteGates
from espalier.pruning.lagrangian import lagrangian, ramped
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, SUBLAYERS, Parts, full_masks, masks_of, part_counts, prunable_shape, within

PAPER_RATE = 0.01
"""Learning rate of gates and multipliers in the authors' script."""
TRAVEL = 75.0
"""Rate times steps of the authors' shortest run (RTE: 7,500 steps of 0.01): Adam moves a gate by at most the rate in a step, so
a shorter run needs a higher rate to close gates and to raise the multipliers as far."""


class GatePruning(Method):
    """Gates under a Lagrangian, with the task loss."""

    settings: GatePlan
    masks_over = "parts"

    def begin(self, student: PreTrainedModel, masks: Masks | None) -> None:
        """Attach the gates; a stage that removes nothing, such as recovery, has none."""
        self.student = student
        self.shape = prunable_shape(student.config)
        self.step = 0
        self.before = full_masks(self.shape) if masks is None else masks

        if self.settings.freeze_embeddings:
            for parameter in embedding_parameters(student):
                parameter.requires_grad_(False)

        self.size = SizeBudget.of(student, self.before, self.stage.target)
        self.budget: Budget = self.size
        self.decision: dict[str, Tensor] | None = None
        self.gates: HardConcreteGates | None = None
        if self.stage.removes:
            self._attach_gates()

    def _attach_gates(self) -> None:
        """Make gates and multipliers, and put the gates into the student's forward pass."""
        settings, device = self.settings, self.student.device

        # A table of latencies has no entry for the hidden size, so a target in milliseconds leaves that without gates.
        kinds = set(settings.gates)
        if self.stage.latency is not None:
            self.budget = LatencyBudget(self.stage.latency, self.shape)
            kinds -= {"hidden"}

        gates = HardConcreteGates(self.shape, kinds, settings.gate_mean, settings.unit_mean, self.generator)
        self.gates = gates.to(device)
        self.multipliers = nn.Parameter(torch.zeros(2, device=device))
        check_reach(self.budget, self.gates.soft())

        # As a part of the student the gates are saved, resumed and moved with its weights.
        self.state: GateState = attach(self.student, self._values)
        self.student.gates = self.gates
        self.started_at = float(self.budget.saved({}))

    @property
    def loss_weights(self) -> dict[str, float]:
        """The Lagrangian comes unweighted."""
        return {"task": 1.0, "lagrangian": 1.0}

    @property
    def prune_from(self) -> int:
        """Step at which pruning begins."""
        return self.stage.bounds[-2] if len(self.stage.bounds) > 1 else 0

    @property
    def ramp_steps(self) -> int:
        """Steps over which the target rises, K_w."""
        share = self.settings.sparsity_warmup_epochs / self.settings.pruning_epochs
        return round(share * (self.stage.steps - self.prune_from))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Gates, and multipliers that ascend.

        Source: docs/methods/cofi.md §3.4.
        Differs from the authors' code: there the multipliers have a negative learning rate; rates fit the run's length.
        """
        if self.gates is None:
            return []

        # Adam moves a gate by at most its rate in a step, so a short run needs a higher rate to come as far.
        rate = max(PAPER_RATE, TRAVEL / (self.stage.steps - self.prune_from))
        common = {"weight_decay": 0.0, "constant": True, "clip": False}
        gates = {"params": list(self.gates.parameters()), "lr": self.settings.gate_learning_rate or rate}

        # The saddle point is a minimum over the gates and a maximum over the multipliers.
        multipliers = {"params": [self.multipliers], "lr": self.settings.multiplier_learning_rate or rate, "maximize": True}
        return [gates | common, multipliers | common]

    def before_step(self, step: int) -> None:
        """Draw this step's gates; where pruning begins, the optimiser forgets what it gathered before."""
        self.step, self.decision = step, None
        if self.gates is None or step < self.prune_from:
            return

        # Pruning begins with a fresh optimiser state (docs/methods/cofi.md §3.5).
        if step == self.prune_from:
            for group in self.optimizer.param_groups:
                for parameter in group["params"]:
                    self.optimizer.state.pop(parameter, None)

        # One sample of all gates serves every micro-batch of the step.
        self.gates.draw(self.generator)

    def _values(self) -> Parts:
        """Gates of a forward pass: sampled in training, decided in evaluation, none before pruning begins."""
        if self.step < self.prune_from:
            return {}
        return self.gates.sampled() if self.student.training else self._decided()

    def _decided(self) -> dict[str, Tensor]:
        """Deterministic gates; once the target is near, exactly at it. Decided once a step."""
        if self.decision is None:
            self.decision = self.gates.decided()

            # Near the target, single FFN units are closed or opened until the model has exactly the size asked for.
            if self.settings.exact_size and self.at_target(self.step + 1):
                self.decision = land(self.decision, self.gates.soft(), self.shape, self.budget)
        return self.decision

    def loss_terms(self, batch: Batch, student: Outputs, teacher: Outputs | None, step: int) -> dict[str, Tensor]:
        """Task loss and Lagrangian."""
        return {"task": task_loss(student.logits, batch.labels, self.stage.kind)} | self._lagrangian(step)

    def _lagrangian(self, step: int) -> dict[str, Float[Tensor, ""]]:
        """lambda_1 (s - t) + lambda_2 (s - t)^2 with the target of this step; nothing before pruning begins.

        Source: docs/methods/cofi.md §2 and 3.3.
        Differs from the authors' code: a later stage of a path rises from where its student stands.
        """
        if self.gates is None:
            return {}

        # A term of 0 keeps the names of the terms the same in every step of the stage.
        if step < self.prune_from:
            return {"lagrangian": self.multipliers.sum() * 0.0}

        # s hat - t: how far the expected size is from where this step wants it.
        deviation = self.budget.saved(self.gates.probabilities()) - self._target(step)
        return {"lagrangian": lagrangian(deviation, self.multipliers[0], self.multipliers[1], self.settings.deviation)}

    def _target(self, step: int) -> float:
        return ramped(self.started_at, self.budget.target, step - self.prune_from, self.ramp_steps)

    @torch.no_grad()
    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Keep log alpha within its limits; log where the gates stand."""
        if self.gates is None or step < self.prune_from:
            return {}

        # The optimiser has moved the gates, so what was decided before this step is out of date.
        self.gates.clamp()
        self.decision = None

        first, second = self.multipliers.tolist()
        return {
            f"expected_{self.budget.word}": self.budget.saved(self.gates.probabilities()),
            f"target_{self.budget.word}": self._target(step),
            "lambda/1": first,
            "lambda/2": second,
        }

    @torch.no_grad()
    def at_target(self, steps: int) -> bool:
        """Whether expected sparsity is near enough to the target, or the stage is over (docs/methods/cofi.md §3.5, step 4)."""
        if self.gates is None or steps >= self.stage.steps:
            return True

        expected = float(self.budget.saved(self.gates.probabilities()))
        return steps > self.prune_from and expected >= self.budget.target - self.settings.tolerance

    def end(self) -> Masks:
        """What is kept of the model that the path began with."""
        if self.gates is None:
            return self.before
        return within(self.before, masks_of(self._decided(), self.shape))

    @property
    def sparsity(self) -> float:
        """Fraction of the encoder's weights that would be removed if the run ended here."""
        is_gated = self.gates is not None and self.step >= self.prune_from
        masks = masks_of(self._decided(), self.shape) if is_gated else {}
        return float(self.size.saved(masks))

    def structure(self) -> dict[str, Any]:
        """Heads, units and hidden dimensions that are kept."""
        return {"sparsity": self.sparsity, **part_counts(self.end())}

    def shrink(self, student: PreTrainedModel) -> PreTrainedModel:
        """The compact student, gates folded into its weights: its logits are those of the gated one."""
        if self.gates is None:
            return student
        return folded(student, self._decided())

    def state_dict(self) -> dict[str, Tensor]:
        """Multipliers and generator; the gates lie in the student."""
        state = super().state_dict()
        if self.gates is not None:
            state["multipliers"] = self.multipliers.detach().clone()
        return state

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        super().load_state_dict(state)
        self.decision = None

        if self.gates is not None:
            self.multipliers.copy_(state["multipliers"])


class L0(GatePruning):
    """Gates with the task loss alone: the paper's row "without distillation"."""

    settings: L0Plan


class Cofi(GatePruning):
    """Gates and distillation: prediction and layer terms, no hard labels."""

    settings: CofiPlan
    needs_teacher = True
    needs_hidden_states = True

    def begin(self, student: PreTrainedModel, masks: Masks | None) -> None:
        """Add the transform, which begins as the identity (on the dimensions that are left)."""
        super().begin(student, masks)
        kept = self.before[HIDDEN]
        self.transform = nn.Linear(self.shape.hidden, kept.numel()).to(student.device)

        # W_layer = I. In a narrower student it puts each dimension where the teacher has it.
        with torch.no_grad():
            self.transform.weight.copy_(torch.eye(len(kept))[:, kept])
            self.transform.bias.zero_()

    @property
    def loss_weights(self) -> dict[str, float]:
        """Two independent weights, as in the code; the paper has lambda and 1 - lambda."""
        return {"prediction": self.settings.prediction_weight, "layer": self.settings.layer_weight, "lagrangian": 1.0}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The transform trains with the weights."""
        return [{"params": list(self.transform.parameters()), "weight_decay": 0.0}, *super().parameter_groups()]

    def before_step(self, step: int) -> None:
        """Draw gates and, for random matching, the teacher layers."""
        super().before_step(step)

        # Drawn for every matching, so that the gates' draws are the same whichever is chosen.
        self.blocks = torch.rand(self.settings.teacher_layers, generator=self.generator).tolist()

    def loss_terms(self, batch: Batch, student: Outputs, teacher: Outputs, step: int) -> dict[str, Tensor]:
        """L_pred, L_layer and the Lagrangian.

        Source: docs/methods/cofi.md §2.
        Differs from the authors' code: mean squared error of the outputs for regression (point 6).
        """
        settings = self.settings
        prediction = soft_label_loss(student.logits, teacher.logits, temperature=settings.temperature, kind=self.stage.kind)

        padding = batch.attention_mask if settings.mask_padding else None
        layer = self._layer_loss(student.hidden_states, teacher.hidden_states, padding)

        return {"prediction": prediction, "layer": layer} | self._lagrangian(step)

    def _layer_loss(
        self,
        student: tuple[Float[Tensor, "batch length hidden"], ...],
        teacher: tuple[Float[Tensor, "batch length width"], ...],
        padding: Tensor | None,
    ) -> Float[Tensor, ""]:
        """Sum over pairs of the mean squared difference of transformed student and teacher outputs.

        Source: docs/methods/cofi.md §2: the mean is over batch, length and width, padding included.
        Differs from the authors' code: `mask_padding` leaves padding out.
        """
        settings = self.settings
        weight, bias = self.transform.weight, self.transform.bias
        moved = [F.linear(states, weight.to(states.dtype), bias.to(states.dtype)) for states in student]

        # The teacher layers to match: evenly spaced, or one drawn in each block of layers.
        if settings.matching == "random":
            layers = one_per_block(len(teacher), settings.teacher_layers, self.blocks)
        else:
            layers = evenly_spaced(len(teacher), settings.teacher_layers)

        # m(i): the student layer that learns from teacher layer i (docs/methods/cofi.md §3.6).
        chosen = {layer: teacher[layer] for layer in layers}
        self.pairs = pairs(settings.matching, chosen, moved, self._existing(), padding)

        # A sum over pairs, not a mean; where no student layer is left the term is 0, with a graph.
        terms = [distance(moved[own], teacher[layer], padding) for layer, own in self.pairs]
        return torch.stack(terms).sum() if terms else moved[-1].sum() * 0.0

    def _existing(self) -> list[bool]:
        """Layers that count as student layers: for ordered matching those with either sublayer, else those with an FFN."""
        if self.settings.match_gone:
            return [True] * len(self.shape.layers)

        # Closed by this step's gates, or sliced away by an earlier stage.
        present = self.state.present if self.gates is not None else {}
        existing = []
        for index, sizes in enumerate(self.shape.layers):
            attention, ffn = (
                size > 0 and present.get((kind, index), True) for kind, size in zip(SUBLAYERS, sizes, strict=True)
            )
            existing.append(ffn or (attention and self.settings.matching == "ordered"))
        return existing

    def state_dict(self) -> dict[str, Tensor]:
        """The gates' state, and the transform."""
        transform = {f"transform/{name}": value for name, value in self.transform.state_dict().items()}
        return super().state_dict() | transform

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        super().load_state_dict(state)

        prefix = "transform/"
        transform = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        self.transform.load_state_dict(transform)
