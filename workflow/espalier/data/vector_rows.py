"""Rows of embedding tasks: training texts, and evaluation sets of scored pairs or of queries with their right texts.

Every row is one text. In evaluation tables the column `set` names its set, `side` is 0 for first texts and queries and 1 for
second texts and what is searched, `examples` holds the numbers, within the set, of the pairs or queries that the text belongs
to, and `score` is a pair's, at its first text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from espalier.config.blocks import shortened
from espalier.config.data import Task
from espalier.config.kinds.embedding import RECALLS, metrics_of_set
from espalier.config.kinds.sides import sides_of
from espalier.data.batches import Batch, TokenisedRows, tokens_in
from espalier.data.files import files_of, half_a_character, python_values, read_file
from espalier.data.labelled import SourceTable, checked_texts, column_of, finite_numbers, read_hub, refuse_first
from espalier.runtime.errors import UserError

EVALUATION = pa.schema(
    [
        ("text_a", pa.string()),
        ("side", pa.int8()),
        ("examples", pa.list_(pa.int64())),
        ("score", pa.float64()),
        ("set", pa.string()),
    ]
)
"""Columns of an evaluation table."""


@dataclass(frozen=True)
class VectorBatch(Batch):
    """Padded texts, for each of which a model gives one vector."""

    def logits_of(self, output: Any) -> Float[Tensor, "batch hidden"]:
        """The mean of the last states over the real tokens, with length 1; no padding counts.

        Source: Reimers and Gurevych 2019, arXiv 1908.10084, section 3 (mean pooling).
        """
        real = self.attention_mask.unsqueeze(-1)
        states = output.last_hidden_state.float()
        return F.normalize((states * real).sum(dim=1) / real.sum(dim=1), dim=-1)


@dataclass(frozen=True)
class VectorRows(TokenisedRows):
    """A tokenised table of single texts; its labels are none."""

    side: Int[np.ndarray, " rows"] | None
    """0 for first texts and queries, 1 for the others; None for training rows."""
    examples: list[list[int]] | None
    """The pairs or queries that each text belongs to; None for training rows."""
    scores: Float[np.ndarray, " rows"] | None
    """The score of a pair at its first text, elsewhere not a number; None for training rows."""

    @classmethod
    def read(cls, path: Path, pad: int) -> VectorRows:
        """Read a parquet file that the tokenise stage wrote; `pad` is the tokenizer's padding id."""
        table = pq.read_table(path).combine_chunks()
        labels = np.zeros(table.num_rows)
        own: dict[str, Any] = {"side": None, "examples": None, "scores": None}
        if "set" in table.column_names:
            scores = np.array([np.nan if score is None else score for score in table["score"].to_pylist()], dtype=np.float64)
            own = {"side": table["side"].to_numpy(), "examples": table["examples"].to_pylist(), "scores": scores}
        return cls(**tokens_in(table), labels=labels, pad=pad, **own)

    def batch(self, rows: np.ndarray, device: torch.device, epoch: int = 0) -> VectorBatch:
        """These texts, padded to the longest of them or to `least`."""
        return VectorBatch(**self._padded(rows, device))

    def sides_of(self, name: str) -> tuple[Int[np.ndarray, " first"], Int[np.ndarray, " second"]]:
        """Numbers of the rows on both sides of an evaluation set, in the table's order."""
        chosen = self.sets == name
        return np.flatnonzero(chosen & (self.side == 0)), np.flatnonzero(chosen & (self.side == 1))

    def is_retrieval(self, name: str) -> bool:
        """Whether an evaluation set has queries and right texts; else it has scored pairs."""
        first, _ = self.sides_of(name)
        return bool(np.isnan(self.scores[first]).all())


def sources_of(task: Task) -> tuple[dict[str, SourceTable], list[dict[str, str]]]:
    """The tables of a task as the source has them, each with the columns that its form needs, and where they come from.

    Raises:
        UserError: a file, data set or split is missing, or a file lacks a column.
    """
    if task.source == "hub":
        return read_hub(task)
    paths, sources = files_of(task)
    columns = {split: (task.retrieval or {}).get(split, (*task.text, task.label)) for split in task.evaluation_sets}
    columns = {"train": task.text, **columns}
    return {split: SourceTable(str(path), read_file(path, columns[split])) for split, path in paths.items()}, sources


