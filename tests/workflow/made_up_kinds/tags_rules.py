"""Tags: a named class for each word of a text."""

from __future__ import annotations

from espalier.config.kinds import classification
from espalier.config.kinds.rules import TaskRules

RULES = TaskRules(
    metrics=("tag-accuracy",),
    named_classes=True,
    text_columns=(1,),
    columns="one column of words",
    auto_class="AutoModelForTokenClassification",
    pipeline="token-classification",
    head=classification.RULES.head,
)
