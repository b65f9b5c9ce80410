"""Tokens: a named class, the tag, for each word of a sentence: named entities, parts of speech."""

from __future__ import annotations

import re
from collections.abc import Sequence

from espalier.config.kinds import classification
from espalier.config.kinds.rules import TaskRules

ENTITY_METRICS = ("entity-f1", "entity-f1-strict")
"""Metrics that count entities, so that tags must be of the BIO scheme."""
BIO = re.compile(r"O|[BI]-.+", re.DOTALL)
"""A tag of the BIO scheme: outside, or the begin or the inside of an entity of a type."""


def bio_problem(metrics: Sequence[str | None], classes: Sequence[str] | None) -> str | None:
    """Problem if entities are to be counted and a class is no tag of the BIO scheme; otherwise None."""
    other = next((name for name in classes or () if not BIO.fullmatch(name)), None)
    if other is None or not set(ENTITY_METRICS).intersection(metrics):
        return None
    return f"metric entity-f1 needs tags of the BIO scheme: O, B-… and I-…; got the class {other!r}; rename it, or use accuracy"


RULES = TaskRules(
    metrics=("accuracy", *ENTITY_METRICS),
    named_classes=True,
    no_linear="its answers are a class for every word, not one for each row",
    text_columns=(1,),
    columns="one column of words",
    # csv and tsv hold no lists; .txt is CoNLL, as the first shared tasks named their files
    formats=(".parquet", ".jsonl", ".conll", ".conllu", ".txt"),
    # names that columns of CoNLL files have: the first one, and the last one (data/tagged/conll.py)
    defaults={"text": ["words"], "label": "tags"},
    refused=("stride", "max_answer_length", "no_answer"),
    one_vector=False,
    auto_class="AutoModelForTokenClassification",
    pipeline="token-classification",
    head=classification.RULES.head,
    class_problem=bio_problem,
)
