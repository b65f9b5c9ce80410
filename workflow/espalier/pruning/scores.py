"""Importance scores of single weights: larger is kept."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def magnitude(weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """|w|.

    Source: Han et al. 2015, arXiv 1506.02626; docs/methods/sdp.md §3.2.
    Differs from the authors' code: nothing.
    """
    return weight.detach().abs()


def movement_update(weight: Float[Tensor, "..."], gradient: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """What one step adds to a weight's movement score: -w dL/dw, positive where training moves w away from zero.

    Source: Sanh et al. 2020, arXiv 2005.07683, eq. 4 (S accumulates -alpha w dL/dw).
    Differs from the authors' code: scores are summed as in the equation, where the code trains them with Adam.
    """
    # Gradient descent moves w by -alpha dL/dw; that has the sign of w where -w dL/dw > 0.
    return -(weight.detach() * gradient)


def keep_highest(scores: Float[Tensor, "..."], removed: int) -> torch.Tensor:
    """Mask, True = kept, that removes exactly `removed` entries with the lowest scores; among equal scores the first ones.

    Args:
        scores: any shape; -inf for entries that are removed already, so that masks nest.
        removed: number of entries to remove, from 0 to all.
    """
    if removed <= 0:
        return torch.ones_like(scores, dtype=torch.bool)

    # The largest score that goes; no full sort is needed for it.
    flat = scores.flatten()
    threshold = flat.kthvalue(removed).values
    kept = flat > threshold

    # Entries that equal the threshold: the last ones stay, as many as are missing to the exact number.
    spare = flat.numel() - removed - int(kept.sum())
    ties = (flat == threshold).nonzero().flatten()
    kept[ties[len(ties) - spare :]] = True
    return kept.view_as(scores)
