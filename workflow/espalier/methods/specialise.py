"""Fine-tuning of a task-agnostic student on a task: nothing is removed, the head is new.

The task's own fine-tuned teacher may teach its logits (methods/logit_distillation.py). alpha = 0, as in the paper of HomoDistil
(arXiv 2302.09632), is plain fine-tuning, and no teacher runs.
"""

from __future__ import annotations

from espalier.config.methods.specialise import SpecialisePlan
from espalier.methods.logit_distillation import TaughtFineTuning


class Specialise(TaughtFineTuning):
    """The task loss, with logit distillation where it is asked for."""

    settings: SpecialisePlan
