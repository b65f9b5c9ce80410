"""Fine-tuning of a small encoder that others trained: what one could take instead of a pruned model of the same size.

The head is new, nothing is removed. The teacher, which is made from the base that is compressed, may teach its logits (Turc et
al. 2019, arXiv 1908.08962, distil into pre-trained small models in this way). It reads the same rows in its own tokens, so only
outputs for whole rows can be compared. alpha = 0 is plain fine-tuning, and no teacher runs.
"""

from __future__ import annotations

from espalier.config.methods.ready_made import ReadyMadePlan
from espalier.methods.logit_distillation import TaughtFineTuning


class ReadyMade(TaughtFineTuning):
    """The task loss, with logit distillation unless it is turned off."""

    settings: ReadyMadePlan
