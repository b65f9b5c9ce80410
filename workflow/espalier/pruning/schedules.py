"""How sparsity rises over the steps of a stage: plain functions of the step."""

from __future__ import annotations

import math
from typing import Literal

CUTS = 4
"""Number of equal cuts in the schedule `step` of `remaining`."""


def sparsity_steps(before: float, target: float, steps: int, schedule: Literal["uniform", "geometric", "cubic"]) -> list[float]:
    """Sparsity after each of `steps` removals that lead from `before` to `target`.

    Source: docs/methods/sdp.md §3.3 (inferred there): uniform s_k = k/K; geometric r_k = q^k for the fraction that
    remains; cubic s_k = s_K (1 - (1 - k/K)^3), as in Zhu and Gupta 2017, arXiv 1710.01878. Every schedule begins at
    `before` instead of 0, so that stages follow one another.

    Args:
        before: sparsity at the start of the stage, in [0, 1).
        target: sparsity at its end, in [before, 1).
        steps: number of removals, at least 1.
        schedule: how sparsity rises.

    Returns:
        Ascending sparsities; the last one is exactly `target`.
    """
    values = []
    for k in range(1, steps):
        done = k / steps
        if schedule == "uniform":
            # s_k = s_0 + (s_K - s_0) k/K
            values.append(before + (target - before) * done)
        elif schedule == "geometric":
            # r_k = r_0 q^k with r = 1 - s and q = (r_K / r_0)^(1/K)
            values.append(1.0 - (1.0 - before) * ((1.0 - target) / (1.0 - before)) ** done)
        else:
            # s_k = s_K + (s_0 - s_K) (1 - k/K)^3
            values.append(target + (before - target) * (1.0 - done) ** 3)

    # The last one without rounding errors.
    return [*values, target]


def remaining(step: int, first: int, last: int, schedule: Literal["cubic", "linear", "step"]) -> float:
    """Fraction of the way from the first widths to the final ones that is still ahead: 1 up to `first`, 0 from `last` on.

    The ratio of widths that remains is r(t) = r_f + (1 - r_f) * remaining.

    Source: docs/methods/homodistil.md §3.2: cubic (1 - (t - t_i) / (t_f - t_i))^3; section 6, ablation 6 for the others.
    Differs from the authors' code: no code is public.

    Args:
        step: optimiser step, from 0.
        first: t_i, below `last`.
        last: t_f.
        schedule: how the fraction falls.
    """
    done = min(1.0, max(0.0, (step - first) / (last - first)))

    if schedule == "cubic":
        return (1.0 - done) ** 3
    if schedule == "linear":
        return 1.0 - done
    return 1.0 - math.floor(CUTS * done) / CUTS
