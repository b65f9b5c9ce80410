"""Embedding: a vector for each text, learned from the base's own vectors (data/vector_rows.py).

All vectors have length 1, so both usual losses are one: |s - t|^2 = 2 (1 - cos(s, t)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from espalier.config.data import Task
from espalier.config.job_specs import PrepareSpec
from espalier.config.kinds import embedding
from espalier.config.kinds.embedding import PAIR_METRICS, RECALLS
from espalier.data import samples
from espalier.data.labelled import Column, SourceTable
from espalier.data.vector_rows import (
    VectorRows,
    evaluation_table,
    examples_in,
    seen_in_training,
    sources_of,
    training_texts,
)
from espalier.evaluation.metrics import score
from espalier.evaluation.predict import Scores, all_logits, set_names
from espalier.evaluation.retrieval import ranks_of_right, recall_at
from espalier.kinds.base import TaskKind, Teach
from espalier.losses.terms import vector_difference
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic


class Vectors(TaskKind[VectorRows, Tensor]):
    """Rows are texts without labels; a model gives a vector each."""

    rules = embedding.RULES

    def prepare(self, settings: PrepareSpec, train: Path, evaluation: Path) -> dict[str, object]:
        """Write the training texts, each once, and the texts of all evaluation sets; returns the content of task.json."""
        task = settings.task
        splits, sources = sources_of(task)
        training = _sampled(settings, training_texts(splits["train"], task.text))
        sets = {name: evaluation_table(splits[name], task, name) for name in task.evaluation_sets}

        for path, table in ((train, training), (evaluation, pa.concat_tables(list(sets.values())))):
            with atomic(path) as temporary:
                pq.write_table(table.combine_chunks(), temporary, compression="zstd")

        known = set(training["text_a"].to_pylist())
        rows = {"train": training.num_rows, **{name: examples_in(table) for name, table in sets.items()}}
        print(f"{settings.name}: " + ", ".join(f"{name} {count:,} rows" for name, count in rows.items()))
        return {
            "name": settings.name,
            "kind": task.kind,
            "classes": None,
            "sets": list(sets),
            "rows": rows,
            "class_counts": None,
            "majority": None,
            "sources": sources,
            "leaked": {name: seen_in_training(table, known) for name, table in sets.items()},
        }

    def label_columns(
        self, source: SourceTable, task: Task, texts: Mapping[str, Column], classes: tuple[str, ...] | None
    ) -> dict[str, Column]:
        """Training texts have no labels."""
        return {}

    def open_rows(self, path: Path, pad: int, seed: int) -> VectorRows:
        """Texts in memory."""
        return VectorRows.read(path, pad)

    def task_loss(self, logits: Float[Tensor, "batch hidden"], labels: Tensor) -> Float[Tensor, ""]:
        """0: there is no label to compare with."""
        return logits.sum() * 0.0

    def soft_label_loss(
        self, student: Float[Tensor, "batch hidden"], teacher: Float[Tensor, "batch hidden"], temperature: float
    ) -> Float[Tensor, ""]:
        """1 - cos, a mean over rows; there is no distribution that a temperature could soften."""
        return vector_difference(student, teacher)

    def measure(
        self, model: nn.Module, rows: VectorRows, accelerator: Accelerator, teacher: Teach | None = None
    ) -> Float[Tensor, "rows hidden"]:
        """The vector of every text."""
        return all_logits(model, rows, accelerator)

    def scores(self, measured: Float[Tensor, "rows hidden"], rows: VectorRows, metrics: Sequence[str]) -> Scores:
        """The metrics that fit each evaluation set: correlations of cosines with scores, or recalls."""
        result: Scores = {}
        for name in set_names(rows):
            first, _ = rows.sides_of(name)
            if rows.is_retrieval(name):
                ranks = _ranks(measured, rows, name)
                values = {metric: recall_at(RECALLS[metric], ranks) for metric in metrics if metric in RECALLS}
            else:
                cosines = _cosines(measured, rows, name)
                values = {metric: score(metric, rows.scores[first], cosines) for metric in metrics if metric in PAIR_METRICS}
            result[name] = {"rows": len(first), **values}
        return result

    def predictions(self, measured: Float[Tensor, "rows hidden"], rows: VectorRows) -> pd.DataFrame:
        """A line a pair with its cosine and its score, and a line a query with the place of its first right text, from 1."""
        tables = []
        for name in set_names(rows):
            first, _ = rows.sides_of(name)
            if rows.is_retrieval(name):
                predicted = np.array([ranks.min() + 1.0 for ranks in _ranks(measured, rows, name)])
            else:
                predicted = _cosines(measured, rows, name)
            columns = {"set": rows.sets[first], "score": rows.scores[first], "prediction": predicted.astype(np.float64)}
            tables.append(pd.DataFrame(columns))
        return pd.concat(tables, ignore_index=True)

    def agreement(self, predictions: pd.DataFrame, reference: pd.DataFrame) -> float:
        """Pearson's correlation of the pairs' cosines, and the part of queries with equal places; weighted by their numbers."""
        pairs = reference["score"].notna().to_numpy()
        own, other = predictions["prediction"].to_numpy(), reference["prediction"].to_numpy()
        alike = float((own[~pairs] == other[~pairs]).sum())
        return (alike + (score("pearson", other[pairs], own[pairs]) * pairs.sum() if pairs.any() else 0.0)) / len(pairs)

    def unknown_labels(self, count: int) -> dict[str, list[Any]]:
        """Texts that belong to no pair and no query."""
        return {"side": [0] * count, "examples": [[]] * count, "score": [0.0] * count}

    def answers(self, measured: Float[Tensor, "rows hidden"], rows: VectorRows, classes: Sequence[str]) -> pd.DataFrame:
        """The vector of each text."""
        return pd.DataFrame({"vector": measured.tolist()})


def _sampled(settings: PrepareSpec, training: pa.Table) -> pa.Table:
    """As many of the training texts as the task says.

    Raises:
        UserError: there are fewer.
    """
    wanted, available = settings.task.rows, training.num_rows
    if wanted is None:
        return training
    if wanted > available:
        raise UserError(f"task {settings.name}: rows: got {wanted:,}; there are {available:,} different training texts")
    return samples.split(training, None, wanted)[0]


def _cosines(vectors: Float[Tensor, "rows hidden"], rows: VectorRows, name: str) -> Float[np.ndarray, " pairs"]:
    """The cosine of each pair of a set: a product, because vectors have length 1."""
    first, second = rows.sides_of(name)
    return (vectors[first] * vectors[second]).sum(dim=-1).numpy()


def _ranks(vectors: Float[Tensor, "rows hidden"], rows: VectorRows, name: str) -> list[np.ndarray]:
    """The places of the right texts of each query of a set."""
    first, second = rows.sides_of(name)
    right: list[list[int]] = [[] for _ in first]
    for place, row in enumerate(second):
        for query in rows.examples[row]:
            right[query].append(place)
    return ranks_of_right(vectors[first].numpy(), vectors[second].numpy(), right)
