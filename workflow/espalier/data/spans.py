"""Span tasks: from the start and end logits of windows to answers in words.

A context that is too long for one row is read in windows (data/span_windows.py). Every window has a logit for each place where
an answer may start and one for each where it may end; losses see them as two rows of one table of 2 x batch rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from espalier.data.batches import Batch, TokenisedRows, on_device, tokens_in

OUT = -1.0e4
"""Logit of a place that cannot be the answer's: its probability is 0 in every precision, and two of them differ by 0."""
SPANS_KEY = b"espalier"
NO_ANSWER = "no_answer"
"""Column of prepared rows, and entry of a tokenised table, that says that questions may have no answer."""


def place_logits(
    starts: Float[Tensor, "batch length"], ends: Float[Tensor, "batch length"], allowed: Bool[Tensor, "batch length"]
) -> Float[Tensor, "2*batch length"]:
    """Two rows a window, its starts and then its ends; padding and the question count for nothing."""
    return torch.stack([starts, ends], dim=1).masked_fill(~allowed[:, None], OUT).flatten(0, 1)


def by_window(logits: Float[Tensor, "places length"], width: int) -> Float[Tensor, "batch both"]:
    """One row a window, its starts and then its ends, each filled up to `width`: rows of several batches fit together."""
    return F.pad(logits, (0, width - logits.shape[1]), value=OUT).reshape(-1, 2 * width)


def by_place(logits: Float[Tensor, "batch both"], length: int) -> Float[Tensor, "2*batch length"]:
    """Undo `by_window`, for a batch whose longest row has `length` tokens."""
    return logits.reshape(2 * len(logits), -1)[:, :length]


@dataclass(frozen=True)
class Examples:
    """What turns the windows of an evaluation table back into questions and their answers."""

    ids: list[str]
    contexts: list[str]
    answers: list[list[str]]
    """Gold answers of each question."""
    sets: np.ndarray
    """Evaluation set of each question."""
    example: Int[np.ndarray, " windows"]
    """The question that a window belongs to."""
    first: Int[np.ndarray, " windows"]
    """Place of a window's first context token."""
    offsets: list[np.ndarray]
    """Where each context token of a window begins and ends, in characters of the context."""
    max_answer_length: int
    """Tokens."""
    no_answer: bool = False
    """Whether questions may have no answer in their context."""
    threshold: float | None = None
    """Null score above which a question has no answer; None where it is to be chosen."""

    @classmethod
    def of(cls, table: pa.Table) -> Examples:
        """Read the questions and their gold answers from a table that the tokenise stage wrote for evaluation."""
        whole = table.filter(table["context"].is_valid()).to_pydict()
        said = json.loads(table.schema.metadata[SPANS_KEY])
        return cls(
            ids=whole["id"],
            contexts=whole["context"],
            answers=whole["answers"],
            sets=np.asarray(whole["set"]),
            example=table["example"].to_numpy(),
            first=table["context_from"].to_numpy(),
            offsets=[offsets.values.to_numpy().reshape(-1, 2) for offsets in table["offsets"]],
            max_answer_length=said["max_answer_length"],
            no_answer=said.get(NO_ANSWER, False),
        )


@dataclass(frozen=True)
class SpanBatch(Batch):
    """Padded windows; labels are two a window, the places where its answer starts and ends."""

    allowed: Bool[Tensor, "batch length"]
    """The places where an answer may start or end, [CLS] among them, which stands for an answer outside the window."""

    def logits_of(self, output: Any) -> Float[Tensor, "lines length"]:
        """Two lines a window: over its starts and over its ends."""
        return place_logits(output.start_logits, output.end_logits, self.allowed)

    def part(self, rows: slice | Int[Tensor, " some"]) -> Batch:
        """Some of the windows, with both labels of each."""
        labels = self.labels.unflatten(0, (-1, 2))[rows].flatten()
        return replace(super().part(rows), labels=labels)

    def lines(self, sizes: Sequence[int]) -> list[int]:
        """Two lines of logits a window."""
        return [2 * size for size in sizes]

    def to_store(self, logits: Float[Tensor, "lines length"], longest: int) -> Float[Tensor, "batch both"]:
        """One line a window, as `by_window` makes it."""
        return by_window(logits, longest)

    def from_store(self, stored: Float[Tensor, "batch both"]) -> Float[Tensor, "lines length"]:
        """Two lines a window, as wide as this batch."""
        return by_place(stored, self.input_ids.shape[1])


