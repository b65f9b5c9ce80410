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

Departures from the public code (docs/methods/cofi.md §7.1), each with the option that takes it back: pre-pruning has a
learning-rate schedule of its own (`prepruning_schedule: whole`); the final fine-tuning is one epoch under the plan's schedule
(`recover: {epochs: 20.0, schedule: constant}`); the layer map begins anew in it and in later stages (`keep_transform: true`);
frozen embeddings do not count in the clipped norm (`clip_scope: all`); targets of a path are a chain (`chain: false`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from espalier.config.methods.structured import CofiPlan, L0Plan
from espalier.data.batches import Batch
from espalier.kinds.base import soft_label_loss
from espalier.losses.layer_matching import Pairs, evenly_spaced, layer_distances, matched, one_per_block, pairs
from espalier.losses.terms import distance
from espalier.methods.base import Piece
from espalier.methods.gated import GatePruning
from espalier.models.outputs import Outputs
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, SUBLAYERS

TRANSFORM = "transform/"
"""Before the names of the layer map's tensors, in saved states and in what is handed on."""


class L0(GatePruning):
    """Gates with the task loss alone: the paper's row "without distillation"."""

    settings: L0Plan


class Cofi(GatePruning):
    """Gates and distillation: prediction and layer terms, no hard labels."""

    settings: CofiPlan
    needs_teacher = True
    needs_hidden_states = True

    def begin(self, student: PreTrainedModel, masks: Masks | None) -> None:
        """Add the transform: the one that was handed on, or the identity (on the dimensions that are left)."""
        super().begin(student, masks)
        kept = self.before[HIDDEN]
        self.transform = nn.Linear(self.shape.hidden, kept.numel()).to(student.device)

        # W_layer = I. In a narrower student it puts each dimension where the teacher has it.
        with torch.no_grad():
            self.transform.weight.copy_(torch.eye(len(kept))[:, kept])
            self.transform.bias.zero_()

        # In the public code one map goes through pruning and final fine-tuning; here where settings ask for it.
        if self.settings.keep_transform and self.handed_on:
            self.transform.load_state_dict(_without_prefix(self.handed_on))

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
        self.ahead: Pairs | None = None

    def look_ahead(self, pieces: Iterable[Piece]) -> None:
        """Choose pairs for the whole batch: distances add up over its micro-batches."""
        if self.settings.matching == "fixed":
            return

        # Errors are means over rows or tokens, so those of the whole batch are their weighted sum.
        totals, layers = [], []
        for batch, student, teacher in pieces:
            moved, chosen = self._compared(student.hidden_states, teacher.hidden_states)
            layers = list(chosen)
            totals.append(self.counts(batch)["layer"] * layer_distances(chosen, moved, self._padding(batch)))
        self.ahead = matched(self.settings.matching, torch.stack(totals).sum(dim=0), layers, self._existing())

    def counts(self, batch: Batch) -> Mapping[str, int]:
        """The layer term is a mean over rows of one length, or over real tokens."""
        padding = self._padding(batch)
        return {**super().counts(batch), "layer": len(batch) if padding is None else int(padding.sum())}

    def _padding(self, batch: Batch) -> Tensor | None:
        """The mask of real tokens, where the layer term leaves padding out."""
        return batch.attention_mask if self.settings.mask_padding else None

    def loss_terms(self, batch: Batch, student: Outputs, teacher: Outputs, step: int) -> dict[str, Tensor]:
        """L_pred, L_layer and the Lagrangian.

        Source: docs/methods/cofi.md §2.
        Differs from the authors' code: mean squared error of the outputs for regression (point 6).
        """
        settings = self.settings
        prediction = soft_label_loss(student.logits, teacher.logits, temperature=settings.temperature, kind=self.stage.kind)

        layer = self._layer_loss(student.hidden_states, teacher.hidden_states, self._padding(batch))

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
        moved, chosen = self._compared(student, teacher)

        # m(i): the student layer that learns from teacher layer i (docs/methods/cofi.md §3.6). In micro-batches the choice is
        # that of the whole batch.
        self.pairs = self.ahead
        if self.pairs is None:
            self.pairs = pairs(self.settings.matching, chosen, moved, self._existing(), padding)

        # A sum over pairs, not a mean; where no student layer is left the term is 0, with a graph.
        terms = [distance(moved[own], teacher[layer], padding) for layer, own in self.pairs]
        return torch.stack(terms).sum() if terms else moved[-1].sum() * 0.0

    def _compared(
        self, student: tuple[Tensor, ...], teacher: tuple[Tensor, ...]
    ) -> tuple[list[Float[Tensor, "batch length width"]], dict[int, Float[Tensor, "batch length width"]]]:
        """Transformed outputs of every student layer, and those of the teacher layers to match under their numbers."""
        settings = self.settings
        weight, bias = self.transform.weight, self.transform.bias
        moved = [F.linear(states, weight.to(states.dtype), bias.to(states.dtype)) for states in student]

        # The teacher layers to match: evenly spaced, or one drawn in each block of layers.
        if settings.matching == "random":
            layers = one_per_block(len(teacher), settings.teacher_layers, self.blocks)
        else:
            layers = evenly_spaced(len(teacher), settings.teacher_layers)
        return moved, {layer: teacher[layer] for layer in layers}

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
        transform = {f"{TRANSFORM}{name}": value for name, value in self.transform.state_dict().items()}
        return super().state_dict() | transform

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        super().load_state_dict(state)

        self.transform.load_state_dict(_without_prefix(state))

    def hand_on(self) -> dict[str, Tensor]:
        """The transform of the student that is left: without the columns of the hidden dimensions that it has lost.

        Source: docs/methods/cofi.md §7.1.
        Differs from the authors' code: only with `keep_transform`; there the final fine-tuning always goes on with it.
        """
        if not self.settings.keep_transform:
            return {}

        # Columns read the student's dimensions; those that folding cuts away were 0 under their gates.
        left = self.end()[HIDDEN].cpu()[self.before[HIDDEN].cpu()]
        weight, bias = self.transform.weight.detach().cpu(), self.transform.bias.detach().cpu()
        return {f"{TRANSFORM}weight": weight[:, left], f"{TRANSFORM}bias": bias}


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The transform's tensors among others."""
    return {name.removeprefix(TRANSFORM): value for name, value in state.items() if name.startswith(TRANSFORM)}
