"""What the sizes of sublayers cost under a budget, and how a choice of sizes is brought to a budget exactly.

Source: ZipLM (Kurtic, Frantar, Alistarh 2023, arXiv 2302.04089); docs/methods/obs.md §2.5 and 2.7.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from espalier.pruning.budget import LatencyBudget, SizeBudget, close_until
from espalier.pruning.parts import masks_of
from espalier.pruning.second_order.levels import Options, head_counts, unit_counts
from espalier.pruning.second_order.outputs import OutputMatrix


def allowed_cost(budget: SizeBudget | LatencyBudget) -> float:
    """What all sublayers together may cost: milliseconds or weights.

    Source: docs/methods/obs.md §2.5: dense latency / target - (dense latency - latency of the sublayers).
    Differs from the authors' code: no code is public; sizes are budgets, too.
    """
    # Embeddings and head take their time whatever the sublayers are.
    if isinstance(budget, LatencyBudget):
        return budget.latency.target_ms - budget.latency.table.rest_ms
    return budget.dense * (1.0 - budget.target)


def options_of(matrix: OutputMatrix, budget: SizeBudget | LatencyBudget) -> Options:
    """The sizes that a sublayer may have, with costs in the budget's unit and the errors that its removal has found."""
    sizes = head_counts(matrix.parts) if matrix.kind == "attention" else unit_counts(matrix.parts)
    counts = torch.tensor(sizes, dtype=torch.float64)

    # Milliseconds are read from the table's curves; weights are counted, hidden x (weights for each hidden dimension).
    if isinstance(budget, LatencyBudget):
        curve = budget.latency.table.attention if matrix.kind == "attention" else budget.latency.table.ffn
        costs = curve.at(counts)
    else:
        costs = budget.shape.hidden * counts * (budget.head_weights if matrix.kind == "attention" else budget.unit_weights)

    gone = matrix.parts - counts.long()
    return Options(np.array(sizes), costs.numpy(), matrix.removal.errors[gone].numpy())


def landed(
    matrices: Sequence[OutputMatrix], counts: Sequence[int], coefficients: Float[Tensor, " sublayers"], budget: SizeBudget
) -> list[int]:
    """Sizes of exactly the budget: of FFNs that stay, units go or come back one at a time, the cheapest by its error.

    Source: ours; docs/methods/obs.md §2.7.
    Differs from the authors' code: no code is public.

    Args:
        matrices: of all sublayers.
        counts: parts that each keeps by the dynamic programme.
        coefficients: how much the errors of each sublayer count.
        budget: the size to meet.
    """
    # Binary gates, as the programme has decided; those of a sublayer that is gone are all closed.
    values = {
        matrix.name: matrix.kept(count).float() if count else torch.zeros(matrix.parts)
        for matrix, count in zip(matrices, counts, strict=True)
    }
    soft = {name: torch.ones_like(value) for name, value in values.items()}

    order = _closing_order(matrices, counts, coefficients)
    gates = close_until(values, soft, order, budget.shape, budget, budget.target)
    masks = masks_of(gates, budget.shape)
    return [int(masks[matrix.name].sum()) for matrix in matrices]


def _closing_order(
    matrices: Sequence[OutputMatrix], counts: Sequence[int], coefficients: Float[Tensor, " sublayers"]
) -> list[tuple[str, int]]:
    """Units of FFNs that stay: first those that are gone, then the others, each by what it adds to the error."""
    ranked = []
    for matrix, count, coefficient in zip(matrices, counts, coefficients.tolist(), strict=True):
        if matrix.kind != "ffn" or not count:
            continue

        # Never falling within a sublayer, so that its units keep the order in which the second order removes them.
        added = coefficient * matrix.removal.errors.diff().cummax(dim=0).values
        for place, unit in enumerate(matrix.removal.order.tolist()):
            stays = place >= matrix.parts - count
            ranked.append((stays, float(added[place]), place, matrix.name, unit))
    return [(name, unit) for _, _, _, name, unit in sorted(ranked)]
