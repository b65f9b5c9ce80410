"""The learning rate as a plain function of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal


def steps_of_epoch(rows: int, batch_size: int) -> int:
    """Optimiser steps in one pass over the rows; the last one may be over fewer."""
    return math.ceil(rows / batch_size)


def interval_bounds(epochs: Sequence[float], steps_per_epoch: int) -> list[int]:
    """Optimiser steps at which learning-rate intervals of these lengths end; each has at least one step."""
    return list(accumulate(max(1, round(length * steps_per_epoch)) for length in epochs))


def learning_rate_factor(
    step: int,
    bounds: Sequence[int],
    warmup: float,
    schedule: Literal["linear", "constant"],
    decay_ends: Sequence[int] = (),
) -> float:
    """Factor in [0, 1] on the peak learning rate at optimiser step `step`, counted from 0.

    Each interval rises linearly from 0 over its first `warmup` fraction, then falls linearly to 0 at its end or stays.

    Args:
        step: optimiser step.
        bounds: steps at which intervals end.
        warmup: fraction of an interval, in [0, 1].
        schedule: what follows the warm-up.
        decay_ends: steps at which intervals would end by their schedules, where they are cut off before; else none.
    """
    # The interval that holds the step: [begin, end).
    begin = max((bound for bound in bounds if bound <= step), default=0)

    # Its schedule may be made for more steps than it has: then it is cut off on the way down.
    number = next((number for number, bound in enumerate(bounds) if bound > step), len(bounds) - 1)
    length = (decay_ends or bounds)[number] - begin
    position = step - begin

    # Warm-up: (p + 1) / (w + 1), which is above 0 at the first step and 1 just after the last one.
    warm = round(warmup * length)
    if position < warm:
        return (position + 1) / (warm + 1)

    # Linear decay: (n - p) / (n - w), 1 at the end of warm-up and 0 at the end of the interval.
    return 1.0 if schedule == "constant" else max(0.0, (length - position) / max(1, length - warm))
