"""Logit distillation, which several methods train with.

L = (1 - alpha) L_task + alpha tau^2 KL(teacher || student) (Hinton et al. 2015, arXiv 1503.02531); for regression the
second term is the mean squared error of the outputs.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from espalier.data.batches import Batch
from espalier.kinds.base import label_terms, soft_label_loss
from espalier.losses.terms import distillation_weights
from espalier.methods.base import Method
from espalier.models.outputs import Outputs


class LogitDistillation(Method):
    """A method whose settings have `alpha` and `temperature`; the fine-tuned, unpruned network teaches."""

    # With `alpha` and `temperature` in it. A method that is built on this one names its own class; naming all of them here
    # would make each count in the digests of the others.
    settings: Any
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
        # tau^2 KL: the factor keeps its gradients as large as those of the task loss, whatever the temperature.
        kld = soft_label_loss(student.logits, teacher.logits, temperature=self.settings.temperature, kind=self.stage.kind)
        return super().loss_terms(batch, student, teacher, step) | {"kld": kld}


class TaughtFineTuning(LogitDistillation):
    """Fine-tuning in which nothing is removed. alpha = 0 is plain fine-tuning, and no teacher runs."""

    @property
    def needs_teacher(self) -> bool:  # type: ignore[override]  # here it depends on the settings
        """Whether distillation is on."""
        return self.settings.alpha > 0

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weights of the terms that are on: (1 - alpha) and alpha."""
        return {name: weight for name, weight in super().loss_weights.items() if weight}

    def loss_terms(self, batch: Batch, student: Outputs, teacher: Outputs | None, step: int) -> dict[str, Tensor]:
        """Task loss, and softened KL divergence where a teacher runs.

        Source: Hinton et al. 2015, arXiv 1503.02531.
        Differs from the authors' code: no code is public.
        """
        # Without distillation no teacher runs.
        if teacher is None:
            return label_terms(student.logits, batch, self.stage.kind)

        # alpha = 1 leaves the task loss out.
        terms = super().loss_terms(batch, student, teacher, step)
        return {name: terms[name] for name in self.loss_weights}
