"""Text: rows without labels, whose masked tokens are to be guessed (data/packed.py)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor, nn

from espalier.config.data import Task
from espalier.config.job_specs import PrepareSpec
from espalier.config.kinds import text
from espalier.data.batches import IGNORED
from espalier.data.corpus import write_corpus
from espalier.data.labelled import Column, SourceTable
from espalier.data.packed import PackedRows
from espalier.evaluation.predict import Scores, set_names
from espalier.kinds.base import TaskKind, Teach
from espalier.losses.terms import masked_token_divergence, masked_token_loss
from espalier.models.forward import forward
from espalier.runtime.distributed import everyones, own_of

MASKED_BATCH = 16
"""Rows in a forward pass without gradients: every masked token has a logit for each word, 40 MiB of them for 30,522 words."""
LARGEST_LOSS = 700.0
"""Beyond this loss the perplexity is not a number that Python knows."""


@dataclass(frozen=True)
class MaskedSums:
    """What is known of a model's guesses at the masked tokens of each row."""

    masked: Int[np.ndarray, " rows"]
    """Number of tokens asked for."""
    correct: Int[np.ndarray, " rows"]
    """Number of these tokens that were guessed."""
    loss: Float[np.ndarray, " rows"]
    """Sum of the cross-entropies, in nats."""
    guessed: Int[np.ndarray, " tokens"]
    """The guess at each masked token, one row after the other."""
    discrepancy: Float[np.ndarray, " rows"] | None = None
    """Sum of KL(teacher || model), in nats; None without a teacher (docs/methods/homodistil.md §6)."""


class Text(TaskKind[PackedRows, MaskedSums]):
    """Labels are the tokens behind the masks; a model has a logit a word for each masked token."""

    rules = text.RULES

    def prepare(self, settings: PrepareSpec, train: Path, evaluation: Path) -> dict[str, object]:
        """Read and write piece by piece: memory does not grow with the corpus."""
        return write_corpus(settings, train, evaluation)

    def label_columns(
        self, source: SourceTable, task: Task, texts: Mapping[str, Column], classes: tuple[str, ...] | None
    ) -> dict[str, Column]:
        """Text has no labels."""
        return {}

    def open_rows(self, path: Path, pad: int, seed: int) -> PackedRows:
        """Packed rows on disk, under the masks of a seed; the file itself tells the padding id."""
        return PackedRows(path, seed)

    def task_loss(self, logits: Float[Tensor, "masked vocabulary"], labels: Int[Tensor, "batch length"]) -> Float[Tensor, ""]:
        """Mean cross-entropy of the masked tokens."""
        return masked_token_loss(logits, labels)

    def soft_label_loss(
        self, student: Float[Tensor, "masked vocabulary"], teacher: Float[Tensor, "masked vocabulary"], temperature: float
    ) -> Float[Tensor, ""]:
        """Mean divergence of the masked tokens."""
        return masked_token_divergence(student, teacher, temperature=temperature)

    def measure(self, model: nn.Module, rows: PackedRows, accelerator: Accelerator, teacher: Teach | None = None) -> MaskedSums:
        """Sums over the masked tokens of each row: all logits would fill the memory."""
        return masked_sums(model, rows, accelerator, teacher)

    def scores(self, measured: MaskedSums, rows: PackedRows, metrics: Sequence[str]) -> Scores:
        """Loss, perplexity and accuracy on each evaluation set, and the distance from the teacher where there is one."""
        return masked_scores(measured, rows)

    def predictions(self, measured: MaskedSums, rows: PackedRows) -> pd.DataFrame:
        """A line a row: the number of masked tokens, how many of them were guessed, their losses in nats, and all guesses."""
        columns = {"set": rows.sets, "masked": measured.masked, "correct": measured.correct, "loss": measured.loss}
        guesses = np.split(measured.guessed, np.cumsum(measured.masked)[:-1])
        return pd.DataFrame(columns).assign(prediction=guesses)

    def agreement(self, predictions: pd.DataFrame, reference: pd.DataFrame) -> float:
        """Fraction of the masked tokens at which both guess the same."""
        own, other = (np.concatenate(table["prediction"].tolist()) for table in (predictions, reference))
        return float((own == other).mean())


@torch.no_grad()
def masked_sums(model: nn.Module, rows: PackedRows, accelerator: Accelerator, teacher: Teach | None = None) -> MaskedSums:
    """Go through the rows under the masks of epoch 0, batch by batch; the model is in eval mode meanwhile."""
    training = model.training
    model.eval()
    parts = []
    for start in own_of(range(0, len(rows), MASKED_BATCH)):
        batch = rows.batch(np.arange(start, min(start + MASKED_BATCH, len(rows))), accelerator.device)
        with accelerator.autocast():
            logits = forward(model, batch).logits.float()
        taught = teacher(batch).logits.float() if teacher else None
        guesses = logits.argmax(dim=-1).int().cpu()
        parts.append((start, _row_sums(logits, batch.labels, taught).cpu(), guesses))
    model.train(training)

    # no two parts start at the same row, so tensors are never compared
    _, sums, guessed = zip(*sorted(everyones(parts)), strict=True)
    masked, correct, loss, *discrepancy = torch.cat(sums, dim=1).numpy()
    return MaskedSums(masked.astype(np.int64), correct.astype(np.int64), loss, torch.cat(guessed).numpy(), *discrepancy)


def _row_sums(
    logits: Float[Tensor, "masked vocabulary"],
    labels: Int[Tensor, "batch length"],
    teacher: Float[Tensor, "masked vocabulary"] | None,
) -> Float[Tensor, "sums batch"]:
    """Sums over each row: tokens asked for, tokens guessed, losses, and divergences from a teacher."""
    places = labels != IGNORED
    wanted, row = labels[places], places.nonzero()[:, 0]
    values = [
        torch.ones_like(wanted, dtype=torch.float64),
        (logits.argmax(dim=-1) == wanted).double(),
        F.cross_entropy(logits, wanted, reduction="none").double(),
    ]
    if teacher is not None:
        own, other = (F.log_softmax(both, dim=-1) for both in (logits, teacher))
        values.append(F.kl_div(own, other, reduction="none", log_target=True).sum(dim=-1).double())
    sums = torch.zeros(len(values), len(labels), dtype=torch.float64, device=logits.device)
    return sums.index_add_(1, row, torch.stack(values))


def masked_scores(sums: MaskedSums, rows: PackedRows) -> Scores:
    """Loss in nats a masked token, perplexity and accuracy on each evaluation set, in the order of the file."""
    result: Scores = {}
    for name in set_names(rows):
        chosen = rows.sets == name
        masked = max(1, int(sums.masked[chosen].sum()))
        loss, correct = float(sums.loss[chosen].sum()) / masked, int(sums.correct[chosen].sum())
        scores = {"masked-accuracy": correct / masked, "perplexity": math.exp(min(loss, LARGEST_LOSS))}
        if sums.discrepancy is not None:
            scores["discrepancy"] = float(sums.discrepancy[chosen].sum()) / masked
        result[name] = {"rows": int(chosen.sum()), "loss": loss, **scores}
    return result
