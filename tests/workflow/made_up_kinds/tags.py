"""Tags: a named class for each word of a text; the label column has as many tags as the text has words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from espalier.config.data import Task
from espalier.config.job_specs import TokeniseSpec
from espalier.config.kinds import tags
from espalier.data.batches import IGNORED, Batch, TokenisedRows, tokens_in
from espalier.data.labelled import Column, SourceTable, column_of, refuse_first
from espalier.evaluation.predict import Scores, all_logits, set_names
from espalier.kinds.base import TaskKind, Teach
from espalier.losses.terms import class_loss
from espalier.runtime.files import atomic


@dataclass(frozen=True)
class TagBatch(Batch):
    """Padded rows; labels have the shape of the rows, a class where a word begins and `IGNORED` elsewhere."""

    def logits_of(self, output: Any) -> Float[Tensor, "words classes"]:
        """One line a word."""
        return output.logits[self.labels != IGNORED]

    def lines(self, sizes: Sequence[int]) -> list[int]:
        """As many lines as the rows have words."""
        words = (self.labels != IGNORED).sum(dim=1).cpu()
        return [int(part.sum()) for part in words.split(list(sizes))]

    def to_store(self, logits: Float[Tensor, "words classes"], longest: int) -> Float[Tensor, "batch longest classes"]:
        """One entry a row, with room for every token."""
        stored = logits.new_zeros(len(self), longest, logits.shape[1])
        stored[:, : self.labels.shape[1]][self.labels != IGNORED] = logits
        return stored

    def from_store(self, stored: Float[Tensor, "batch longest classes"]) -> Float[Tensor, "words classes"]:
        """Undo `to_store`; the labels tell where words begin."""
        return stored[:, : self.labels.shape[1]][self.labels != IGNORED]


@dataclass(frozen=True)
class TagRows(TokenisedRows):
    """A tokenised table in memory, whose labels are one flat array beside the ids."""

    def batch(self, rows: np.ndarray, device: torch.device, epoch: int = 0) -> TagBatch:
        """These rows, with a label for every token."""
        values = self._padded(rows, device)
        labels = np.full(values["input_ids"].shape, IGNORED, dtype=np.int64)
        labels[np.arange(labels.shape[1]) < self.lengths[rows][:, None]] = self.labels[self._places(rows)]
        return TagBatch(**values | {"labels": torch.from_numpy(labels).to(device)})


class Answered(NamedTuple):
    """Predicted and true class of each word of an evaluation table, and which row it stands in."""

    logits: Float[Tensor, "words classes"]
    labels: Int[np.ndarray, " words"]
    rows: Int[np.ndarray, " words"]


class Tags(TaskKind[TagRows, Answered]):
    """A model has an output a class for every token."""

    rules = tags.RULES

    def label_columns(
        self, source: SourceTable, task: Task, texts: Mapping[str, Column], classes: tuple[str, ...] | None
    ) -> dict[str, Column]:
        """The column `tags`: the class of every word, as an index."""
        rows = [tags.split() for tags in column_of(source, task.label).to_pylist()]
        words = [len(text.split()) for text in texts["text_a"].to_pylist()]
        bad = pa.array([len(row) != count or not set(row) <= set(classes) for row, count in zip(rows, words, strict=True)])
        refuse_first(source, task.label, bad, lambda row: f"got {rows[row]} for {words[row]} words")
        return {"tags": pa.array([[classes.index(tag) for tag in row] for row in rows], pa.list_(pa.int64()))}

    def named_classes(self, task: Task, train: SourceTable) -> tuple[str, ...] | None:
        """Those that the task names."""
        return task.classes

    def tokenise(self, encoder: PreTrainedTokenizerBase, settings: TokeniseSpec, rows: Path, tokens: Path) -> None:
        """Ids of the words, and a label for the first token of each."""
        table = pq.read_table(rows)
        texts = [text.split() for text in table["text_a"].to_pylist()]
        encoded = encoder(texts, is_split_into_words=True, truncation=True, max_length=settings.max_length)

        labels = []
        for row, tags_of_row in enumerate(table["tags"].to_pylist()):
            words = encoded.word_ids(row)
            first = [word is not None and word not in words[:place] for place, word in enumerate(words)]
            labels.append([tags_of_row[word] if here else IGNORED for word, here in zip(words, first, strict=True)])

        columns = {"input_ids": pa.array(encoded["input_ids"], pa.list_(pa.int32())), "tags": pa.array(labels)}
        columns |= {name: table[name] for name in ("set",) if name in table.column_names}
        with atomic(tokens) as temporary:
            pq.write_table(pa.table(columns), temporary)

    def open_rows(self, path: Path, pad: int, seed: int) -> TagRows:
        """Rows in memory."""
        table = pq.read_table(path).combine_chunks()
        return TagRows(**tokens_in(table), labels=table["tags"].combine_chunks().flatten().to_numpy(), pad=pad)

    def task_loss(self, logits: Float[Tensor, "words classes"], labels: Int[Tensor, "batch length"]) -> Float[Tensor, ""]:
        """Cross-entropy, a mean over words."""
        return class_loss(logits, labels[labels != IGNORED])

    def measure(self, model: nn.Module, rows: TagRows, accelerator: Accelerator, teacher: Teach | None = None) -> Answered:
        """Logits of every word."""
        stored = all_logits(model, rows, accelerator)
        batch = rows.batch(np.arange(len(rows)), torch.device("cpu"))
        owner = np.repeat(np.arange(len(rows)), batch.lines([1] * len(rows)))
        return Answered(batch.from_store(stored), batch.labels[batch.labels != IGNORED].numpy(), owner)

    def scores(self, measured: Answered, rows: TagRows, metrics: Sequence[str]) -> Scores:
        """Loss and accuracy of words."""
        result: Scores = {}
        for name in set_names(rows):
            chosen = rows.sets[measured.rows] == name
            loss = class_loss(measured.logits[torch.from_numpy(chosen)], torch.from_numpy(measured.labels[chosen]))
            right = measured.logits.argmax(dim=1).numpy()[chosen] == measured.labels[chosen]
            result[name] = {"rows": int((rows.sets == name).sum()), "loss": float(loss), "tag-accuracy": float(right.mean())}
        return result

    def predictions(self, measured: Answered, rows: TagRows) -> pd.DataFrame:
        """A line a word."""
        predicted = measured.logits.argmax(dim=1).numpy()
        sets = rows.sets[measured.rows]
        return pd.DataFrame({"set": sets, "row": measured.rows, "label": measured.labels, "prediction": predicted})
