"""Multilabel: several of the named classes for a text or a pair of texts, each a yes or no of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from espalier.config.data import SELECTION, Task
from espalier.config.kinds import multilabel
from espalier.data.batches import Batch, TokenisedRows, tokens_in
from espalier.data.label_sets import label_classes, label_matrix
from espalier.data.labelled import Column, LabelledTables, SourceTable
from espalier.data.labels import some
from espalier.evaluation.label_sets import HALF, Rule, as_sets, chosen_thresholds, label_set_score
from espalier.evaluation.predict import Scores, all_logits, set_names
from espalier.kinds.base import TaskKind, Teach
from espalier.losses.outputs import label_set_loss, soft_label_set_loss
from espalier.runtime.errors import UserError

LABELS, THRESHOLDS = "labels", "thresholds"
"""Columns of a table: the labels of a row, and the rule by which thresholds are chosen, the same in every row."""


@dataclass(frozen=True)
class LabelSetRows(TokenisedRows):
    """A tokenised table in memory whose labels are a 0 or 1 a class."""

    rule: Rule
    """How thresholds are chosen where none are known."""
    thresholds: tuple[float, ...] | None = None
    """Thresholds of the model that is asked; None before it has any."""

    @classmethod
    def read(cls, path: Path, pad: int) -> LabelSetRows:
        """Read a parquet file that the tokenise stage wrote; `pad` is the tokenizer's padding id."""
        table = pq.read_table(path).combine_chunks()
        labels = np.array(table[LABELS].combine_chunks().flatten()).reshape(len(table), -1)
        return cls(**tokens_in(table), labels=labels, pad=pad, rule=table[THRESHOLDS][0].as_py())

    def batch(self, rows: np.ndarray, device: torch.device, epoch: int = 0) -> Batch:
        """These rows with their labels, rows × classes."""
        values: dict[str, Any] = self._padded(rows, device)
        return Batch(**values | {"labels": values["labels"].view(len(rows), -1).float()})

    def _take(self, picked: np.ndarray, name: str) -> LabelSetRows:
        taken = super()._take(picked, name)
        own = {key: getattr(taken, key) for key in ("ids", "types", "offsets", "labels", "sets")}
        return replace(self, **own)


class Decided(NamedTuple):
    """What a model says of the rows of a table."""

    logits: Float[Tensor, "rows classes"]
    thresholds: Float[np.ndarray, " classes"]
    """Thresholds that the model carries, or that were chosen on the held-out rows of the table."""

    @property
    def probabilities(self) -> Float[np.ndarray, "rows classes"]:
        """The probability of every class."""
        return self.logits.sigmoid().numpy()


