"""Tokens: sentences whose words have a tag each: named entities, parts of speech (data/tagged/)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from espalier.config.data import Task
from espalier.config.job_specs import PrepareSpec, TokeniseSpec
from espalier.config.kinds import tokens as rules_of_tokens
from espalier.config.kinds.sides import Side
from espalier.data.batches import IGNORED
from espalier.data.files import read_file
from espalier.data.labelled import Column, LabelledTables, SourceTable
from espalier.data.tagged.conll import read_conll
from espalier.data.tagged.rows import TokenRows
from espalier.data.tagged.sentences import classes_of, sentence_columns, tag_indices, words_of
from espalier.data.tagged.windows import class_metadata, write_cut_sentences
from espalier.evaluation.entities import entity_f1
from espalier.evaluation.predict import Scores, all_logits, set_names
from espalier.kinds.base import TaskKind, Teach
from espalier.losses.terms import class_loss


class TaggedWords(NamedTuple):
    """A model's outputs for every word of an evaluation table, in the table's order."""

    logits: Float[Tensor, "words classes"]
    labels: Int[np.ndarray, " words"]


Sentence = tuple[list[str], list[str]]
"""Its tags, and those that are predicted."""
WORD_METRICS: dict[str, Callable[[list[Sentence]], float]] = {
    "accuracy": lambda pairs: float(np.mean([one == other for pair in pairs for one, other in zip(*pair, strict=True)])),
    "entity-f1": lambda pairs: entity_f1(*zip(*pairs, strict=True)),
    "entity-f1-strict": lambda pairs: entity_f1(*zip(*pairs, strict=True), strict=True),
}
"""Name of a metric in the configuration → its function of sentences."""


class Tokens(TaskKind[TokenRows, TaggedWords]):
    """A model has an output a class for every token; those at the first token of each word count."""

    rules = rules_of_tokens.RULES

    # From the user's files to rows of token ids.

    def prepare(self, settings: PrepareSpec, train: Path, evaluation: Path) -> dict[str, object]:
        """Besides: the share of words with the tag that is the most frequent one in training."""
        card = super().prepare(settings, train, evaluation)
        return card | {"majority": majority_shares(train, evaluation)}

    def read(self, name: str, task: Task) -> LabelledTables:
        """The checked tables; their schemas hold the names of the tags."""
        tables = super().read(name, task)
        names = class_metadata(tables.classes or ())
        evaluation = {key: table.slice(0, task.evaluation_rows) for key, table in tables.evaluation.items()}
        return replace(
            tables,
            train=tables.train.replace_schema_metadata(names),
            evaluation={key: table.replace_schema_metadata(names) for key, table in evaluation.items()},
        )

    def read_file(self, path: Path, columns: Sequence[str]) -> pa.Table:
        """Lists in parquet and jsonl, or a word a line."""
        lists = path.suffix in (".parquet", ".jsonl")
        return read_file(path, columns) if lists else read_conll(path, columns)

    def text_columns(self, source: SourceTable, sides: Sequence[Side]) -> dict[str, Column]:
        """The sentences as texts and as lists of words, with their numbers."""
        return sentence_columns(words_of(source, sides[0].columns[0]))

    def named_classes(self, task: Task, train: SourceTable) -> tuple[str, ...] | None:
        """The tags."""
        return classes_of(train, task)

    def label_columns(
        self, source: SourceTable, task: Task, texts: Mapping[str, Column], classes: tuple[str, ...] | None
    ) -> dict[str, Column]:
        """The column `tags`: the class of every word, as an index."""
        return {"tags": tag_indices(source, task, texts["words"].to_pylist(), classes or ())}

    def tokenise(self, encoder: PreTrainedTokenizerBase, settings: TokeniseSpec, rows: Path, tokens: Path) -> None:
        """Write a row for each sentence, several where it is long, with a tag at the first token of each word."""
        sentences, written = write_cut_sentences(encoder, settings.max_length, rows, tokens)
        print(f"{tokens.name}: {sentences:,} sentences in {written:,} rows")

    def open_rows(self, path: Path, pad: int, seed: int) -> TokenRows:
        """Rows in memory."""
        return TokenRows.read(path, pad)

    # Losses.

    def task_loss(self, logits: Float[Tensor, "words classes"], labels: Int[Tensor, "batch length"]) -> Float[Tensor, ""]:
        """Cross-entropy, a mean over words."""
        return class_loss(logits, labels[labels != IGNORED])

    # Evaluation.

    def measure(self, model: nn.Module, rows: TokenRows, accelerator: Accelerator, teacher: Teach | None = None) -> TaggedWords:
        """Logits of every word."""
        owner, place, labels = rows.words
        stored = all_logits(model, rows, accelerator)
        return TaggedWords(stored[torch.from_numpy(owner), torch.from_numpy(place)], labels)

    def scores(self, measured: TaggedWords, rows: TokenRows, metrics: Sequence[str]) -> Scores:
        """The loss is a word's, entities are counted over whole sentences, and the number of rows is that of sentences."""
        words = self.predictions(measured, rows)
        result: Scores = {}
        for name in set_names(rows):
            chosen = np.flatnonzero((words["set"] == name).to_numpy())
            loss = class_loss(measured.logits[torch.from_numpy(chosen)], torch.from_numpy(measured.labels[chosen]))
            sentences = sentences_in(words.iloc[chosen])
            values = {metric: WORD_METRICS[metric](sentences) for metric in metrics}
            result[name] = {"rows": len(sentences), "loss": float(loss), **values}
        return result

    def predictions(self, measured: TaggedWords, rows: TokenRows) -> pd.DataFrame:
        """A line a word: its sentence (the data row of the user's file), its place in it, its tag and the predicted one."""
        names = np.asarray(rows.classes, dtype=object)
        tags = {"label": names[measured.labels], "prediction": names[measured.logits.argmax(dim=1).numpy()]}
        return words_in(rows).assign(**tags)

    # Answers to texts whose labels nobody knows.

    def new_texts(self, source: SourceTable, sides: Sequence[Side]) -> dict[str, Column]:
        """Lists of words, or texts whose words stand between blanks."""
        return sentence_columns(words_of(source, sides[0].columns[0], split=True))

    def unknown_labels(self, count: int) -> dict[str, list[Any]]:
        """None: words without tags are read, too."""
        return {}

    def answers(self, measured: TaggedWords, rows: TokenRows, classes: Sequence[str]) -> pd.DataFrame:
        """A line a word: the likeliest tag, and its probability."""
        best, index = measured.logits.softmax(dim=1).max(dim=1)
        tags = {"label": [classes[place] for place in index.tolist()], "probability": best.numpy()}
        return words_in(rows).drop(columns="set").assign(**tags)


