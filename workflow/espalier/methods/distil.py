"""Magnitude pruning with logit distillation: the common baseline of distillation while pruning.

L = (1 - alpha) L_task + alpha tau^2 KL(teacher || student) (Hinton et al. 2015, arXiv 1503.02531); for regression the
second term is the mean squared error of the outputs.
"""

from __future__ import annotations

from torch import Tensor

from espalier.config.plans import DistilPlan
from espalier.core.batches import Batch
from espalier.core.losses import distillation_terms, distillation_weights
from espalier.core.method import Method, Outputs


class Distil(Method):
    """The fine-tuned, unpruned network teaches its pruned copy."""

    settings_class = DistilPlan
    needs_teacher = True

    @property
    def loss_weights(self) -> dict[str, float]:
        """(1 - alpha) and alpha."""
        return distillation_weights(self.settings.alpha)

    def loss_terms(self, batch: Batch, student: Outputs, teacher: Outputs, step: int) -> dict[str, Tensor]:
        """Task loss and softened KL divergence.

        Source: Hinton et al. 2015, arXiv 1503.02531.
        Differs from the authors' code: no code is public.
        """
        options = {"temperature": self.settings.temperature, "kind": self.stage.kind}
        return distillation_terms(student.logits, teacher.logits, batch.labels, **options)