def training_texts(source: SourceTable, columns: tuple[str, ...]) -> pa.Table:
    """Every text of some columns, column by column, each text once.

    Raises:
        UserError: a column is missing, the table is empty, or a text is empty.
    """
    texts = (text for column in columns for text in checked_texts(source, sides_of((column,)))["text_a"].to_pylist())
    return pa.table({"text_a": pa.array(list(dict.fromkeys(texts)), pa.string())})


def evaluation_table(source: SourceTable, task: Task, name: str) -> pa.Table:
    """The texts of one evaluation set, checked.

    Raises:
        UserError: a column is missing, the table is empty, a text is empty, or nothing could be measured on the set.
    """
    retrieval = (task.retrieval or {}).get(name)
    rows = _pairs(source, task) if retrieval is None else _queries(source, task, name, retrieval)
    return pa.Table.from_pylist([{**row, "set": name} for row in rows], EVALUATION)


def examples_in(table: pa.Table) -> int:
    """Number of pairs or queries in an evaluation table."""
    return int((table["side"].to_numpy() == 0).sum())


def _pairs(source: SourceTable, task: Task) -> list[dict[str, Any]]:
    """Two rows for each scored pair."""
    texts = checked_texts(source, sides_of(task.text))
    scores = finite_numbers(source, task).to_pylist()
    if len(set(scores)) < 2:
        raise UserError(
            f"{source.place}, column '{task.label}': every score is {scores[0]:g}; a correlation needs at least two scores"
        )
    both = zip(texts["text_a"].to_pylist(), texts["text_b"].to_pylist(), scores, strict=True)
    return [
        {"text_a": text, "side": side, "examples": [pair], "score": None if side else score}
        for pair, (first, second, score) in enumerate(both)
        for side, text in enumerate((first, second))
    ]


def _queries(source: SourceTable, task: Task, name: str, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row for each query, and one for each text that is searched."""
    for column in columns:
        column_of(source, column)
    asked = checked_texts(source, sides_of(columns[:1]))["text_a"].to_pylist()

    # A query may stand in several rows, and so may a text that is right for several queries.
    queries = {query: number for number, query in enumerate(dict.fromkeys(asked))}
    right: dict[str, dict[int, None]] = {}
    for query, answers in zip(asked, _right_texts(source, columns[1]), strict=True):
        for text in answers:
            right.setdefault(text, {})[queries[query]] = None

    most = max(RECALLS[metric] for metric in metrics_of_set(task, name))
    if len(right) <= most:
        raise UserError(
            f"{source.place}, column '{columns[1]}': got {len(right)} different texts, and recall-at-{most} looks at {most}; "
            f"at least {most + 1} are needed"
        )
    rows = [{"text_a": query, "side": 0, "examples": [number], "score": None} for query, number in queries.items()]
    return rows + [{"text_a": text, "side": 1, "examples": list(numbers), "score": None} for text, numbers in right.items()]


def _right_texts(source: SourceTable, name: str) -> list[list[str]]:
    """The right texts of each row, from a column of texts or of lists of texts."""
    values = python_values(source.place, name, column_of(source, name))
    lists = [value if isinstance(value, list) else [value] for value in values]
    bad = [not texts or not all(_is_text(text) for text in texts) for texts in lists]
    refuse_first(
        source,
        name,
        pa.array(bad, pa.bool_()),
        lambda row: f"got {shortened(values[row])}; a text, or a list of texts, is needed, and none may be empty",
    )
    return lists


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not half_a_character(value)


def seen_in_training(table: pa.Table, training: Mapping[str, None] | set[str]) -> int:
    """Number of pairs or queries of an evaluation table whose texts are all training texts."""
    unseen = {example for row in table.to_pylist() if row["text_a"] not in training for example in row["examples"]}
    return examples_in(table) - len(unseen)
