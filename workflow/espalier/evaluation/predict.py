"""Forward passes without training: predictions, scores, and the teacher's outputs for every row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from espalier.config.data import SELECTION, Kind
from espalier.data.batches import IGNORED, Batch, Rows, in_length_order
from espalier.data.packed import Packed
from espalier.data.spans import Examples, answers_of, by_place, by_window
from espalier.evaluation.metrics import score
from espalier.evaluation.squad import best_score
from espalier.losses.terms import task_loss
from espalier.models.forward import forward
from espalier.models.outputs import Outputs, Representation
from espalier.runtime.distributed import everyones, is_main, own_of

BATCH = 64
"""Rows in a forward pass without gradients."""
MASKED_BATCH = 16
"""The same where every masked token has a logit for each word: 40 MiB of them for 30,522 words."""

LARGEST_LOSS = 700.0
"""Beyond this loss the perplexity is not a number that Python knows."""

Scores = dict[str, dict[str, float | int]]
"""Evaluation set → {"rows", "loss", metric …}."""


@torch.no_grad()
def all_logits(model: nn.Module, rows: Rows, accelerator: Accelerator) -> Float[Tensor, "rows classes"]:
    """Logits of every row, in the table's order, fp32 on the CPU; the model is in eval mode meanwhile.

    For spans those of a row's starts and then of its ends, each as wide as the longest row.
    """
    return all_outputs(model, rows, accelerator, None, "").logits


def all_outputs(
    model: nn.Module, rows: Rows, accelerator: Accelerator, representation: Representation | None, progress: str
) -> Outputs:
    """Logits and, if asked for, representations of every row, in the table's order, fp32 on the CPU."""
    training = model.training
    model.eval()
    order, logits, vectors = [], [], []
    batches, width = list(in_length_order(rows.lengths, BATCH)), int(rows.lengths.max())
    for picked in tqdm(own_of(batches), progress, unit="batch", mininterval=5.0, disable=not (progress and is_main())):
        batch = rows.batch(picked, accelerator.device)
        with accelerator.autocast():
            outputs = forward(model, batch, representation)
        order.append(picked)
        logits.append((outputs.logits if batch.allowed is None else by_window(outputs.logits, width)).float().cpu())
        vectors += [] if outputs.representation is None else [outputs.representation.float().cpu()]
    model.train(training)
    order, logits, vectors = everyones(order), everyones(logits), everyones(vectors)
    back = torch.from_numpy(np.argsort(np.concatenate(order), kind="stable"))
    return Outputs(torch.cat(logits)[back], torch.cat(vectors)[back] if vectors else None)


def scores_of(logits: Float[Tensor, "rows classes"], rows: Rows, kind: Kind, metrics: Sequence[str]) -> Scores:
    """Loss and metrics on each evaluation set, in the table's order of sets."""
    if rows.examples is not None:
        return span_scores(logits, rows, graded(logits, rows.examples, metrics), metrics)
    labels = torch.from_numpy(rows.labels)
    predictions = predictions_of(logits, kind)
    result: Scores = {}
    for name in dict.fromkeys(rows.sets.tolist()):
        chosen = rows.sets == name
        loss = task_loss(logits[torch.from_numpy(chosen)], labels[torch.from_numpy(chosen)], kind)
        values = {metric: score(metric, rows.labels[chosen], predictions[chosen]) for metric in metrics}
        result[name] = {"rows": int(chosen.sum()), "loss": float(loss), **values}
    return result


class Graded(NamedTuple):
    """The answers to questions, in their order."""

    answers: list[str]
    marks: dict[str, list[float]]
    """Metric → what each answer is worth, in [0, 1]."""


def graded(logits: Float[Tensor, "windows both"], examples: Examples, metrics: Sequence[str]) -> Graded:
    """The best answer to each question, against the gold answer that it fits best."""
    answers = answers_of(logits, examples)
    pairs = list(zip(answers, examples.answers, strict=True))
    return Graded(answers, {metric: [best_score(metric, *pair) for pair in pairs] for metric in metrics})


