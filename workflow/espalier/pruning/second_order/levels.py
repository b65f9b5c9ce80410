"""Which sizes a sublayer may have, and the choice of one for every sublayer under a budget.

Source: ZipLM (Kurtic, Frantar, Alistarh 2023, arXiv 2302.04089) and SPDY (Frantar, Alistarh 2022, arXiv 2201.13096);
docs/methods/obs.md §2.4 and 2.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

SHRINKAGE = 0.9
"""Each FFN width is this fraction of the one before."""
SMALLEST = 0.01
"""Fraction of the whole width below which there is no further one but 0."""
WIDTH_STEP = 8
"""FFN widths are multiples of this number where they are above 64: other widths compute slowly."""
BUCKETS = 10_000
"""Parts into which a budget is divided: the choice is exact to one of them for each sublayer."""


class Options(NamedTuple):
    """The sizes that one sublayer may have."""

    sizes: Int[np.ndarray, " levels"]
    """Parts that are kept: the whole sublayer first, 0 last."""
    costs: Float[np.ndarray, " levels"]
    """What each size costs, in the unit of the budget."""
    errors: Float[np.ndarray, " levels"]
    """What each size does to what the sublayer writes: 0 for the whole one."""


def head_counts(heads: int) -> list[int]:
    """All heads, one fewer, and so on down to none."""
    return list(range(heads, -1, -1))


def unit_counts(units: int) -> list[int]:
    """The whole width times 0.9^i down to 1 %, then 0.

    Source: docs/methods/obs.md §2.4.
    Differs from the authors' code: no code is public; large widths are multiples of 8.
    """
    counts, width = [units], SHRINKAGE * units
    while width >= max(1.0, SMALLEST * units):
        count = WIDTH_STEP * round(width / WIDTH_STEP) if width > WIDTH_STEP**2 else round(width)

        # In a narrow FFN two widths may round to one.
        if 0 < count < counts[-1]:
            counts.append(count)
        width *= SHRINKAGE
    return [*counts, 0]


def best_levels(options: Sequence[Options], coefficients: Sequence[float], allowed: float) -> list[int] | None:
    """The level of each sublayer that makes the sum of coefficient x error least at a cost of at most what is allowed.

    A dynamic programme over the budget in equal parts. Costs are rounded up to parts, so that the choice never costs too much.

    Source: SPDY (Frantar, Alistarh 2022, arXiv 2201.13096); docs/methods/obs.md §2.5.
    Differs from the authors' code: nothing that changes the choice.

    Args:
        options: sizes, costs and errors of every sublayer.
        coefficients: how much the errors of each sublayer count.
        allowed: the budget.

    Returns:
        An index into the sizes of each sublayer; None where no choice is cheap enough.
    """
    # least[b]: the least sum of errors over the sublayers so far at a cost of at most b parts.
    least = np.zeros(BUCKETS + 1)
    choices = []
    for sublayer, coefficient in zip(options, coefficients, strict=True):
        parts = _in_parts(sublayer.costs, allowed)
        best, choice = np.full(BUCKETS + 1, np.inf), np.zeros(BUCKETS + 1, dtype=int)
        for level, cost in enumerate(parts):
            if cost > BUCKETS:
                continue
            # sums[b]: this level on top of the best choice that costs b less what the level costs.
            sums = least[: BUCKETS + 1 - cost] + coefficient * sublayer.errors[level]
            better = sums < best[cost:]
            best[cost:][better], choice[cost:][better] = sums[better], level
        least = best
        choices.append((choice, parts))

    return _followed_back(choices) if np.isfinite(least[-1]) else None


def _in_parts(costs: Float[np.ndarray, " levels"], allowed: float) -> Int[np.ndarray, " levels"]:
    """Costs in parts of the budget, rounded up; where nothing is allowed, whatever costs something is too dear."""
    if allowed <= 0:
        return np.where(costs > 0, BUCKETS + 1, 0)

    # A cost of exactly so many parts must not be rounded up to one more, as its last bit may say.
    return np.ceil(costs * (BUCKETS / allowed) - 1e-9).astype(int)


def _followed_back(choices: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[int]:
    """The levels that led to the least sum, from the last sublayer to the first."""
    levels, bucket = [], BUCKETS
    for choice, parts in reversed(choices):
        levels.append(int(choice[bucket]))
        bucket -= int(parts[levels[-1]])
    return levels[::-1]


def searched_coefficients(
    loss: Callable[[Float[Tensor, " sublayers"]], float],
    sublayers: int,
    generator: torch.Generator,
    *,
    random: int,
    mutations: int,
    share: float,
) -> tuple[Float[Tensor, " sublayers"], float]:
    """The coefficients under which the chosen model has the least loss: the best of some random ones, then local changes.

    Errors of single sublayers do not say how much each of them matters to the model. Coefficients do, and whether they are
    right is seen when the model that they choose is run.

    Source: SPDY (Frantar, Alistarh 2022, arXiv 2201.13096); docs/methods/obs.md §2.6.
    Differs from the authors' code: the first coefficients that are tried are all 1.

    Args:
        loss: of the model that some coefficients choose; infinite where they choose none.
        sublayers: how many coefficients there are.
        generator: of all draws.
        random: vectors that are drawn at random.
        mutations: changes of the best vector that are tried.
        share: probability with which a change draws each coefficient anew, in (0, 1].

    Returns:
        The best coefficients, in [0, 1], and their loss.
    """
    best = torch.ones(sublayers, dtype=torch.float64)
    least = loss(best)

    for trial in range(random + mutations):
        drawn = torch.rand(sublayers, generator=generator, dtype=torch.float64)
        changed = torch.rand(sublayers, generator=generator) < share

        # At first all coefficients are drawn anew, then some of the best ones.
        candidate = drawn if trial < random else torch.where(changed, drawn, best)
        if (reached := loss(candidate)) < least:
            best, least = candidate, reached
    return best, least
