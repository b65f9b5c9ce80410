"""Forward passes without training: the outputs for every row of a table, and the scores that are made from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from espalier.config.data import MEAN, SELECTION
from espalier.data.batches import Batch, TaskRows, in_length_order
from espalier.models.forward import forward
from espalier.models.outputs import Outputs, Representation
from espalier.runtime.distributed import everyones, is_main, own_of

BATCH = 64
"""Rows in a forward pass without gradients."""

Scores = dict[str, dict[str, float | int]]
"""Evaluation set → {"rows", "loss", metric …}."""


@torch.no_grad()
def all_logits(model: nn.Module, rows: TaskRows, accelerator: Accelerator) -> Float[Tensor, "rows ..."]:
    """Logits of every row, in the table's order, fp32 on the CPU; the model is in eval mode meanwhile.

    One entry a row, as `Batch.to_store` makes it.
    """
    return all_outputs(model, rows, accelerator, None, "").logits


def all_outputs(
    model: nn.Module, rows: TaskRows, accelerator: Accelerator, representation: Representation | None, progress: str
) -> Outputs:
    """Logits and, if asked for, representations of every row, in the table's order, fp32 on the CPU."""
    order, logits, vectors = [], [], []
    longest = int(rows.lengths.max())
    for batch, outputs in outputs_by_batch(model, rows, accelerator, progress, representation):
        order.append(batch.rows.numpy())
        logits.append(batch.to_store(outputs.logits, longest).float().cpu())
        vectors += [] if outputs.representation is None else [outputs.representation.float().cpu()]

    # batches went by length and by process; `back` brings their rows into the order of the table
    order, logits, vectors = everyones(order), everyones(logits), everyones(vectors)
    back = table_order(order)
    return Outputs(torch.cat(logits)[back], torch.cat(vectors)[back] if vectors else None)


def outputs_by_batch(
    model: nn.Module,
    rows: TaskRows,
    accelerator: Accelerator,
    progress: str,
    representation: Representation | None = None,
    hidden_states: bool = False,
    widths: Int[np.ndarray, " rows"] | None = None,
) -> Iterator[tuple[Batch, Outputs]]:
    """Run a model over this process's batches of all rows, shortest rows first; the model is in eval mode meanwhile.

    Args:
        model: with a head.
        rows: the table.
        accelerator: device and precision.
        progress: name of the bar; empty for none.
        representation: which vector of each row to give, if any.
        hidden_states: give the outputs of all encoder layers.
        widths: tokens for which each row's outputs are wanted, padding included; its own where nothing is said.
    """
    training = model.training
    model.eval()

    batches = list(in_length_order(rows.lengths, BATCH))
    for picked in tqdm(own_of(batches), progress, unit="batch", mininterval=5.0, disable=not (progress and is_main())):
        wide = rows if widths is None else rows.widened(int(widths[picked].max()))
        batch = wide.batch(picked, accelerator.device)
        with torch.no_grad(), accelerator.autocast():
            outputs = forward(model, batch, representation, hidden_states)
        yield batch, outputs
    model.train(training)


def table_order(order: list[np.ndarray]) -> Int[Tensor, " rows"]:
    """What brings rows that went by in this order into the order of their table."""
    return torch.from_numpy(np.argsort(np.concatenate(order), kind="stable"))


def set_names(rows: TaskRows) -> list[str]:
    """Names of the evaluation sets, in the table's order."""
    return list(dict.fromkeys(rows.sets.tolist()))


def with_mean(scores: Scores, names: Sequence[str] | None) -> Scores:
    """The scores, and behind all sets, as one more of them, the mean over some: each counts the same, and their rows are added.

    Args:
        scores: of every evaluation set.
        names: the sets that are averaged, by the metrics that all of them have; nothing is added where there are none.
    """
    if not names:
        return scores
    own = [scores[name] for name in names]
    shared = [key for key in own[0] if all(key in values for values in own)]
    sums = {key: sum(values[key] for values in own) for key in shared}
    return {**scores, MEAN: {key: value if key == "rows" else value / len(own) for key, value in sums.items()}}


def selection_set(scores: Scores) -> str:
    """The set that selects checkpoints: the held-out training rows where there are any, else the first set."""
    return SELECTION if SELECTION in scores else next(iter(scores))
