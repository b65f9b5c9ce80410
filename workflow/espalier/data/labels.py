"""Labels of classes as data files have them."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

MOST_NAMES = 20
"""So many names stand in a message; the others are counted."""


def stated(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Labels without the blanks around them; an empty text and NaN are missing labels."""
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), None, column)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def fraction_in(labels: pa.Array) -> float | None:
    """The first label with a fraction where all are numbers: they are not names of classes."""
    try:
        numbers = labels.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    fractions = numbers.filter(pc.and_(pc.is_finite(numbers), pc.not_equal(numbers, pc.floor(numbers))))
    return fractions[0].as_py() if len(fractions) else None


def some(names: Iterable[str]) -> str:
    """Names for a message, the first ones where there are many."""
    every = list(names)
    return ", ".join(every[:MOST_NAMES]) + (f" and {len(every) - MOST_NAMES:,} more" if len(every) > MOST_NAMES else "")
