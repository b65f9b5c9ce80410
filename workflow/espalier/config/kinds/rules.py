"""What the configuration may say about a task of one kind, and which head its models have. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FILE_FORMATS = (".parquet", ".csv", ".tsv", ".jsonl")
"""Formats of data files that can hold one label a row."""
UNUSED = ("stride", "max_answer_length", "evaluation_rows", "bio")
"""Keys that only tasks with windows, with packed rows, or with a tag for each word have."""


def no_problem(metrics: Sequence[str | None], classes: Sequence[str] | None) -> str | None:
    """Any classes will do."""
    return None


def no_changes(classes: Sequence[str] | None) -> dict[str, Any]:
    """Leave the configuration of the model as the base has it."""
    return {}


def nothing_wrong(task: Any) -> str | None:
    """Find nothing wrong with a task."""
    return None


@dataclass(frozen=True)
class TaskRules:
    """The rules of one kind of task; `config/kinds/<kind>.py` holds its own as `RULES`."""

    metrics: tuple[str, ...] = ()
    """What a task may name under `metric` and `also`."""
    reported: tuple[str, ...] = ()
    """Metrics that every task of this kind reports, where a task names none itself; the first one is the score."""
    labelled: bool = True
    """Whether rows are scored by labels: such tasks are tokenised row by row, other tasks are packed and pretrained."""
    vectors: bool = False
    """Whether a model gives a vector for each text: training rows are texts without labels, and the base itself teaches."""
    no_unlabelled: str = "its rows are more than a text, or a pair of texts, with one line of outputs"
    """Why a task has no further texts without labels; empty where it can have some."""
    own_keys: tuple[str, ...] = ()
    """Keys that only tasks of kinds that name them here have."""
    needed: tuple[str, ...] = ("label", "metric")
    """Keys that a task must have whose rows are scored by labels."""
    check: Callable[[Any], str | None] = nothing_wrong
    """Task → what else is wrong with its keys; None where nothing is."""
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
    text_columns: tuple[int, ...] = (1, 2)
    """How many text columns a task may name."""
    columns: str = "one or two columns"
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