def span_scores(logits: Float[Tensor, "rows both"], rows: Rows, found: Graded, metrics: Sequence[str]) -> Scores:
    """Like `scores_of`, of spans: the loss is a window's, the metrics, and the number of rows, a question's."""
    result: Scores = {}
    for name in dict.fromkeys(rows.sets.tolist()):
        windows, questions = rows.sets == name, np.flatnonzero(rows.examples.sets == name)
        places = torch.from_numpy(rows.labels[windows].reshape(-1)).long()
        loss = task_loss(by_place(logits[torch.from_numpy(windows)], logits.shape[1] // 2), places, "span")
        values = {metric: sum(found.marks[metric][each] for each in questions) / len(questions) for metric in metrics}
        result[name] = {"rows": len(questions), "loss": float(loss), **values}
    return result


def predictions_of(logits: Float[Tensor, "rows classes"], kind: Kind) -> np.ndarray:
    """Class indices, or real values."""
    return logits.argmax(dim=-1).numpy() if kind == "classification" else logits.squeeze(-1).numpy()


def evaluator(
    rows: Rows | Packed,
    kind: Kind,
    metrics: Sequence[str],
    accelerator: Accelerator,
    teacher: Callable[[Batch], Outputs] | None = None,
) -> Callable[[nn.Module], Scores]:
    """A function that scores a model on these rows; on masked text also by its distance from a teacher."""
    if isinstance(rows, Packed):
        return lambda model: masked_scores(masked_sums(model, rows, accelerator, teacher), rows)
    return lambda model: scores_of(all_logits(model, rows, accelerator), rows, kind, metrics)


def selection_set(scores: Scores) -> str:
    """The set that selects checkpoints: the held-out training rows where there are any, else the first set."""
    return SELECTION if SELECTION in scores else next(iter(scores))


@dataclass(frozen=True)
class MaskedSums:
    """What is known of a model's guesses at the masked tokens of each row."""

    masked: Int[np.ndarray, " rows"]
    """Number of tokens asked for."""
    correct: Int[np.ndarray, " rows"]
    """Of these, the number that was guessed."""
    loss: Float[np.ndarray, " rows"]
    """Sum of the cross-entropies, in nats."""
    discrepancy: Float[np.ndarray, " rows"] | None = None
    """Sum of KL(teacher || model), in nats; None without a teacher (docs/methods/homodistil.md §6)."""


@torch.no_grad()
def masked_sums(
    model: nn.Module, rows: Packed, accelerator: Accelerator, teacher: Callable[[Batch], Outputs] | None = None
) -> MaskedSums:
    """Go through the rows under the masks of epoch 0, batch by batch; the model is in eval mode meanwhile."""
    training = model.training
    model.eval()
    parts = []
    for start in own_of(range(0, len(rows), MASKED_BATCH)):
        batch = rows.batch(np.arange(start, min(start + MASKED_BATCH, len(rows))), accelerator.device)
        with accelerator.autocast():
            logits = forward(model, batch).logits.float()
        taught = teacher(batch).logits.float() if teacher else None
        parts.append((start, _row_sums(logits, batch.labels, taught).cpu()))
    model.train(training)
    masked, correct, loss, *discrepancy = torch.cat([part for _, part in sorted(everyones(parts))], dim=1).numpy()
    return MaskedSums(masked.astype(np.int64), correct.astype(np.int64), loss, *discrepancy)


def _row_sums(
    logits: Float[Tensor, "masked vocabulary"],
    labels: Int[Tensor, "batch length"],
    teacher: Float[Tensor, "masked vocabulary"] | None,
) -> Float[Tensor, "sums batch"]:
    """Of each row: tokens asked for, guessed, the sum of their losses, and of their divergences from a teacher."""
    places = labels != IGNORED
    wanted, row = labels[places], places.nonzero()[:, 0]
    values = [
        torch.ones_like(wanted, dtype=torch.float64),
        (logits.argmax(dim=-1) == wanted).double(),
        F.cross_entropy(logits, wanted, reduction="none").double(),
    ]
    if teacher is not None:
        own, other = (F.log_softmax(each, dim=-1) for each in (logits, teacher))
        values.append(F.kl_div(own, other, reduction="none", log_target=True).sum(dim=-1).double())
    sums = torch.zeros(len(values), len(labels), dtype=torch.float64, device=logits.device)
    return sums.index_add_(1, row, torch.stack(values))


def masked_scores(sums: MaskedSums, rows: Packed) -> Scores:
    """Loss in nats a masked token, perplexity and accuracy on each evaluation set, in the order of the file."""
    result: Scores = {}
    for name in dict.fromkeys(rows.sets.tolist()):
        chosen = rows.sets == name
        masked = max(1, int(sums.masked[chosen].sum()))
        loss, correct = float(sums.loss[chosen].sum()) / masked, int(sums.correct[chosen].sum())
        scores = {"masked-accuracy": correct / masked, "perplexity": math.exp(min(loss, LARGEST_LOSS))}
        if sums.discrepancy is not None:
            scores["discrepancy"] = float(sums.discrepancy[chosen].sum()) / masked
        result[name] = {"rows": int(chosen.sum()), "loss": loss, **scores}
    return result
