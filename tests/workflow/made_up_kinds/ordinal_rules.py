"""Ordinal: one of several named classes that have an order."""

from __future__ import annotations

from espalier.config.kinds import classification
from espalier.config.kinds.rules import TaskRules

RULES = TaskRules(metrics=("accuracy", "spearman"), named_classes=True, analysed=True, head=classification.RULES.head)
