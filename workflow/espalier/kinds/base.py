"""What a kind of task has to answer, and where the pipeline asks it.

A kind of task is a subclass of `TaskKind` in a file of its own, its rules in `config/kinds/<kind>.py`, and a line in
`config.kinds.KINDS`. The stages ask it in this order: `prepare`; `tokenise`; `open_rows`; once a micro-batch `task_loss` and
`soft_label_loss`; then `measure`, `scores` and `predictions`. How rows become batches, and how a batch is divided between
processes, is asked of the rows themselves (`data.batches.TaskRows` and `Batch`). Which head a model has stands in the rules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import pandas as pd
import pyarrow as pa
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from espalier.config.data import Task
from espalier.config.job_specs import PrepareSpec, TokeniseSpec
from espalier.config.kinds import KIND_RULES, KINDS, Kind
from espalier.config.kinds.rules import TaskRules
from espalier.data.batches import Batch, TaskRows
from espalier.data.files import read_file
from espalier.data.labelled import Column, LabelledTables, SourceTable, checked_texts, classes_in, read_tables
from espalier.data.prepared import write_labelled
from espalier.data.tokenizer import write_tokens
from espalier.evaluation.predict import Scores
from espalier.losses.terms import class_divergence
from espalier.models.outputs import Outputs
from espalier.runtime.errors import UserError
from espalier.runtime.files import reading

RowsOfKind = TypeVar("RowsOfKind", bound=TaskRows)
"""The class of the rows of a kind of task."""
Measured = TypeVar("Measured")
"""What a kind of task keeps of a model's outputs."""
Teach = Callable[[Batch], Outputs]
"""A batch → the teacher's outputs for it."""


class TaskKind(ABC, Generic[RowsOfKind, Measured]):
    """A kind of task. The answers given here are those of a table with labels in columns of their own."""

    rules: ClassVar[TaskRules]
    """What the configuration may say; the same object as `RULES` of `config/kinds/<kind>.py`."""
    real_valued: ClassVar[bool] = False
    """Whether outputs are numbers that are compared by their squares, rather than distributions over classes."""
    width_varies: ClassVar[bool] = False
    """Whether a line of logits is as wide as its batch, so that a mean over it would depend on the padding."""
    optional_columns: ClassVar[tuple[str, ...]] = ()
    """Columns that are read besides texts and labels, where a file has them."""

    # From the user's files to rows of token ids.

    def prepare(self, settings: PrepareSpec, train: Path, evaluation: Path) -> dict[str, object]:
        """Read, check and write the training rows and all evaluation sets; returns the content of task.json.

        Raises:
            UserError: a file, column, row or class is not as it must be.
        """
        return write_labelled(settings, self.read(settings.name, settings.task), train, evaluation)

    def read(self, name: str, task: Task) -> LabelledTables:
        """The checked tables of a task; `label_columns` says what labels they have."""
        return read_tables(name, task, self)

    def read_file(self, path: Path, columns: Sequence[str]) -> pa.Table:
        """The rows of a data file: these columns, which must be there, and those of `optional_columns` that are.

        Raises:
            UserError: the file is damaged, or a column is missing.
        """
        return read_file(path, columns, self.optional_columns)

    def text_columns(self, source: SourceTable, names: Sequence[str]) -> dict[str, Column]:
        """The checked columns of a table that hold its texts, text_a among them.

        Args:
            source: the table as the user's file has it.
            names: of its columns.

        Raises:
            UserError: a column is missing, the table is empty, or a text is not as it must be.
        """
        return checked_texts(source, names)

    def named_classes(self, task: Task, train: SourceTable) -> tuple[str, ...] | None:
        """Names of the classes in order; None where labels are no names of classes."""
        return classes_in(task, train) if self.rules.named_classes else None

    @abstractmethod
    def label_columns(
        self, source: SourceTable, task: Task, texts: Mapping[str, Column], classes: tuple[str, ...] | None
    ) -> dict[str, Column]:
        """The checked label columns of a table: name → values.

        Args:
            source: the table as the user's file has it.
            task: its configuration.
            texts: the checked columns text_a and text_b.
            classes: what `named_classes` gave.

        Raises:
            UserError: a label is not allowed.
        """

    def tokenise(self, encoder: PreTrainedTokenizerBase, settings: TokeniseSpec, rows: Path, tokens: Path) -> None:
        """Write token ids beside all columns that are no texts, a row a row."""
        write_tokens(encoder, settings.max_length, rows, tokens)

    @abstractmethod
    def open_rows(self, path: Path, pad: int, seed: int) -> RowsOfKind:
        """The rows that `tokenise` wrote.

        Args:
            path: the file.
            pad: padding id of the tokenizer.
            seed: of the run, for rows that are drawn anew in every epoch.
        """

    # Losses.

    @abstractmethod
    def task_loss(self, logits: Float[Tensor, "lines classes"], labels: Tensor) -> Float[Tensor, ""]:
        """The loss on the labels of a batch, every row counting the same."""

    def soft_label_loss(
        self, student: Float[Tensor, "lines classes"], teacher: Float[Tensor, "lines classes"], temperature: float
    ) -> Float[Tensor, ""]:
        """How far the student's outputs are from the teacher's; no gradient flows into the teacher's."""
        return class_divergence(student, teacher, temperature=temperature)

    # Evaluation.

    @abstractmethod
    def measure(self, model: nn.Module, rows: RowsOfKind, accelerator: Accelerator, teacher: Teach | None = None) -> Measured:
        """What `scores` and `predictions` are made from: the only step that runs the model, in eval mode.

        Args:
            model: with a head.
            rows: of an evaluation table.
            accelerator: device and precision.
            teacher: outputs of the teacher for a batch, where it runs beside the student.
        """

    @abstractmethod
    def scores(self, measured: Measured, rows: RowsOfKind, metrics: Sequence[str]) -> Scores:
        """Number of rows, loss and metrics on each evaluation set, in the table's order of sets."""

    @abstractmethod
    def predictions(self, measured: Measured, rows: RowsOfKind) -> pd.DataFrame:
        """A line for everything that is scored by itself, with the columns `set` and `prediction`: for paired comparisons."""

    def agreement(self, predictions: pd.DataFrame, reference: pd.DataFrame) -> float:
        """How far two models, asked the same, predict the same, in [-1, 1]; 1 where they do everywhere.

        Args:
            predictions: what `predictions` gave for one model.
            reference: what it gave for the other model.
        """
        return float((predictions["prediction"].to_numpy() == reference["prediction"].to_numpy()).mean())

    # Answers to texts whose labels nobody knows.

    def new_texts(self, source: SourceTable, names: Sequence[str]) -> dict[str, Column]:
        """What `text_columns` gives, of a table without labels, which may hold texts in more forms."""
        return self.text_columns(source, names)

    def unknown_labels(self, count: int) -> dict[str, list[Any]]:
        """Label columns for rows without labels: name → values that no answer depends on."""
        return {"label": [0] * count}

    def answers(self, measured: Measured, rows: RowsOfKind, classes: Sequence[str]) -> pd.DataFrame:
        """What a user reads: a line for each row of text, in order.

        Args:
            measured: what `measure` gave.
            rows: of a table without labels.
            classes: names of the classes in order; empty where there are none.

        Raises:
            UserError: models of this kind do not answer texts.
        """
        raise UserError(f"{type(self).__name__}: models of this kind of task have no answer to a text")


