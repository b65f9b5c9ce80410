"""Span: questions whose answers stand in a context, which is read in windows where it is long (data/span_windows.py)."""

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
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from espalier.config.data import SELECTION, Task
from espalier.config.job_specs import TokeniseSpec
from espalier.config.kinds import span
from espalier.config.kinds.span import language_of
from espalier.data.answers import check_answers
from espalier.data.labelled import Column, SourceTable, ids_of
from espalier.data.span_windows import Cutting, write_windows
from espalier.data.spans import (
    NO_ANSWER,
    Examples,
    SpanRows,
    answer_probabilities,
    answers_of,
    by_place,
    null_probabilities,
    null_scores,
)
from espalier.evaluation.mlqa import MLQA_METRICS, best_mlqa_score
from espalier.evaluation.predict import Scores, all_logits, set_names
from espalier.evaluation.squad import SPAN_METRICS, best_score
from espalier.evaluation.squad_v2 import best_null_threshold, mark, no_answer_scores
from espalier.kinds.base import TaskKind, Teach
from espalier.losses.terms import class_loss

THRESHOLD = "no_answer_threshold"
"""What an exported model carries of questions without an answer, in the section `espalier` of its config.json."""


class Answered(NamedTuple):
    """A model's answers to the questions of an evaluation table."""

    logits: Float[Tensor, "windows both"]
    """For each window the logits of starts, then those of ends; each half is as wide as the longest window."""
    answers: list[str]
    """The best answer to each question, in words; empty where it has none."""
    best: list[str]
    """The best answer to each question that is not empty; the same list where every question has one."""
    null_scores: Float[np.ndarray, " questions"] | None = None
    """How much more each question is held to have no answer; None where every question has one."""
    threshold: float | None = None
    """Null score above which a question has no answer."""


