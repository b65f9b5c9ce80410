"""Magnitude pruning with logit distillation: the common baseline of distillation while pruning."""

from __future__ import annotations

from espalier.config.methods.pruning import DistilPlan
from espalier.methods.logit_distillation import LogitDistillation
from espalier.methods.pruning import WeightPruning


class Distil(LogitDistillation, WeightPruning):
    """The fine-tuned, unpruned network teaches its pruned copy."""

    settings: DistilPlan
