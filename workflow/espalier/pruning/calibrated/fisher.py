"""What gates on heads and FFN units say of their parts: gradients on rows, and masks that are searched by them.

Source: Kwon et al. 2022, "A Fast Post-Training Pruning Framework for Transformers", arXiv 2204.09656; docs/methods/kwon.md §2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from espalier.data.batches import Batch
from espalier.models.forward import forward

Gradients = dict[str, Float[Tensor, "batches parts"]]
"""Name of a layer's heads or units → a row of gradients for each batch."""


def gate_gradients(
    student: PreTrainedModel,
    gates: Mapping[str, Float[Tensor, " parts"]],
    batches: Sequence[Batch],
    loss: Callable[[Batch, Tensor], Float[Tensor, ""]],
) -> Gradients:
    """Gradients of a loss with respect to gates, for each batch.

    Args:
        student: gated, in eval mode.
        gates: what its forward pass multiplies by; leaves that require gradients.
        batches: the rows.
        loss: batch and logits → a number.
    """
    rows: dict[str, list[Tensor]] = {name: [] for name in gates}

    # Without gradients of its own parameters the model needs two thirds of the time.
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)

    for batch in tqdm(batches, "gradients", unit="batch", mininterval=5.0):
        loss(batch, forward(student, batch).logits).backward()
        for name, gate in gates.items():
            rows[name].append(gate.grad.clone())
            gate.grad = None

    for parameter in trained:
        parameter.requires_grad_(True)
    return {name: torch.stack(gradients) for name, gradients in rows.items()}


def rearranged(kept: Bool[Tensor, " parts"], gradients: Float[Tensor, "batches parts"]) -> Bool[Tensor, " parts"]:
    """Another mask with as many parts, for which what is removed together changes the loss less.

    The parts of a sublayer are not removed one by one, and their effects may cancel: sum_b (sum_removed g_b)^2 is the quadratic
    form of the Fisher matrix with everything off its diagonal. Each removed part, least gradients first, changes places with
    the kept part that lowers it most, if any does.

    Source: Kwon et al. 2022, mask rearrangement; docs/methods/kwon.md §2.3.
    Differs from the authors' code: one pass; each swap is the best for its removed part.
    """
    kept, double = kept.clone(), gradients.double()
    products = double.T @ double
    squares = products.diagonal()
    removed = (~kept).nonzero().flatten()

    # S . g_j for every part j, where S is the sum of the removed parts' gradients.
    along = products[:, removed].sum(dim=1)
    for part in removed[squares[removed].argsort()].tolist():
        # |S - g_i + g_j|^2 - |S|^2 with i = part
        change = squares[part] + squares - 2.0 * along[part] + 2.0 * along - 2.0 * products[part]
        change = change.masked_fill(~kept, torch.inf)
        other = int(change.argmin())
        if change[other] < 0:
            kept[part], kept[other] = True, False
            along += products[:, other] - products[:, part]
    return kept
