"""No compression: training with the task loss alone.

The control of every comparison (the same number of updates, nothing removed), and how teachers are fine-tuned.
"""

from __future__ import annotations

from espalier.config.methods.dense import DensePlan
from espalier.methods.base import Method


class Dense(Method):
    """Every answer of the contract is the empty one."""

    settings: DensePlan