@dataclass(frozen=True)
class SpanRows(TokenisedRows):
    """A tokenised table of windows; its labels are two a window, start and end."""

    context: Int[np.ndarray, "windows 2"]
    """From which token to which one each window shows the context."""
    examples: Examples | None
    """The questions of an evaluation table; None for training rows."""

    @classmethod
    def read(cls, path: Path, pad: int) -> SpanRows:
        """Read a parquet file of windows that the tokenise stage wrote; `pad` is the tokenizer's padding id."""
        table = pq.read_table(path).combine_chunks()
        labels, context = (
            np.stack([table[name].to_numpy() for name in names], axis=1)
            for names in (("start", "end"), ("context_from", "context_to"))
        )
        examples = Examples.of(table) if "set" in table.column_names else None

        return cls(**tokens_in(table), labels=labels, pad=pad, context=context, examples=examples)

    def batch(self, rows: np.ndarray, device: torch.device, epoch: int = 0) -> SpanBatch:
        """These windows, padded to the longest of them or to `least`."""
        values = self._padded(rows, device)

        places = np.arange(values["input_ids"].shape[1])
        begin, stop = self.context[rows].T[:, :, None]
        allowed = (places == 0) | ((begin <= places) & (places < stop))

        return SpanBatch(**values, allowed=on_device(allowed, device))


def best_places(
    logits: Float[Tensor, "windows both"], max_answer_length: int
) -> tuple[Float[Tensor, " windows"], Int[Tensor, " windows"], Int[Tensor, " windows"]]:
    """Score, start and end of the best answer in each window: the largest sum of both logits with start <= end.

    Source: Devlin et al. 2019, arXiv 1810.04805, section 4.2. All pairs are compared, so no shorter list of the best starts
    and ends is needed; the first of equal ones counts. [CLS] is no answer: `null_scores` compares
    with it where there may be none.
    """
    starts, ends = logits.chunk(2, dim=1)
    width = starts.shape[1]
    starts = starts.index_fill(1, torch.tensor([0], device=logits.device), OUT)
    reach = min(max_answer_length, width)
    scores = torch.stack([F.pad(starts[:, : width - more] + ends[:, more:], (0, more), value=2 * OUT) for more in range(reach)])
    best, at = scores.transpose(0, 1).flatten(1).max(dim=1)
    return best, at % width, at % width + at // width


def best_windows(score: Float[np.ndarray, " windows"], examples: Examples) -> Int[np.ndarray, " questions"]:
    """The window with the best answer to each question; the first of equal ones counts."""
    # from the best window to the worst: the first one of a question is its best
    windows: dict[int, int] = {}
    for window in np.argsort(-score, kind="stable"):
        windows.setdefault(int(examples.example[window]), int(window))

    return np.array([windows[question] for question in range(len(examples.contexts))], dtype=np.int64)


def answers_of(logits: Float[Tensor, "windows both"], examples: Examples) -> list[str]:
    """The answer to each question: the best one over all of its windows, as it stands in the context."""
    score, start, end = (values.numpy() for values in best_places(logits, examples.max_answer_length))

    texts = []
    for context, window in zip(examples.contexts, best_windows(score, examples), strict=True):
        offsets, first = examples.offsets[window], examples.first[window]
        texts.append(context[offsets[start[window] - first, 0] : offsets[end[window] - first, 1]].strip())
    return texts


def null_scores(logits: Float[Tensor, "windows both"], examples: Examples) -> Float[np.ndarray, " questions"]:
    """How much more a model holds a question to have no answer than to have its best one.

    Source: Devlin et al. 2019, arXiv 1810.04805, section 4.3, and its run_squad.py: s_null - s_best, with
    s_null = S·C + E·C of [CLS], the lowest one of a question's windows, because one window with an answer is enough.
    """
    score, _, _ = best_places(logits, examples.max_answer_length)
    best = score.numpy()[best_windows(score.numpy(), examples)]

    starts, ends = logits.chunk(2, dim=1)
    lowest = np.full(len(examples.contexts), np.inf)
    np.minimum.at(lowest, examples.example, (starts[:, 0] + ends[:, 0]).numpy().astype(np.float64))
    return lowest - best


def null_probabilities(logits: Float[Tensor, "windows both"], examples: Examples) -> Float[np.ndarray, " questions"]:
    """The probability of no answer: that of [CLS] as start and as end, the lowest one of a question's windows."""
    normalisers = torch.stack([half.logsumexp(dim=1) - half[:, 0] for half in logits.chunk(2, dim=1)]).sum(dim=0)
    lowest = np.ones(len(examples.contexts))
    np.minimum.at(lowest, examples.example, (-normalisers).exp().numpy().astype(np.float64))
    return lowest


def answer_probabilities(logits: Float[Tensor, "windows both"], examples: Examples) -> Float[np.ndarray, " questions"]:
    """The probability of each question's best answer in its window: that of its start times that of its end."""
    score, _, _ = best_places(logits, examples.max_answer_length)
    normalisers = torch.stack([half.logsumexp(dim=1) for half in logits.chunk(2, dim=1)]).sum(dim=0)
    return (score - normalisers).exp().numpy()[best_windows(score.numpy(), examples)]
