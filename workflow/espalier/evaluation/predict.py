"""Forward passes without training: the outputs for every row of a table, and the scores that are made from them."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from espalier.config.data import SELECTION
from espalier.data.batches import TaskRows, in_length_order
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
    training = model.training
    model.eval()

    order, logits, vectors = [], [], []
    batches = list(in_length_order(rows.lengths, BATCH))
    longest = int(rows.lengths.max())
    for picked in tqdm(own_of(batches), progress, unit="batch", mininterval=5.0, disable=not (progress and is_main())):
        batch = rows.batch(picked, accelerator.device)
        with accelerator.autocast():
            outputs = forward(model, batch, representation)
        order.append(picked)
        logits.append(batch.to_store(outputs.logits, longest).float().cpu())
        vectors += [] if outputs.representation is None else [outputs.representation.float().cpu()]
    model.train(training)

    # batches went by length and by process; `back` brings their rows into the order of the table
    order, logits, vectors = everyones(order), everyones(logits), everyones(vectors)
    back = torch.from_numpy(np.argsort(np.concatenate(order), kind="stable"))
    return Outputs(torch.cat(logits)[back], torch.cat(vectors)[back] if vectors else None)


def set_names(rows: TaskRows) -> list[str]:
    """Names of the evaluation sets, in the table's order."""
    return list(dict.fromkeys(rows.sets.tolist()))


def selection_set(scores: Scores) -> str:
    """The set that selects checkpoints: the held-out training rows where there are any, else the first set."""
    return SELECTION if SELECTION in scores else next(iter(scores))
