"""Every kind of task: the table of names, and the rules that its configuration follows.

A kind is two files and one line here: `config/kinds/<kind>.py` with its rules, and the module that KINDS names, with all
that needs torch. A hyphen in the name of a kind is an underscore in the names of its modules.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Literal

from espalier.config.kinds.rules import TaskRules

KINDS = {
    "classification": "espalier.kinds.classification:Classification",
    "regression": "espalier.kinds.regression:Regression",
    "span": "espalier.kinds.span:Span",
    "embedding": "espalier.kinds.embedding:Vectors",
    "text": "espalier.kinds.text:Text",
    "tokens": "espalier.kinds.tokens:Tokens",
}
"""Kind → `module:Class` of its `TaskKind`."""


def rules_module(kind: str) -> str:
    """Name of the module with a kind's rules, which are called RULES there."""
    return f"{__name__}.{kind.replace('-', '_')}"


def read_rules(kind: str) -> TaskRules:
    """The rules in `config/kinds/<kind>.py`."""
    return import_module(rules_module(kind)).RULES


KIND_RULES: dict[str, TaskRules] = {kind: read_rules(kind) for kind in KINDS}
LABELLED = tuple(kind for kind, rules in KIND_RULES.items() if rules.labelled)
"""Kinds whose rows are tokenised one by one and scored by labels."""
FINE_TUNED = tuple(kind for kind in LABELLED if not KIND_RULES[kind].vectors)
"""Kinds whose training rows have labels, on which a teacher is fine-tuned."""
PACKED = tuple(kind for kind, rules in KIND_RULES.items() if not rules.labelled)
"""Kinds whose rows are packed and have a pretrained teacher."""
VECTORS = tuple(kind for kind in LABELLED if KIND_RULES[kind].vectors)
"""Kinds whose models give a vector for each text."""
ANALYSED = tuple(kind for kind, rules in KIND_RULES.items() if rules.analysed)
"""Kinds whose students can be analysed."""

# Literals that are built from the table: a new kind changes no type by hand. A type checker sees the plain type.
if TYPE_CHECKING:
    Kind = str
    Metric = str
    ReportedMetric = str
else:
    Kind = Literal[tuple(KINDS)]
    Metric = Literal[tuple(dict.fromkeys(name for rules in KIND_RULES.values() for name in rules.metrics))]
    ReportedMetric = Literal[tuple(dict.fromkeys(name for rules in KIND_RULES.values() for name in rules.reported))]
