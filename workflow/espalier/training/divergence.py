"""A run whose losses or gradients are no numbers any more is stopped."""

from __future__ import annotations

import math
from collections.abc import Mapping

from espalier.runtime.errors import UserError


def check_finite_step(values: Mapping[str, float], place: str, before: Mapping[str, float], learning_rate: float) -> None:
    """Stop a diverged run.

    Args:
        values: loss terms of a step, and its gradient norm.
        place: the step in words.
        before: the last values that were finite.
        learning_rate: its peak.

    Raises:
        UserError: a loss or the gradient is infinite or not a number; with the step and the last finite values.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            # What was known before tells which term has run away.
            what = "the gradient norm" if name == "gradient_norm" else f"loss term '{name}'"
            known = ", ".join(f"{term} {number:.4g}" for term, number in before.items())
            raise UserError(
                f"training diverged at {place}: {what} is {value}; "
                f"last finite values: {known or 'none'}; lower learning_rate ({learning_rate:g}) or the term's weight"
            )
