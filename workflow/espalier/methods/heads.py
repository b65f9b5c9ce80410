"""First-order importance of attention heads and FFN units, one-shot or iterative.

Paper: P. Michel, O. Levy, G. Neubig, "Are Sixteen Heads Really Better than One?", arXiv 1905.10650 (2019).
Idea: put a gate of 1 on every head; how much the loss would change without the head is, to first order, the gradient
with respect to the gate. The least important heads go first. FFN units are treated alike, as later work does.

Symbols: xi_h = `gates`; I_h = E |dL / d xi_h| = `importance`.
One-shot is prune_steps: 1, iterative any larger number; importances are gathered over the training before a removal.
Left out: importance on a separate pass over the data without training.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from espalier.config.methods.structured import HeadsPlan
from espalier.methods.part_removal import PartRemoval
from espalier.methods.refitting import Refitting
from espalier.pruning.budget import check_reach, close_until
from espalier.pruning.equal_layers import equal_shape, highest
from espalier.pruning.gates import attach
from espalier.pruning.masks import Masks
from espalier.pruning.parts import full_masks, heads_of, masks_of, sizes, units_of
from espalier.pruning.shrink import shrink


class Heads(PartRemoval, Refitting):
    """Gates of 1 that are read, never trained."""

    settings: HeadsPlan

    def begin(self, student: PreTrainedModel, masks: Masks | None) -> None:
        """Put the gates on; a stage that removes nothing, such as recovery, has none."""
        super().begin(student, masks)

        # Sublayers without parts, which an earlier stage has closed, get no gates.
        kinds = {"heads": heads_of, "units": units_of}
        names = [kinds[kind](layer) for kind in self.settings.parts_to_prune for layer in range(len(self.shape.layers))]
        full = {name: mask for name, mask in full_masks(self.shape).items() if name in names and len(mask)}

        # xi = 1 everywhere: gates change no output, they are there to have gradients.
        self.open = {name: mask.to(student.device) for name, mask in full.items()}
        self.gates = {name: mask.float().requires_grad_() for name, mask in self.open.items()}
        self.importance = {name: torch.zeros_like(gate) for name, gate in self.gates.items()}

        if self.stage.removes:
            check_reach(self.size, self.gates)
            attach(student, lambda: {name: gate * self.open[name] for name, gate in self.gates.items()})

    def after_backward(self, step: int) -> None:
        """Add |dL / d xi|.

        Source: Michel et al. 2019, arXiv 1905.10650, eq. 2.
        Differs from the authors' code: the expectation is over batches.
        """
        for name, gate in self.gates.items():
            if gate.grad is not None:
                # No optimiser knows the gates, so nobody else clears their gradients.
                self.importance[name] += gate.grad.abs()
                gate.grad = None

    def gradients_to_read(self) -> Iterable[Tensor]:
        """The gates, which no optimiser knows."""
        return self.gates.values()

    def before_step(self, step: int) -> None:
        """Remove where the stage says so; importances begin anew afterwards."""
        if step not in self.stage.removals:
            return

        self.open = {name: value != 0 for name, value in self._kept(self.stage.removals[step]).items()}

        # What was gathered before a removal belongs to another network.
        self.importance = {name: torch.zeros_like(gate) for name, gate in self.importance.items()}

    def _kept(self, target: float) -> dict[str, Tensor]:
        """What stays, 1 or 0, at a sparsity: by one ranking over all layers, or equally many units in every layer."""
        values = {name: mask.float() for name, mask in self.open.items()}
        if self.settings.layers == "free":
            return close_until(values, values, self._ranking(), self.shape, self.size, target)

        counts = sizes(equal_shape(replace(self.size, target=target), self.settings.parts_to_prune))
        scores = {name: total.masked_fill(~self.open[name], -torch.inf) for name, total in self.importance.items()}
        return {name: highest(score, counts[name]) for name, score in scores.items()}

    def _ranking(self) -> list[tuple[str, int]]:
        """Parts in the order in which they go: what is gone already, then the least importance a weight.

        Source: Michel et al. 2019, section 3 (importances are normalised by layer).
        Differs from the authors' code: heads and units are compared by importance a weight.
        """
        ranked = []
        for name, importance in self.importance.items():
            # A head has many more weights than a unit: compare them by what a removed weight costs.
            cost = self.size.head_weights if name.endswith(".heads") else self.size.unit_weights
            norm = float(importance.norm()) or 1.0
            scores = importance / cost / (norm if self.settings.normalise else 1.0)

            pairs = zip(self.open[name].tolist(), scores.tolist(), strict=True)
            ranked += [(there, score, name, index) for index, (there, score) in enumerate(pairs)]

        # False sorts before True, so parts that are gone already come first.
        return [(name, index) for _, _, name, index in sorted(ranked)]

    def shrink(self, student: PreTrainedModel) -> PreTrainedModel:
        """The compact student."""
        return shrink(student, masks_of(self.open, self.shape)) if self.stage.removes else student

    def state_dict(self) -> dict[str, Tensor]:
        """Importances and what is kept."""
        importance = {f"importance/{name}": total for name, total in self.importance.items()}
        kept = {f"open/{name}": mask for name, mask in self.open.items()}
        return super().state_dict() | importance | kept

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        super().load_state_dict(state)
        for name in self.open:
            self.importance[name].copy_(state[f"importance/{name}"])
            self.open[name] = state[f"open/{name}"].to(self.open[name].device)
