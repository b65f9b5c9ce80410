"""Learning rate and sparsity as plain functions of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

CUTS = 4
"""Equal cuts of the schedule `step` of `remaining`."""


def sparsity_steps(before: float, target: float, steps: int, schedule: Literal["uniform", "geometric", "cubic"]) -> list[float]:
    """Sparsity after each of `steps` removals that lead from `before` to `target`.

    Source: SDP specification, section 3.3 (inferred there): uniform s_k = k/K; geometric r_k = q^k for the fraction that
    remains; cubic s_k = s_K (1 - (1 - k/K)^3), as in Zhu and Gupta 2017, arXiv 1710.01878. Each is continued from
    `before` so that stages follow one another.

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
            values.append(before + (target - before) * done)
        elif schedule == "geometric":
            values.append(1.0 - (1.0 - before) * ((1.0 - target) / (1.0 - before)) ** done)
        else:
            values.append(target + (before - target) * (1.0 - done) ** 3)
    return [*values, target]


def steps_of_epoch(rows: int, batch_size: int) -> int:
    """Optimiser steps in one pass over the rows; the last one may be over fewer."""
    return math.ceil(rows / batch_size)


def interval_bounds(epochs: Sequence[float], steps_per_epoch: int) -> list[int]:
    """Optimiser steps at which learning-rate intervals of these lengths end; each has at least one step."""
    return list(accumulate(max(1, round(length * steps_per_epoch)) for length in epochs))


def learning_rate_factor(step: int, bounds: Sequence[int], warmup: float, schedule: Literal["linear", "constant"]) -> float:
    """Factor in [0, 1] on the peak learning rate at optimiser step `step`, counted from 0.

    Each interval rises linearly from 0 over its first `warmup` fraction, then falls linearly to 0 at its end or stays.
    """
    begin = max((bound for bound in bounds if bound <= step), default=0)
    end = next((bound for bound in bounds if bound > step), bounds[-1])
    length, position = end - begin, step - begin
    warm = round(warmup * length)
    if position < warm:
        return (position + 1) / (warm + 1)
    return 1.0 if schedule == "constant" else max(0.0, (length - position) / max(1, length - warm))


def remaining(step: int, first: int, last: int, schedule: Literal["cubic", "linear", "step"]) -> float:
    """Part of the way from the first widths to the last that is left at a step: 1 up to `first`, 0 from `last` on.

    With it the remaining ratio is r(t) = r_f + (1 - r_f) * remaining.

    Source: HomoDistil specification, section 3.2: cubic (1 - (t - t_i) / (t_f - t_i))^3; section 6, ablation 6 for the others.
    Differs from the authors' code: no code is public.

    Args:
        step: optimiser step, from 0.
        first: t_i, below `last`.
        last: t_f.
        schedule: how it falls.
    """
    done = min(1.0, max(0.0, (step - first) / (last - first)))
    if schedule == "cubic":
        return (1.0 - done) ** 3
    return 1.0 - (done if schedule == "linear" else math.floor(CUTS * done) / CUTS)
