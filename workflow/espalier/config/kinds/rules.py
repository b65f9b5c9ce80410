"""What the configuration may say about a task of one kind, and which head its models have. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FILE_FORMATS = (".parquet", ".csv", ".tsv", ".jsonl")
"""Formats of data files that can hold one label a row."""
UNUSED = ("stride", "max_answer_length", "evaluation_rows")
"""Keys that only tasks with windows, with packed rows, or with a tag for each word have."""


def no_changes(classes: Sequence[str] | None) -> dict[str, Any]:
    """Leave the configuration of the model as the base has it."""
    return {}


def no_problem(*given: Any) -> str | None:
    """Nothing is wrong, whatever is given."""
    return None


@dataclass(frozen=True)
class TaskRules:
    """The rules of one kind of task; `config/kinds/<kind>.py` holds its own as `RULES`."""

    metrics: tuple[str, ...] = ()
    """What a task may name under `metric` and `also`."""
    reported: tuple[str, ...] = ()
    """Metrics that every task of this kind reports, where a task names none itself; the first one is the score."""
    needed: tuple[str, ...] = ("label", "metric")
    """Keys that a task of this kind must have."""
    own: tuple[str, ...] = ()
    """Keys that only tasks of kinds that name them here have."""
    problem: Callable[[Any], str | None] = no_problem
    """A task → what is wrong with its own keys, together with the others; None if nothing."""
    labelled: bool = True
    """Whether rows are scored by labels: such tasks are tokenised row by row, other tasks are packed and pretrained."""
    vectors: bool = False
    """Whether a model gives a vector for each text: training rows are texts without labels, and the base itself teaches."""
    no_unlabelled: str = "its losses are made for rows that all have labels"
    """Why a task has no further texts without labels; empty where it can have some."""
    named_classes: bool = False
    """Whether labels are names of classes."""
    class_problem: Callable[[Sequence[str | None], Sequence[str] | None], str | None] = no_problem
    """Metrics and names of classes, if any are known → what is wrong with them, if anything."""
    one_vector: bool = True
    """Whether methods that compare vectors have one for each row, which can be stored; else one for each labelled token."""
    analysed: bool = False
    """Whether students can be analysed and training rows can be scored: both need one label for every tokenised row."""
    no_linear: str = "its answers are not known to be one class or one number for each row"
    """Why no linear model can stand beside such models; empty where one can."""
    row_per_text: bool = False
    """Whether each row of texts is one row of tokens with one line of logits, whatever the tokenizer."""
    decides: bool = False
    """Whether exported models carry what was decided on held-out training rows, such as thresholds."""
    text_columns: tuple[int, ...] = (1, 2, 3, 4)
    """How many text columns a task may name."""
    columns: str = "one to four columns"
    """The text columns in words, for messages."""
    formats: tuple[str, ...] = FILE_FORMATS
    """Endings of data files."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of keys that a task leaves out."""
    refused: tuple[str, ...] = UNUSED
    """Keys that a task of this kind must not have."""
    auto_class: str = "AutoModelForSequenceClassification"
    """Name of the class in transformers that opens such models."""
    pipeline: str = "text-classification"
    """The Hugging Face hub's name of what such models do, for their cards."""
    own_head: bool = False
    """Whether models keep the head that a base brings, where it is of the kind that `auto_class` has."""
    head: Callable[[Sequence[str] | None], dict[str, Any]] = no_changes
    """Names of the classes, if any → attributes of the model's configuration that give the head its outputs."""