class Multilabel(TaskKind[LabelSetRows, Decided]):
    """Labels are a 0 or 1 a class; a model has one output a class."""

    rules = multilabel.RULES

    def read(self, name: str, task: Task) -> LabelledTables:
        """The checked tables; every class must have a training row."""
        tables = super().read(name, task)
        labels = np.array(tables.train[LABELS].to_pylist())
        absent = [label for label, count in zip(tables.classes or (), labels.sum(axis=0), strict=True) if not count]
        if absent:
            raise UserError(f"task {name}: no training row has the class {some(absent)}; every class needs training rows")
        return tables

    def named_classes(self, task: Task, train: SourceTable) -> tuple[str, ...] | None:
        """The classes that are configured, declared by the file, or found in the rows."""
        return label_classes(train, task)

    def label_columns(
        self, source: SourceTable, task: Task, texts: Mapping[str, Column], classes: tuple[str, ...] | None
    ) -> dict[str, Column]:
        """The columns `labels` and `thresholds`."""
        labels = label_matrix(source, task, classes or ())
        return {LABELS: labels, THRESHOLDS: pa.array([str(task.thresholds)] * len(labels), pa.string())}

    def open_rows(self, path: Path, pad: int, seed: int) -> LabelSetRows:
        """Rows in memory."""
        return LabelSetRows.read(path, pad)

    def task_loss(self, logits: Float[Tensor, "rows classes"], labels: Float[Tensor, "rows classes"]) -> Float[Tensor, ""]:
        """Binary cross-entropy, a mean over rows and classes."""
        return label_set_loss(logits, labels)

    def soft_label_loss(
        self, student: Float[Tensor, "rows classes"], teacher: Float[Tensor, "rows classes"], temperature: float
    ) -> Float[Tensor, ""]:
        """tau^2 times the binary cross-entropy against the teacher's softened yes or no, a mean over rows and classes.

        The factor keeps gradients as large as those of the task loss, as with distributions over classes.
        """
        return temperature**2 * soft_label_set_loss(student, teacher, temperature=temperature)

    def soft_target_loss(
        self,
        student: Float[Tensor, "rows classes"],
        teacher: Float[Tensor, "rows classes"],
        *,
        temperature: float,
        reduction: Literal["mean", "batchmean"],
    ) -> Float[Tensor, ""]:
        """Binary cross-entropy against the teacher's softened yes or no, without the factor."""
        return soft_label_set_loss(student, teacher, temperature=temperature, reduction=reduction)

    def as_served(self, rows: LabelSetRows, served: Mapping[str, Any]) -> LabelSetRows:
        """With the thresholds that an exported model carries, if it does."""
        return replace(rows, thresholds=tuple(served[THRESHOLDS])) if THRESHOLDS in served else rows

    def measure(self, model: nn.Module, rows: LabelSetRows, accelerator: Accelerator, teacher: Teach | None = None) -> Decided:
        """Logits of every row, and the thresholds that they are compared with."""
        logits = all_logits(model, rows, accelerator)
        if rows.thresholds is not None:
            return Decided(logits, np.array(rows.thresholds))

        held_out = rows.sets == SELECTION
        probabilities = logits.sigmoid().numpy()[held_out]
        return Decided(logits, chosen_thresholds(probabilities, rows.labels[held_out], rows.rule))

    def decide(self, model: nn.Module, rows: LabelSetRows, accelerator: Accelerator) -> dict[str, Any]:
        """The thresholds that are the best ones on the held-out rows; none are needed where the rule is a half."""
        if rows.rule == "half":
            return {THRESHOLDS: [HALF] * rows.labels.shape[1]}
        held_out: Any = rows.of_set(SELECTION)
        return self.decisions(self.measure(model, held_out, accelerator))

    def decisions(self, measured: Decided) -> dict[str, Any]:
        """The thresholds."""
        return {THRESHOLDS: measured.thresholds.tolist()}

    def scores(self, measured: Decided, rows: LabelSetRows, metrics: Sequence[str]) -> Scores:
        """Loss and metrics on each evaluation set."""
        sets = as_sets(measured.probabilities, measured.thresholds)
        result: Scores = {}
        for name in set_names(rows):
            chosen = rows.sets == name
            loss = self.task_loss(measured.logits[torch.from_numpy(chosen)], torch.from_numpy(rows.labels[chosen]).float())
            values = {metric: label_set_score(metric, rows.labels[chosen], sets[chosen]) for metric in metrics}
            result[name] = {"rows": int(chosen.sum()), "loss": float(loss), **values}
        return result

    def predictions(self, measured: Decided, rows: LabelSetRows) -> pd.DataFrame:
        """A line a row: its labels and the predicted ones as the classes' numbers with blanks between them, and the logits."""
        predicted = as_sets(measured.probabilities, measured.thresholds)
        table = pd.DataFrame({"set": rows.sets, "label": _numbers(rows.labels), "prediction": _numbers(predicted)})
        return table.assign(logits=measured.logits.tolist())

    def unknown_labels(self, count: int) -> dict[str, list[Any]]:
        """No labels."""
        return {LABELS: [[0]] * count, THRESHOLDS: ["half"] * count}

    def answers(self, measured: Decided, rows: LabelSetRows, classes: Sequence[str]) -> pd.DataFrame:
        """For every class 1 where it is predicted, else 0, and its probability."""
        probabilities = measured.probabilities
        predicted = as_sets(probabilities, measured.thresholds).astype(int)
        labels = {f"label_{name}": predicted[:, index] for index, name in enumerate(classes)}
        return pd.DataFrame(labels | {f"probability_{name}": probabilities[:, index] for index, name in enumerate(classes)})


def _numbers(sets: np.ndarray) -> list[str]:
    return [" ".join(map(str, np.flatnonzero(row))) for row in sets]