def words_in(rows: TokenRows) -> pd.DataFrame:
    """The words of an evaluation table: set, sentence, place in the sentence from 1, and the word."""
    assert rows.sentences is not None, "training rows have no words"
    numbers, first, words = rows.sentences
    counts = [len(own) for own in words]
    columns = {
        "set": np.repeat(rows.sets, counts),
        "sentence": np.repeat(numbers, counts),
        "place": np.concatenate([start + np.arange(count) for start, count in zip(first, counts, strict=True)]),
    }
    return pd.DataFrame(columns | {"word": [word for own in words for word in own]})


def sentences_in(words: pd.DataFrame) -> list[Sentence]:
    """Tags and predictions of each sentence, in the table's order: one begins with every first word."""
    places, labels, predictions = (words[name].tolist() for name in ("place", "label", "prediction"))
    begins = [index for index, place in enumerate(places) if place == 1]
    ends = [*begins[1:], len(places)]
    return [(labels[begin:end], predictions[begin:end]) for begin, end in zip(begins, ends, strict=True)]


def majority_shares(train: Path, evaluation: Path) -> dict[str, float]:
    """Evaluation set → accuracy of always answering the tag that is the most frequent one in the prepared training rows."""
    training, table = (pd.read_parquet(path) for path in (train, evaluation))
    tags = np.concatenate(training["tags"].tolist())
    most = int(np.bincount(tags).argmax())
    own = table["tags"].map(lambda row: int((row == most).sum())).groupby(table["set"], sort=False).sum()
    words = table["tags"].map(len).groupby(table["set"], sort=False).sum()
    return {str(name): float(own[name] / words[name]) for name in own.index}
