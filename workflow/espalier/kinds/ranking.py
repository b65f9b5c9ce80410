"""Ranking: a score for how well a text answers a query; texts of one query are put in its order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from espalier.config.blocks import shortened
from espalier.config.data import Task
from espalier.config.kinds import ranking
from espalier.data.batches import Batch, TokenisedRows, on_device, tokens_in
from espalier.data.files import half_a_character, python_values
from espalier.data.labelled import Column, LabelledTables, SourceTable, column_of, finite_numbers, refuse_first
from espalier.data.samples import QUERY
from espalier.evaluation.metrics import score
from espalier.evaluation.predict import Scores, all_logits, set_names
from espalier.evaluation.ranking import groups_for, groups_of, ranking_score
from espalier.kinds.base import TaskKind, Teach
from espalier.losses.outputs import pair_losses, pairwise_loss, pointwise_loss
from espalier.losses.terms import value_difference
from espalier.runtime.errors import UserError

GRADE, RELEVANCE, LOSS = "label", "relevance", "loss"
"""Columns of a table: grade, grade divided by the largest one of the training rows, and the loss, the same in every row."""


@dataclass(frozen=True)
class RankedRows(TokenisedRows):
    """A tokenised table in memory; labels are grades, and every row has a query."""

    relevance: np.ndarray
    """Grades divided by the largest one."""
    queries: np.ndarray
    """Number of each row's query, in its evaluation set."""
    pairwise: bool

    @classmethod
    def read(cls, path: Path, pad: int) -> RankedRows:
        """Read a parquet file that the tokenise stage wrote; `pad` is the tokenizer's padding id."""
        table = pq.read_table(path).combine_chunks()
        grades, relevance = (table[name].to_numpy().copy() for name in (GRADE, RELEVANCE))
        tokens = tokens_in(table)

        # the same query in two evaluation sets is two queries
        names = np.asarray(table[QUERY].to_pylist(), dtype=object)
        sets = np.full(len(names), "") if tokens["sets"] is None else tokens["sets"]
        _, queries = np.unique([f"{part}/{name}" for part, name in zip(sets, names, strict=True)], return_inverse=True)

        pairwise = table[LOSS][0].as_py() == "pairwise"
        return cls(**tokens, labels=grades, pad=pad, relevance=relevance, queries=queries, pairwise=pairwise)

    def with_unlabelled(self, path: Path, share: float) -> RankedRows:
        """These rows, and after them texts that have no grade; what stands in the place of one is never read."""
        whole: Any = super().with_unlabelled(path, share)
        relevance = np.concatenate([self.relevance, np.zeros(whole.unlabelled, self.relevance.dtype)])
        queries = np.concatenate([self.queries, np.full(whole.unlabelled, -1, self.queries.dtype)])
        return replace(whole, relevance=relevance, queries=queries)

    def batch(self, rows: np.ndarray, device: torch.device, epoch: int = 0) -> Batch:
        """These rows. Labels are relevances; for the pairwise loss two a row, the grade and the number of the query."""
        values: dict[str, Any] = self._padded(rows, device)
        labels = self.relevance[rows]
        if self.pairwise:
            # counted within the batch: single precision knows no large numbers
            _, queries = np.unique(self.queries[rows], return_inverse=True)
            labels = np.stack([self.labels[rows], queries], axis=1)
        return Batch(**values | {"labels": on_device(labels.astype(np.float32), device)})

    def batches_of_epoch(self, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
        """For the pairwise loss, batches in which the rows of a query stand together; only those at an end may be torn."""
        if not self.pairwise:
            return super().batches_of_epoch(batch_size, seed, epoch)

        generator = np.random.default_rng([seed, epoch])
        mixed = generator.permutation(len(self))
        groups = groups_of(self.queries[mixed])
        order = np.concatenate([mixed[group] for group in groups])
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        return [batches[index] for index in generator.permutation(len(batches))]


class Ranking(TaskKind[RankedRows, Tensor]):
    """Labels are grades; a model has one output, which only orders the texts of a query."""

    rules = ranking.RULES
    real_valued = True

    def read(self, name: str, task: Task) -> LabelledTables:
        """The checked tables, with the column `relevance`.

        Raises:
            UserError: no training text has a grade above 0, or the pairwise loss finds no pairs.
        """
        tables = super().read(name, task)
        highest = pc.max(tables.train[GRADE]).as_py()
        if not highest:
            raise UserError(f"task {name}: every training row has the grade 0; texts that answer their query need one above 0")
        if task.loss == "pairwise" and not _has_pairs(tables.train):
            raise UserError(
                f"task {name}: loss pairwise compares texts of one query, and no query of the training rows has texts of two "
                "grades; check the column that tells queries apart, or write loss: pointwise"
            )

        for split, table in {"train": tables.train, **tables.evaluation}.items():
            _tell(name, split, table)
        for split, table in tables.evaluation.items():
            _refuse_unordered(name, task, split, table)
        evaluation = {split: _with_relevance(table, highest) for split, table in tables.evaluation.items()}
        return LabelledTables(_with_relevance(tables.train, highest), evaluation, None, tables.sources)

    def label_columns(
        self, source: SourceTable, task: Task, texts: Mapping[str, Column], classes: tuple[str, ...] | None
    ) -> dict[str, Column]:
        """The columns `label`, `query` and `loss`."""
        grades = finite_numbers(source, task)
        negative = pc.less(grades, 0.0)
        hint = "a grade is 0 or more; -1 may mark rows that nobody graded: use a labelled split"
        refuse_first(source, str(task.label), negative, lambda row: f"got the grade {grades[row].as_py():g}; {hint}")
        queries = _queries(source, task.query or task.text[0])
        return {GRADE: grades, QUERY: queries, LOSS: pa.array([str(task.loss)] * len(grades), pa.string())}

    def open_rows(self, path: Path, pad: int, seed: int) -> RankedRows:
        """Rows in memory."""
        return RankedRows.read(path, pad)

    def task_loss(self, logits: Float[Tensor, "rows 1"], labels: Float[Tensor, "rows ..."]) -> Float[Tensor, ""]:
        """Pointwise: labels are one relevance a row. Pairwise: grade and query of each."""
        return pointwise_loss(logits, labels) if labels.dim() == 1 else pairwise_loss(logits, labels)

    def soft_label_loss(
        self, student: Float[Tensor, "rows 1"], teacher: Float[Tensor, "rows 1"], temperature: float
    ) -> Float[Tensor, ""]:
        """Mean squared difference of the scores, whatever the temperature."""
        return value_difference(student, teacher)

    def measure(
        self, model: nn.Module, rows: RankedRows, accelerator: Accelerator, teacher: Teach | None = None
    ) -> Float[Tensor, "rows 1"]:
        """The score of every row."""
        return all_logits(model, rows, accelerator)

    def scores(self, measured: Float[Tensor, "rows 1"], rows: RankedRows, metrics: Sequence[str]) -> Scores:
        """Loss, and means over the queries of each evaluation set."""
        result: Scores = {}
        for name in set_names(rows):
            places = np.flatnonzero(rows.sets == name)
            values, grades = measured.squeeze(-1).numpy()[places], rows.labels[places]
            groups = groups_of(rows.queries[places])

            queries = rows.queries[places]
            own = {metric: ranking_score(metric, values, grades, groups_for(metric, queries)) for metric in metrics}
            loss = self._loss(measured[torch.from_numpy(places)], rows, places, groups)
            result[name] = {"rows": len(places), "loss": loss, **own}
        return result

    def _loss(
        self, logits: Float[Tensor, "rows 1"], rows: RankedRows, places: np.ndarray, groups: Sequence[np.ndarray]
    ) -> float:
        """The task loss of an evaluation set; pairs are counted query by query, because a table of all rows would be large."""
        if not rows.pairwise:
            return float(pointwise_loss(logits, torch.from_numpy(rows.relevance[places]).float()))

        grades, sums = torch.from_numpy(rows.labels[places]).float(), []
        for group in map(torch.from_numpy, groups):
            sums.append(pair_losses(logits[group, 0], grades[group], torch.zeros(len(group))))
        total, pairs = (sum(float(value) for value in values) for values in zip(*sums, strict=True))
        return total / max(1.0, pairs)

    def predictions(self, measured: Float[Tensor, "rows 1"], rows: RankedRows) -> pd.DataFrame:
        """A line a row: number of its query, grade, score, and its place among the texts of the query, from 1."""
        values = measured.squeeze(-1).numpy()
        place = np.empty(len(rows), dtype=np.int64)
        for group in groups_of(rows.queries):
            place[group[np.lexsort((rows.labels[group], -values[group]))]] = np.arange(1, len(group) + 1)
        columns = {"set": rows.sets, "query": rows.queries, "label": rows.labels, "prediction": values, "place": place}
        return pd.DataFrame(columns)

    def agreement(self, predictions: pd.DataFrame, reference: pd.DataFrame) -> float:
        """Spearman's correlation of the scores of all rows: only their order counts."""
        return score("spearman", reference["prediction"].to_numpy(), predictions["prediction"].to_numpy())

    def unknown_labels(self, count: int) -> dict[str, list[Any]]:
        """No grades, and one query."""
        return {GRADE: [0.0] * count, RELEVANCE: [0.0] * count, QUERY: [""] * count, LOSS: ["pointwise"] * count}

    def answers(self, measured: Float[Tensor, "rows 1"], rows: RankedRows, classes: Sequence[str]) -> pd.DataFrame:
        """The score: of two texts for one query, the one with the higher score answers it better."""
        return pd.DataFrame({"score": measured.squeeze(-1).numpy()})


def _queries(source: SourceTable, name: str) -> pa.Array:
    """What tells the queries of the rows apart: texts or whole numbers.

    Raises:
        UserError: one is missing or something else.
    """
    values = python_values(source.place, name, column_of(source, name))
    bad = [type(value) not in (str, int) or half_a_character(value) or not str(value).strip() for value in values]
    needed = "a text or a whole number that tells queries apart is needed"
    refuse_first(source, name, pa.array(bad, pa.bool_()), lambda row: f"got {shortened(values[row])}; {needed}")
    return pa.array(map(str, values), pa.string())


def _with_relevance(table: pa.Table, highest: float) -> pa.Table:
    """With grades in [0, 1]; an evaluation set may hold a higher grade than the training rows, which counts as the highest."""
    return table.append_column(RELEVANCE, pc.min_element_wise(pc.divide(table[GRADE], highest), 1.0))


def _refuse_unordered(name: str, task: Task, split: str, table: pa.Table) -> None:
    """Refuse evaluation rows that a metric of the task would find no order in."""
    queries = np.asarray(table[QUERY].to_pylist(), dtype=object)
    for metric in task.metrics:
        if not groups_for(metric, queries):
            raise UserError(
                f"task {name}: metric {metric} compares neighbouring rows of one query, and {split} has none; sort the rows by "
                "query, or use ndcg"
            )


def _has_pairs(table: pa.Table) -> bool:
    grades = table[GRADE].to_numpy()
    return any(np.ptp(grades[group]) > 0 for group in groups_of(np.asarray(table[QUERY].to_pylist(), dtype=object)))


def _tell(name: str, split: str, table: pa.Table) -> None:
    """Say how many queries a table has, and how many of them cannot be answered."""
    grades, queries = table[GRADE].to_numpy(), np.asarray(table[QUERY].to_pylist(), dtype=object)
    groups = groups_of(queries)
    hopeless = sum(not (grades[group] > 0).any() for group in groups)
    note = f", {hopeless:,} of them without a text of a grade above 0, which count as 0" if hopeless else ""
    print(f"{name}: {split} {len(groups):,} queries{note}")
