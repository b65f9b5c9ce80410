"""Span: questions whose answers stand in a context, which is read in windows where it is long (data/span_windows.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from espalier.config.data import Task
from espalier.config.job_specs import TokeniseSpec
from espalier.config.kinds import span
from espalier.data.answers import check_answers
from espalier.data.labelled import Column, SourceTable, ids_of
from espalier.data.span_windows import Cutting, write_windows
from espalier.data.spans import SpanRows, answer_probabilities, answers_of, by_place
from espalier.evaluation.predict import Scores, all_logits, set_names
from espalier.evaluation.squad import SPAN_METRICS, best_score
from espalier.kinds.base import TaskKind, Teach
from espalier.losses.terms import class_loss


class Answered(NamedTuple):
    """A model's answers to the questions of an evaluation table."""

    logits: Float[Tensor, "windows both"]
    """For each window the logits of starts, then those of ends; each half is as wide as the longest window."""
    answers: list[str]
    """The best answer to each question, in words."""


class Span(TaskKind[SpanRows, Answered]):
    """Labels are two places a window; a model has two outputs a token, which the losses see as two lines a window."""

    rules = span.RULES
    width_varies = True
    optional_columns = ("id",)

    def label_columns(
        self, source: SourceTable, task: Task, texts: Mapping[str, Column], classes: tuple[str, ...] | None
    ) -> dict[str, Column]:
        """The columns `answers`, in SQuAD's form, and `id`."""
        return {"answers": check_answers(source, task, texts["text_b"]), "id": ids_of(source)}

    def tokenise(self, encoder: PreTrainedTokenizerBase, settings: TokeniseSpec, rows: Path, tokens: Path) -> None:
        """Write a row a window, with columns of their own."""
        cutting = Cutting(settings.max_length, settings.stride, settings.max_answer_length)
        questions, windows = write_windows(encoder, cutting, rows, tokens)
        print(f"{tokens.name}: {questions:,} questions in {windows:,} windows")

    def open_rows(self, path: Path, pad: int, seed: int) -> SpanRows:
        """Windows in memory."""
        return SpanRows.read(path, pad)

    def task_loss(self, logits: Float[Tensor, "lines length"], labels: Int[Tensor, " lines"]) -> Float[Tensor, ""]:
        """Cross-entropy over places: the mean of the losses of starts and of ends."""
        return class_loss(logits, labels)

    def measure(self, model: nn.Module, rows: SpanRows, accelerator: Accelerator, teacher: Teach | None = None) -> Answered:
        """Logits of every window, and the answers that they give."""
        return answered(all_logits(model, rows, accelerator), rows)

    def scores(self, measured: Answered, rows: SpanRows, metrics: Sequence[str]) -> Scores:
        """The loss is a window's; the metrics, and the number of rows, are a question's."""
        logits = measured.logits
        marks = marks_of(measured.answers, rows, metrics)

        result: Scores = {}
        for name in set_names(rows):
            windows, questions = rows.sets == name, np.flatnonzero(rows.examples.sets == name)

            places = torch.from_numpy(rows.labels[windows].reshape(-1)).long()
            loss = self.task_loss(by_place(logits[torch.from_numpy(windows)], logits.shape[1] // 2), places)

            values = {metric: sum(marks[metric][question] for question in questions) / len(questions) for metric in metrics}
            result[name] = {"rows": len(questions), "loss": float(loss), **values}
        return result

    def predictions(self, measured: Answered, rows: SpanRows) -> pd.DataFrame:
        """A line a question: its id, the answer in words, the gold answers, and every metric against the best of them."""
        examples = rows.examples
        columns = {"set": examples.sets, "id": examples.ids, "prediction": measured.answers, "gold": examples.answers}
        return pd.DataFrame(columns | marks_of(measured.answers, rows, list(SPAN_METRICS)))

    def unknown_labels(self, count: int) -> dict[str, list[Any]]:
        """Answers that stand nowhere, and the rows' numbers."""
        return {"answers": [{"text": [""], "answer_start": [0]}] * count, "id": [str(row + 1) for row in range(count)]}

    def answers(self, measured: Answered, rows: SpanRows, classes: Sequence[str]) -> pd.DataFrame:
        """The best answer in words, and its probability among all places of its window."""
        return pd.DataFrame({"answer": measured.answers, "score": answer_probabilities(measured.logits, rows.examples)})


def answered(logits: Float[Tensor, "windows both"], rows: SpanRows) -> Answered:
    """Find the best answer to each question, once for scores and predictions."""
    return Answered(logits, answers_of(logits, rows.examples))


def marks_of(answers: Sequence[str], rows: SpanRows, metrics: Sequence[str]) -> dict[str, list[float]]:
    """Metric → what each answer is worth in [0, 1], against the gold answer that it fits best."""
    pairs = list(zip(answers, rows.examples.answers, strict=True))
    return {metric: [best_score(metric, *pair) for pair in pairs] for metric in metrics}
