"""Pruning without training, sublayer by sublayer, with a least-squares refit of each output matrix.

Paper: S. Park, H. Choi, U. Kang, "Accurate Retraining-free Pruning for Pretrained Encoder-based Language Models" (K-prune),
ICLR 2024, arXiv 2308.03449. Written from the paper's description; its code has a licence for research only and was not read.

Idea: a part knows something if the outputs move without it (predictive knowledge), and if it writes much to the residual stream
(representational knowledge). From the first sublayer to the last: rank the parts of all sublayers that remain by knowledge for
each weight, remove those of this sublayer that fall below the one threshold that meets the size, and solve this sublayer's
output matrix so that the residual stream comes to where the whole model has it.

Symbols                       Names
    lambda_p, lambda_r         settings.predictive_weight, settings.feature_weight
    mu (64)                    settings.head_factor
    gamma (2)                  settings.temperature
    K_pred, K_rep              predictive, features

Where the method is explained: docs/methods/kprune.md. Ours, where the description leaves a choice: labels drawn from the
softened outputs for the predictive part (§2.1), what is summed and averaged (§2.2), the bias is solved, too (§2.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from espalier.config.methods.untrained import KprunePlan
from espalier.data.batches import Batch
from espalier.kinds.base import task_kind
from espalier.methods.untrained import Untrained
from espalier.pruning.budget import close_until
from espalier.pruning.calibrated.fisher import gate_gradients
from espalier.pruning.calibrated.least_squares import Moments, best_matrix
from espalier.pruning.calibrated.refit import output_matrix
from espalier.pruning.parts import SUBLAYERS, Sublayer, parts_in


class Kprune(Untrained):
    """Measure, then remove and refit from the first sublayer to the last."""

    settings: KprunePlan

    def calibrate(self, student: PreTrainedModel, teacher: nn.Module | None, batches: Sequence[Batch]) -> None:
        """Decide what stays, and solve the output matrices.

        Source: Park et al. 2024; docs/methods/kprune.md §2.
        Differs from the authors' code: unread; see the top of this file.
        """
        predictive, scores = self._measured(student, batches)
        rows = sum(map(len, batches))
        undecided = list(self.gates)

        for layer, kind, moments in self._sublayers(batches):
            # What this sublayer reads has changed since it was measured.
            name = parts_in(kind, layer)
            scores[name] = self._score(layer, kind, predictive[name], moments.energy / rows)

            kept = self._kept(undecided, scores)[name] != 0
            self.gates[name].copy_(kept)
            undecided.remove(name)
            if self.settings.refit and kept.any():
                self._solve(layer, kind, kept, moments)

    def _measured(self, student: PreTrainedModel, batches: Sequence[Batch]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Predictive knowledge and score of every part of the whole model."""
        rows = sum(map(len, batches))
        read = {name: gate.clone().requires_grad_() for name, gate in self.gates.items()}
        places = {parts_in(kind, layer): (layer, kind) for layer in range(len(self.shape.layers)) for kind in SUBLAYERS}
        inputs: dict[str, Tensor] = {}
        energies: dict[str, Any] = dict.fromkeys(read, 0.0)

        def loss(batch: Batch, logits: Tensor) -> Tensor:
            real = batch.attention_mask.bool()
            for name, states in inputs.items():
                energies[name] += states[real].double().square().sum(dim=0)
            return self._surprise(batch, logits)

        with ExitStack() as hooks:
            hooks.enter_context(self._applying(read))
            for name in read:
                note = partial(_note, inputs, name)
                hooks.callback(output_matrix(student, *places[name]).register_forward_pre_hook(note).remove)
            gradients = gate_gradients(student, read, batches, loss)

        # E over rows: labels are drawn for each row by itself, so that gradients of different rows are uncorrelated, and the
        # square of a batch's sum is expected to be the sum of its rows' squares.
        predictive = {name: 0.5 * rows_of.square().sum(dim=0) / rows for name, rows_of in gradients.items()}
        return predictive, {name: self._score(*places[name], predictive[name], energies[name] / rows) for name in read}

    def _surprise(self, batch: Batch, logits: Float[Tensor, "lines classes"]) -> Float[Tensor, ""]:
        """Minus the log probability of outputs that are drawn from the model's own, softened distribution, summed over lines.

        Its gradient's square is expected to be the curvature of the KL divergence from the whole model, whose own gradient is 0
        where nothing has been removed.

        Source: ours, for the paper's estimate of KL by squares of gradients; docs/methods/kprune.md §2.1.
        """
        # Numbers are the means of normal distributions, whose divergence is half the squared difference.
        if task_kind(self.stage.kind).real_valued:
            noise = torch.randn(logits.shape, generator=self.generator).to(logits)
            return 0.5 * (logits - (logits + noise).detach()).square().sum()

        # Drawn on the CPU, from the generator that a resumed run goes on with.
        softened = logits.float() / self.settings.temperature
        drawn = torch.multinomial(softened.detach().softmax(dim=-1).cpu(), 1, generator=self.generator).to(logits.device)
        return F.cross_entropy(softened, drawn.flatten(), reduction="sum")

    def _score(
        self, layer: int, kind: Sublayer, predictive: Float[Tensor, " parts"], energy: Float[Tensor, " columns"]
    ) -> Float[Tensor, " parts"]:
        """Knowledge for each weight that a part costs.

        Source: Park et al. 2024, importance scores; docs/methods/kprune.md §2.2.
        Differs from the authors' code: unread.

        Args:
            layer, kind: the sublayer.
            predictive: K_pred of each part.
            energy: squares of each column's inputs, summed over the tokens of a row, mean over rows.
        """
        settings, weight = self.settings, output_matrix(self.student, layer, kind).weight.detach().double()
        size = len(energy) // len(predictive)

        # K_rep = |feature|^2 times the mean square of the weights that the feature meets.
        means = weight.square().mean(dim=0).reshape(-1, size).mean(dim=1)
        features = energy.reshape(-1, size).sum(dim=1) * means

        # S = (lambda_p K_pred + lambda_r K_rep) / cost, heads times mu.
        knowledge = settings.predictive_weight * predictive.double() + settings.feature_weight * features
        factor = settings.head_factor / self.size.head_weights if kind == "attention" else 1.0 / self.size.unit_weights
        return knowledge * factor

    def _kept(self, undecided: Sequence[str], scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All gates, with those of sublayers that remain as one threshold for all of them has it."""
        every = torch.cat([scores[name].cpu() for name in undecided])
        places = [(name, index) for name in undecided for index in range(len(scores[name]))]
        order = [places[place] for place in every.argsort(stable=True).tolist()]

        gates = {name: gate.cpu() for name, gate in self.gates.items()}
        full = {name: torch.ones_like(gate) for name, gate in gates.items()}
        return close_until(gates, full, order, self.shape, self.budget, self.budget.target)

    @torch.no_grad()
    def _solve(self, layer: int, kind: Sublayer, kept: Bool[Tensor, " parts"], moments: Moments) -> None:
        """Give the columns of what is kept, and the bias, the least-squares solution.

        Source: Park et al. 2024, reconstruction; docs/methods/kprune.md §2.3.
        Differs from the authors' code: unread; the bias is solved, too, and damping is towards the present weights.
        """
        matrix = output_matrix(self.student, layer, kind)
        columns = kept.repeat_interleave(matrix.in_features // len(kept)).nonzero().flatten()

        weight, bias = best_matrix(moments.of_columns(columns), matrix.weight[:, columns], matrix.bias)
        matrix.weight[:, columns] = weight
        if bias is not None:
            matrix.bias.copy_(bias)


def _note(inputs: dict[str, Tensor], name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
    """Keep what a matrix reads."""
    inputs[name] = given[0].detach()
