"""Span tasks: from the start and end logits of windows to answers in words.

A context that is too long for one row is read in windows (data/span_windows.py). Every window has a logit for each place where
an answer may start and one for each where it may end; losses see them as two rows of one table of 2 x batch rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

OUT = -1.0e4
"""Logit of a place that cannot be the answer's: its probability is 0 in every precision, and two of them differ by 0."""
KEY = b"espalier"


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

    @classmethod
    def of(cls, table: pa.Table) -> Examples:
        """Of a table that the tokenise stage wrote for evaluation."""
        whole = table.filter(table["context"].is_valid()).to_pydict()
        return cls(
            ids=whole["id"],
            contexts=whole["context"],
            answers=whole["answers"],
            sets=np.asarray(whole["set"]),
            example=table["example"].to_numpy(),
            first=table["context_from"].to_numpy(),
            offsets=[offsets.values.to_numpy().reshape(-1, 2) for offsets in table["offsets"]],
            max_answer_length=json.loads(table.schema.metadata[KEY])["max_answer_length"],
        )


def best_places(
    logits: Float[Tensor, "windows both"], max_answer_length: int
) -> tuple[Float[Tensor, " windows"], Int[Tensor, " windows"], Int[Tensor, " windows"]]:
    """Score, start and end of the best answer in each window: the largest sum of both logits with start <= end.

    Source: Devlin et al. 2019, arXiv 1810.04805, section 4.2. All pairs are compared, so no shorter list of the best starts
    and ends is needed; the first of equal ones counts. [CLS] is no answer, since every question has one.
    """
    starts, ends = logits.chunk(2, dim=1)
    width = starts.shape[1]
    starts = starts.index_fill(1, torch.tensor([0], device=logits.device), OUT)
    reach = min(max_answer_length, width)
    scores = torch.stack([F.pad(starts[:, : width - more] + ends[:, more:], (0, more), value=2 * OUT) for more in range(reach)])
    best, at = scores.transpose(0, 1).flatten(1).max(dim=1)
    return best, at % width, at % width + at // width


def answers_of(logits: Float[Tensor, "windows both"], examples: Examples) -> list[str]:
    """The answer to each question: the best one over all of its windows, as it stands in the context."""
    found, start, end = (each.numpy() for each in best_places(logits, examples.max_answer_length))
    texts: dict[int, str] = {}
    for window in np.argsort(-found, kind="stable"):
        question = int(examples.example[window])
        if question not in texts:
            offsets, first = examples.offsets[window], examples.first[window]
            texts[question] = examples.contexts[question][offsets[start[window] - first, 0] : offsets[end[window] - first, 1]]
    return [texts[question].strip() for question in range(len(examples.contexts))]
