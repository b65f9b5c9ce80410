"""Pruning without training by Fisher information: a mask search, a rearrangement, and scales of what stays.

Paper: W. Kwon, S. Kim, M. W. Mahoney, J. Hassoun, K. Keutzer, A. Gholami, "A Fast Post-Training Pruning Framework for
Transformers", NeurIPS 2022, arXiv 2204.09656; code WoosukKwon/retraining-free-pruning at 806ac5a.

Idea: a gate of 1 on every head and FFN unit; around the trained model the loss without a part is, to second order, half of the
gate's Fisher information, which is the mean square of its gradient. A search keeps the parts with the largest information that
a budget allows, a rearrangement counts the effects of parts on each other, and least squares scale what each kept part writes.

Symbols                          Names
    m                             gates
    I_ii = E (dL / dm_i)^2        importance
    block of I off the diagonal   gradients, in `rearranged`

Where the method is explained: docs/methods/kwon.md. Differs from the authors' code: a sublayer that loses all of its parts is
an identity with its LayerNorm, as everywhere here; the size is met to the nearest unit, not from below; kinds of task without
classes have their own losses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from espalier.config.methods.untrained import KwonPlan
from espalier.data.batches import Batch
from espalier.kinds.base import task_loss
from espalier.methods.refitting import Refitting
from espalier.methods.untrained import Untrained
from espalier.models.classes import auto_class
from espalier.pruning.budget import Budget, close_until
from espalier.pruning.calibrated.fisher import gate_gradients, rearranged
from espalier.pruning.calibrated.least_squares import best_scales
from espalier.pruning.calibrated.mask_search import best_parts, fastest_parts
from espalier.pruning.calibrated.refit import output_matrix
from espalier.pruning.masks import Masks
from espalier.pruning.parts import Sublayer, parts_in


class Kwon(Refitting, Untrained):
    """Search, rearrange, tune."""

    settings: KwonPlan

    def _budget(self) -> Budget:
        """Weights, multiplications, or milliseconds."""
        if self.settings.cost == "weights" or self.stage.latency is not None:
            return super()._budget()

        # A head multiplies each weight once a token, and its d_h numbers with those of n tokens twice: for q k^T and for the
        # weighted sum of values. Costs are counted for each hidden dimension, as everything in a size budget.
        size = self.size
        products = 2.0 * self.settings.length * size.shape.head_dim / size.shape.hidden
        heads = sum(mask.numel() for name, mask in self.before.items() if name.endswith(".heads"))
        dense = size.dense + products * heads * self.before["hidden"].numel()
        return replace(size, head_weights=size.head_weights + products, dense=dense)

    def calibrate(self, student: PreTrainedModel, teacher: nn.Module | None, batches: Sequence[Batch]) -> None:
        """Decide what stays, and with which scales.

        Source: Kwon et al. 2022, sections on mask search, rearrangement and tuning; docs/methods/kwon.md §2.
        Differs from the authors' code: see the top of this file.
        """
        # Leaves of their own: what is decided below must have no gradients.
        read = {name: gate.clone().requires_grad_() for name, gate in self.gates.items()}
        with self._applying(read):
            gradients = gate_gradients(student, read, batches, self._loss)

        # I_ii = sum_b g_b^2, the diagonal of the Fisher information.
        masks = self._searched({name: rows.square().sum(dim=0) for name, rows in gradients.items()})
        for name, mask in masks.items():
            mask = mask.to(student.device)
            kept = rearranged(mask, gradients[name]) if self.settings.rearrange else mask
            self.gates[name].copy_(kept)

        if self.settings.tune:
            self._tune(batches)

    def _loss(self, batch: Batch, logits: Tensor) -> Tensor:
        """The task's own loss, on hard labels."""
        return task_loss(logits, batch.labels, self.stage.kind)

    def _searched(self, importance: Mapping[str, Tensor]) -> Masks:
        """The masks that keep most importance within the budget."""
        if self.stage.latency is not None:
            return self._fast_enough(importance)

        size: Any = self.budget
        allowed = size.dense * (1.0 - size.target) / size.shape.hidden

        # Half a unit more than allowed brings the size to the nearest unit.
        unit = size.unit_weights
        return best_parts(importance, size.head_weights, unit, allowed + unit / 2).masks

    def _fast_enough(self, importance: Mapping[str, Tensor]) -> Masks:
        """The masks of the search with straightened times, brought to the target by the times that were measured."""
        target = self.stage.latency
        masks = fastest_parts(importance, target.table, target.target_ms).masks

        # What the search has closed goes first, then the least important of the rest; sublayers that are gone stay so.
        order = []
        for name, mask in masks.items():
            if mask.any():
                pairs = zip(mask.tolist(), importance[name].tolist(), strict=True)
                order += [(kept, score, name, index) for index, (kept, score) in enumerate(pairs)]
        values = {name: mask.float() for name, mask in masks.items()}
        full = {name: torch.ones_like(value) for name, value in values.items()}
        landed = close_until(
            values, full, [(name, index) for _, _, name, index in sorted(order)], self.shape, self.budget, self.budget.target
        )
        return {name: value != 0 for name, value in landed.items()}

    @torch.no_grad()
    def _tune(self, batches: Sequence[Batch]) -> None:
        """Scale what each kept head and unit writes, sublayer by sublayer, until scales are not to be believed.

        Source: Kwon et al. 2022, mask tuning; docs/methods/kwon.md §2.4.
        Differs from the authors' code: the normal equations are solved, where the code has an iterative solver.
        """
        for layer, kind, moments in self._sublayers(batches):
            gate, matrix = self.gates[parts_in(kind, layer)], output_matrix(self.student, layer, kind)
            kept, size = gate != 0, matrix.in_features // len(gate)
            if not kept.any():
                continue

            columns = kept.repeat_interleave(size).nonzero().flatten()
            scales = best_scales(moments.of_columns(columns), matrix.weight[:, columns], matrix.bias, size)
            if float(scales.abs().max()) > self.settings.largest_scale:
                print(f"layer {layer}, {kind}: a scale of {float(scales.abs().max()):.1f}; tuning ends before it", flush=True)
                return
            gate[kept] = scales

    def reads_first_token(self, layer: int, kind: Sublayer) -> bool:
        """A head for whole rows reads the first token of the last layer, unless it takes the mean of all."""
        is_last = layer == len(self.shape.layers) - 1 and kind == "ffn"
        pooled = getattr(self.student.config, "classifier_pooling", "cls") == "cls"
        return is_last and pooled and auto_class(self.student) is AutoModelForSequenceClassification
