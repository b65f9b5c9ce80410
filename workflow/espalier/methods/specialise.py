"""Fine-tuning of a task-agnostic student on a task: nothing is removed, the head is new.

The task's own fine-tuned teacher may teach its logits (methods/logit_distillation.py). alpha = 0, as in the paper of HomoDistil
(arXiv 2302.09632), is plain fine-tuning, and no teacher runs.
"""

from __future__ import annotations

from torch import Tensor

from espalier.config.methods.specialise import SpecialisePlan
from espalier.data.batches import Batch
from espalier.kinds.base import task_loss
from espalier.methods.logit_distillation import LogitDistillation
from espalier.models.outputs import Outputs


class Specialise(LogitDistillation):
    """The task loss, with logit distillation where it is asked for."""

    settings: SpecialisePlan

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
            return {"task": task_loss(student.logits, batch.labels, self.stage.kind)}

        # alpha = 1 leaves the task loss out.
        terms = super().loss_terms(batch, student, teacher, step)
        return {name: terms[name] for name in self.loss_weights}
