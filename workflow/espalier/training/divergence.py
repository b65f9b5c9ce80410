"""What stops a run that has diverged."""

from __future__ import annotations

import math
from collections.abc import Mapping

from espalier.runtime.errors import UserError


def check_terms(values: Mapping[str, float], before: Mapping[str, float], place: str, learning_rate: float) -> None:
    """See that the loss terms of a step, and the norm of its gradient, are finite.

    Args:
        values: name of a term, or gradient_norm → value.
        before: the last values that were finite, for the message.
        place: the step, in words.
        learning_rate: of the run, for the message.

    Raises:
        UserError: one is infinite or not a number.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            what = "the gradient norm" if name == "gradient_norm" else f"loss term '{name}'"
            known = ", ".join(f"{term} {number:.4g}" for term, number in before.items())
            raise UserError(
                f"training diverged at {place}: {what} is {value}; last finite values: {known or 'none'}; "
                f"lower learning_rate ({learning_rate:g}) or the term's weight"
            )
