"""Pruning by gates under a Lagrangian: what CoFi and its ablation without distillation share.

Source: CoFi (Xia, Zhong, Chen 2022, arXiv 2204.00408; docs/methods/cofi.md §2 to 3.5). Symbols and departures from the public
code stand in `methods/cofi.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from espalier.config.methods.structured import GatePlan
from espalier.data.batches import Batch
from espalier.kinds.base import label_terms
from espalier.methods.base import counted
from espalier.methods.refitting import Refitting
from espalier.models.encoder import embedding_parameters
from espalier.models.modeling_espalier import Shape
from espalier.models.outputs import Outputs
from espalier.pruning.budget import Budget, LatencyBudget, SizeBudget, check_reach, land
from espalier.pruning.equal_layers import deviations, equal_shape, on_the_way, with_narrow_head
from espalier.pruning.fold import folded
from espalier.pruning.gates import GateState, attach
from espalier.pruning.hard_concrete import HardConcreteGates
from espalier.pruning.lagrangian import lagrangian, ramped
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, Parts, full_masks, masks_of, part_counts, prunable_shape, sizes, within

PAPER_RATE = 0.01
"""Learning rate of gates and multipliers in the authors' script."""
TRAVEL = 75.0
"""Rate times steps of the authors' shortest run (RTE: 7,500 steps of 0.01): Adam moves a gate by at most the rate in a step, so
a shorter run needs a higher rate to close gates and to raise the multipliers as far."""
FASTEST = 0.5
"""No rate that is left out is higher: a gate then crosses its whole range, 9.2, in 18 steps. At 9.4, in 8 steps, a single step
threw every gate from end to end, and what was left was chance: 20 of 384 hidden dimensions beside every head."""