class Span(TaskKind[SpanRows, Answered]):
    """Labels are two places a window; a model has two outputs a token, which the losses see as two lines a window."""

    rules = span.RULES
    width_varies = True
    optional_columns = ("id",)

    def label_columns(
        self, source: SourceTable, task: Task, texts: Mapping[str, Column], classes: tuple[str, ...] | None
    ) -> dict[str, Column]:
        """The columns `answers`, in SQuAD's form, and `id`; where questions may have no answer, `no_answer`, too."""
        answers = check_answers(source, task, texts["text_b"])
        said = {NO_ANSWER: pa.array([True] * len(answers))} if task.no_answer else {}
        return {"answers": answers, "id": ids_of(source), **said}

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

    def as_served(self, rows: SpanRows, served: Mapping[str, Any]) -> SpanRows:
        """With the threshold that an exported model carries, if it does."""
        if rows.examples is None or served.get(THRESHOLD) is None:
            return rows
        return replace(rows, examples=replace(rows.examples, no_answer=True, threshold=float(served[THRESHOLD])))

    def decide(self, model: nn.Module, rows: SpanRows, accelerator: Accelerator) -> dict[str, Any]:
        """The null score above which a question has no answer: the best one for F1 on the held-out rows, 0 without them."""
        return self.decisions(self.measure(model, rows, accelerator))

    def decisions(self, measured: Answered) -> dict[str, Any]:
        """The threshold, where questions may have no answer."""
        return {} if measured.threshold is None else {THRESHOLD: measured.threshold}

    def measure(self, model: nn.Module, rows: SpanRows, accelerator: Accelerator, teacher: Teach | None = None) -> Answered:
        """Logits of every window, and the answers that they give."""
        return answered(all_logits(model, rows, accelerator), rows)

    def scores(self, measured: Answered, rows: SpanRows, metrics: Sequence[str]) -> Scores:
        """The loss is a window's; the metrics, and the number of rows, are a question's."""
        logits, examples = measured.logits, rows.examples
        value_of = _means(measured, examples, metrics)

        result: Scores = {}
        for name in set_names(rows):
            windows, questions = rows.sets == name, np.flatnonzero(examples.sets == name)

            places = torch.from_numpy(rows.labels[windows].reshape(-1)).long()
            loss = self.task_loss(by_place(logits[torch.from_numpy(windows)], logits.shape[1] // 2), places)
            result[name] = {"rows": len(questions), "loss": float(loss), **value_of(questions)}
        return result

    def predictions(self, measured: Answered, rows: SpanRows) -> pd.DataFrame:
        """A line a question: its id, the answer in words, the gold answers, and every metric against the best of them."""
        examples = rows.examples
        columns = {"set": examples.sets, "id": examples.ids, "prediction": measured.answers, "gold": examples.answers}
        extra = {} if measured.null_scores is None else {"null_score": measured.null_scores}
        return pd.DataFrame(columns | extra | marks_of(measured.answers, examples, list(SPAN_METRICS)))

    def unknown_labels(self, count: int) -> dict[str, list[Any]]:
        """Answers that stand nowhere, and the rows' numbers."""
        return {"answers": [{"text": [""], "answer_start": [0]}] * count, "id": [str(row + 1) for row in range(count)]}

    def answers(self, measured: Answered, rows: SpanRows, classes: Sequence[str]) -> pd.DataFrame:
        """The best answer in words, and its probability among all places of its window; nothing where there is no answer."""
        score = answer_probabilities(measured.logits, rows.examples)
        if measured.null_scores is None:
            return pd.DataFrame({"answer": measured.answers, "score": score})

        none = measured.null_scores > measured.threshold
        texts = [None if missing else text for missing, text in zip(none, measured.best, strict=True)]
        probabilities = np.where(none, null_probabilities(measured.logits, rows.examples), score)
        return pd.DataFrame({"answer": texts, "score": probabilities, "null_score": measured.null_scores})


def answered(logits: Float[Tensor, "windows both"], rows: SpanRows) -> Answered:
    """Find the best answer to each question, once for scores and predictions, and which questions have none."""
    examples = rows.examples
    best = answers_of(logits, examples)
    if not examples.no_answer:
        return Answered(logits, best, best)

    scores = null_scores(logits, examples)
    threshold = examples.threshold if examples.threshold is not None else _chosen_threshold(best, scores, examples)
    answers = ["" if score > threshold else text for text, score in zip(best, scores, strict=True)]
    return Answered(logits, answers, best, scores, threshold)


def _chosen_threshold(best: Sequence[str], scores: Float[np.ndarray, " questions"], examples: Examples) -> float:
    """The null score with the best F1 on the held-out training rows; 0 where there are none."""
    held_out = examples.sets == SELECTION
    if not held_out.any():
        return 0.0
    marks = np.array([mark("squad-f1", *pair) for pair in zip(best, examples.answers, strict=True)])
    return best_null_threshold(marks[held_out], scores[held_out], _have_answers(examples)[held_out])[1]


def _have_answers(examples: Examples) -> Bool[np.ndarray, " questions"]:
    return np.array([bool(golds) for golds in examples.answers])


def _means(measured: Answered, examples: Examples, metrics: Sequence[str]) -> Callable[[np.ndarray], dict[str, float]]:
    """A function from numbers of questions to the metrics over them."""
    if measured.null_scores is None:
        plain = marks_of(measured.answers, examples, metrics)
        return lambda chosen: {name: sum(plain[name][question] for question in chosen) / len(chosen) for name in metrics}

    marks, raw = (
        {name: np.array(values) for name, values in marks_of(answers, examples, list(SPAN_METRICS)).items()}
        for answers in (measured.answers, measured.best)
    )
    scores, known = measured.null_scores, _have_answers(examples)

    def over(chosen: np.ndarray) -> dict[str, float]:
        own, best = ({name: values[chosen] for name, values in kept.items()} for kept in (marks, raw))
        return no_answer_scores(metrics, own, best, scores[chosen], known[chosen])

    return over


def marks_of(answers: Sequence[str], examples: Examples, metrics: Sequence[str]) -> dict[str, list[float]]:
    """Metric → what each answer is worth in [0, 1], against the gold answer that it fits best."""
    worth = mark if examples.no_answer else best_score
    pairs = list(zip(answers, examples.answers, strict=True))
    languages = [language_of(str(name)) for name in examples.sets]

    marks = {}
    for metric in metrics:
        if metric in MLQA_METRICS:
            spoken = zip(pairs, languages, strict=True)
            marks[metric] = [best_mlqa_score(metric, *pair, language) for pair, language in spoken]
        else:
            marks[metric] = [worth(metric, *pair) for pair in pairs]
    return marks
