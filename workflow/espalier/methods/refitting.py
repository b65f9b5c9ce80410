"""The refit of a structured student's output matrices, at the end of a stage and before recovery (`refit: true`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from espalier.data.batches import Batch
from espalier.kinds.base import soft_label_loss
from espalier.methods.base import Method
from espalier.models.forward import forward
from espalier.pruning.calibrated.refit import refit_layers
from espalier.pruning.parts import HIDDEN
from espalier.runtime.errors import UserError


class Refitting(Method):
    """A method whose students may be refitted; its masks are over parts."""

    # With `refit` and `calibration_rows` in it; a method names its own class, as with `alpha` in logit distillation.
    settings: Any

    @property
    def refit_rows(self) -> int:
        """As many as for a calibration, where the settings ask for a refit."""
        return self.settings.calibration_rows if self.settings.refit else 0

    @torch.no_grad()
    def refit(self, small: PreTrainedModel, dense: PreTrainedModel, batches: Sequence[Batch]) -> dict[str, Any]:
        """Fit the output matrices; where the outputs then are further from the dense model's, take that back.

        Raises:
            UserError: the path did not begin with a model as wide as the dense one.
        """
        kept = self.end()[HIDDEN]
        if len(kept) != dense.config.hidden_size:
            raise UserError(
                f"refit: the path began with a model of {len(kept)} hidden dimensions, the teacher has "
                f"{dense.config.hidden_size}; set refit: false in plans that go on from narrower students"
            )

        before, present = self._distance(small, dense, batches), {k: v.clone() for k, v in small.state_dict().items()}
        refit_layers(small, dense, batches, kept.nonzero().flatten())
        after = self._distance(small, dense, batches)

        # Every sublayer is nearer to its dense one by construction, but what they come to together need not be.
        if after > before:
            small.load_state_dict(present)
        return {"error_before": before, "error_refitted": after, "taken": after <= before}

    def _distance(self, small: nn.Module, dense: nn.Module, batches: Sequence[Batch]) -> float:
        """Mean distance of the outputs from the dense model's: KL divergence, or squares where outputs are numbers."""
        total, lines = 0.0, 0
        for batch in batches:
            count = batch.lines([len(batch)])[0]
            outputs, wanted = (forward(model, batch).logits for model in (small, dense))

            # A vector of a narrower student has its dimensions where the dense model has them.
            if outputs.shape != wanted.shape:
                kept = self.end()[HIDDEN].nonzero().flatten().to(outputs.device)
                outputs = torch.zeros_like(wanted).index_copy_(1, kept, outputs.to(wanted.dtype))
            total += count * float(soft_label_loss(outputs, wanted, temperature=1.0, kind=self.stage.kind))
            lines += count
        return total / lines