@cache
def task_kind(name: Kind) -> TaskKind[Any, Any]:
    """The kind of task of this name; no other kind is imported."""
    module, _, symbol = KINDS[name].partition(":")
    return getattr(import_module(module), symbol)()


def read_task(name: str, task: Task) -> LabelledTables:
    """The checked tables of a task, read as its kind does it."""
    return task_kind(task.kind).read(name, task)


def open_rows(path: Path, kind: Kind, pad: int, seed: int) -> TaskRows:
    """Tokenised rows of a task, opened as its kind does it.

    Raises:
        UserError: the file is damaged.
    """
    with reading(path, pa.ArrowException):
        return task_kind(kind).open_rows(path, pad, seed)


def task_loss(logits: Float[Tensor, "lines classes"], labels: Tensor, kind: Kind) -> Float[Tensor, ""]:
    """The loss on the labels of a batch, as its kind of task has it."""
    return task_kind(kind).task_loss(logits, labels)


def label_terms(logits: Float[Tensor, "lines classes"], batch: Batch, kind: Kind) -> dict[str, Float[Tensor, ""]]:
    """The term "task": the loss on the labels, a mean over the rows that have one; nothing where no row of the kind has one.

    Args:
        logits: of the student for the batch.
        batch: its rows, some of which may have no label.
        kind: of the task.
    """
    if KIND_RULES[kind].vectors:
        return {}
    if batch.labelled is None:
        return {"task": task_loss(logits, batch.labels, kind)}

    # 0 that still hangs on the student, so that backward() works
    if not bool(batch.labelled.any()):
        return {"task": logits.float().sum() * 0.0}
    return {"task": task_loss(logits[batch.labelled], batch.labels[batch.labelled], kind)}


def soft_label_loss(
    student: Float[Tensor, "lines classes"], teacher: Float[Tensor, "lines classes"], *, temperature: float, kind: Kind
) -> Float[Tensor, ""]:
    """The distance of the student's outputs from the teacher's, as the kind of task has it.

    Source: Hinton et al. 2015, arXiv 1503.02531; docs/methods/sdp.md §2.3.
    Differs from the authors' code: no code is public.

    Args:
        student: logits.
        teacher: logits; no gradient flows into them.
        temperature: > 0; unused for real-valued outputs.
        kind: kind of the task.
    """
    return task_kind(kind).soft_label_loss(student, teacher, temperature)


def evaluator(
    rows: TaskRows, kind: Kind, metrics: Sequence[str], accelerator: Accelerator, teacher: Teach | None = None
) -> Callable[[nn.Module], Scores]:
    """A function that scores a model on these rows; on masked text also by its distance from a teacher."""
    own = task_kind(kind)
    return lambda model: own.scores(own.measure(model, rows, accelerator, teacher), rows, metrics)