class GatePruning(Refitting):
    """Gates under a Lagrangian, with the task loss."""

    settings: GatePlan
    masks_over = "parts"

    def cut(self, student: PreTrainedModel, masks: Masks | None) -> PreTrainedModel:
        """With equal layers the classification head is as narrow from the beginning as the hidden states will be at the end."""
        if self.settings.layers == "free" or not self.stage.removes:
            return student
        before = full_masks(prunable_shape(student.config)) if masks is None else masks
        return with_narrow_head(
            student, equal_shape(SizeBudget.of(student, before, self.stage.target), self.settings.gated).pooled
        )

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
        self.end_shape: Shape | None = None
        self.decision: dict[str, Tensor] | None = None
        self.gates: HardConcreteGates | None = None
        if self.stage.removes:
            self._attach_gates()

    def _attach_gates(self) -> None:
        """Make gates and multipliers, and put the gates into the student's forward pass."""
        settings, device = self.settings, self.student.device

        # A table of latencies has no entry for the hidden size, so a target in milliseconds leaves that without gates.
        kinds = set(settings.gated)
        if self.stage.latency is not None:
            self.budget = LatencyBudget(self.stage.latency, self.shape)
            kinds -= {"hidden"}

        gates = HardConcreteGates(self.shape, kinds, settings.gate_mean, settings.unit_mean, self.generator)
        self.gates = gates.to(device)
        if settings.layers == "equal":
            # A constraint for every vector of gates, so that all layers come to one shape.
            self.end_shape = equal_shape(self.size, settings.gated)
            self.multipliers = nn.Parameter(torch.zeros(2, len(gates.names), device=device))
        else:
            self.multipliers = nn.Parameter(torch.zeros(2, device=device))
            check_reach(self.budget, self.gates.soft())

        self._say_if_short()

        # As a part of the student the gates are saved, resumed and moved with its weights.
        self.state: GateState = attach(self.student, self._values)
        self.student.gates = self.gates
        self.started_at = float(self.budget.saved({}))

    @property
    def dimensions(self) -> Bool[Tensor, " hidden"]:
        """Hidden dimensions that the stages before have left."""
        return self.before[HIDDEN]

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
        return round(share * self._gated_steps)

    @property
    def _gated_steps(self) -> int:
        return self.stage.steps - self.prune_from

    def _say_if_short(self) -> None:
        """Warn where rates that are left out would have to be higher than gates bear, with the epochs that would do."""
        steps, needed = self._gated_steps, round(TRAVEL / FASTEST)
        if self.settings.gate_learning_rate is None and steps < needed:
            epochs = self.settings.pruning_epochs * needed / steps
            print(
                f"warning: {steps} steps with gates are too few to reach the target by training, so that landing on the exact "
                f"size has to remove the rest; needed: about {needed} steps, which is pruning_epochs {epochs:.4g}",
                flush=True,
            )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Gates, and multipliers that ascend; for `clip_scope: all` frozen embeddings, which count in the clipped norm.

        Source: docs/methods/cofi.md §3.4.
        Differs from the authors' code: there the multipliers have a negative learning rate; rates fit the run's length.
        """
        # The public code's optimiser lacks the embeddings, but its norm has their gradients (docs/methods/cofi.md §3.4).
        everything = self.settings.clip_scope == "all" and self.settings.freeze_embeddings
        still = counted(embedding_parameters(self.student)) if everything else []
        if self.gates is None:
            return still

        # Adam moves a gate by at most its rate in a step, so a short run needs a higher rate to come as far.
        rate = min(FASTEST, max(PAPER_RATE, TRAVEL / self._gated_steps))
        common = {"weight_decay": 0.0, "constant": True, "clip": False}
        gates = {"params": list(self.gates.parameters()), "lr": self.settings.gate_learning_rate or rate}

        # The saddle point is a minimum over the gates and a maximum over the multipliers.
        multipliers = {"params": [self.multipliers], "lr": self.settings.multiplier_learning_rate or rate, "maximize": True}
        return [gates | common, multipliers | common, *still]

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

            # Near the target, all layers come to one shape, or single FFN units are closed or opened until the model has
            # exactly the size asked for.
            if self.end_shape is not None and self.at_target(self.step + 1):
                self.decision = self.gates.decided(sizes(self.end_shape))
            elif self.settings.exact_size and self.at_target(self.step + 1):
                self.decision = land(self.decision, self.gates.soft(), self.shape, self.budget)
        return self.decision

    def loss_terms(self, batch: Batch, student: Outputs, teacher: Outputs | None, step: int) -> dict[str, Tensor]:
        """Task loss and Lagrangian."""
        return label_terms(student.logits, batch, self.stage.kind) | self._lagrangian(step)

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

        # s hat - t: how far the expected size, or each number of the wanted shape, is from where this step wants it.
        expected = self.gates.probabilities()
        if self.end_shape is None:
            deviation = self.budget.saved(expected) - self._target(step)
        else:
            deviation = deviations(expected, self._wanted(step))
        terms = lagrangian(deviation, self.multipliers[0], self.multipliers[1], self.settings.deviation)
        return {"lagrangian": terms.sum()}

    def _wanted(self, step: int) -> dict[str, Tensor]:
        """With equal layers: how much of each kind of part this step wants to stay."""
        progress = ramped(0.0, 1.0, step - self.prune_from, self.ramp_steps)
        return on_the_way(self.shape, self.end_shape, self.gates.names, progress)

    def _target(self, step: int) -> float:
        if self.end_shape is not None:
            return float(self.budget.saved(self._wanted(step)))
        return ramped(self.started_at, self.budget.target, step - self.prune_from, self.ramp_steps)

    @torch.no_grad()
    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Keep log alpha within its limits; log where the gates stand."""
        if self.gates is None or step < self.prune_from:
            return {}

        # The optimiser has moved the gates, so what was decided before this step is out of date.
        self.gates.clamp()
        self.decision = None

        # The numbers stay on the device: reading them would wait for it.
        # Of several constraints the means are logged.
        first, second = self.multipliers.reshape(2, -1).mean(dim=1)
        return {
            f"expected_{self.budget.word}": self.budget.saved(self.gates.probabilities()),
            f"target_{self.budget.word}": self._target(step),
            "lambda/1": first,
            "lambda/2": second,
        }

    @torch.no_grad()
    def standing(self) -> dict[str, float]:
        """What the gates decide by themselves, before they are brought to the size asked for."""
        if self.gates is None or self.step < self.prune_from:
            return {}
        # Not `_decided()`, which lands.
        decided = masks_of(self.gates.decided(), self.shape)
        return {f"decided_{self.budget.word}": float(self.budget.saved(decided))}

    def at_target(self, steps: int) -> bool:
        """Whether expected sparsity is near enough to the target, or the stage is over (docs/methods/cofi.md §3.5, step 4)."""
        if self.gates is None or steps >= self.stage.steps:
            return True
        return steps > self.prune_from and not self.misses_target

    @property
    @torch.no_grad()
    def misses_target(self) -> bool:
        """Whether expected sparsity is further from the target than the tolerance, on either side."""
        if self.gates is None:
            return False
        # |s hat - s*| > epsilon: too large a student is as far from its target as one that has lost too much.
        expected = float(self.budget.saved(self.gates.probabilities()))
        return abs(expected - self.budget.target) > self.settings.tolerance

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
        """Heads, units and hidden dimensions that are kept, and how far landing had to go."""
        return {"sparsity": self.sparsity, **self._landing(), **part_counts(self.end())}

    @torch.no_grad()
    def _landing(self) -> dict[str, Any]:
        """What the gates expected and decided, and what landing made of it: fractions of the dense cost that are removed."""
        if self.gates is None:
            return {}

        word = self.budget.word
        landing = {
            "of": word,
            "target": self.budget.target,
            "tolerance": self.settings.tolerance,
            "expected": float(self.budget.saved(self.gates.probabilities())),
            "decided": self.standing()[f"decided_{word}"],
            "landed": float(self.budget.saved(masks_of(self._decided(), self.shape))),
        }
        return {"landing": landing}

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
