"""What a key of the configuration means: sentence, unit and origin, read from the docstring under the field.

A field's docstring ends with brackets that hold a unit, the origin of the default, or both: `[unit; origin: remark]`. This is
the only place where a key is explained. The reference page and the schema for editors are generated from it. It is text
rather than `Field(…)` because docstrings are not part of a code digest: a better sentence runs no job again.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pydantic import BaseModel

ORIGINS = {
    "paper": "stated in the paper of the method",
    "public code": "taken from published code, of the paper's authors unless the method says otherwise",
    "inferred": "not in the paper; our reading of it",
    "common": "usual in the literature",
    "ours": "decided in this project",
}
"""Where a default comes from."""

_BRACKETS = re.compile(
    r"\s*\[(?:(?P<unit>[^];:]+?)(?:; |(?=\])))??"
    rf"(?:(?P<origin>{'|'.join(ORIGINS)})(?:: (?P<remark>[^]]+))?)?\]$"
)


class Explanation(NamedTuple):
    """What is said about a key."""

    sentence: str
    unit: str | None = None
    """What the value counts or names."""
    origin: str | None = None
    """One of ORIGINS; None for required keys, which have no default."""
    remark: str | None = None
    """What else there is to know about the origin."""


def explanation(block: type[BaseModel], key: str) -> Explanation:
    """The explanation of one key of a block."""
    return read_explanation(block.model_fields[key].description or "")


def read_explanation(docstring: str) -> Explanation:
    """A field's docstring, taken apart.

    >>> read_explanation("Training with gates. [epochs; paper: 19 for large tasks]")
    Explanation(sentence='Training with gates.', unit='epochs', origin='paper', remark='19 for large tasks')
    """
    text = " ".join(docstring.split())
    brackets = _BRACKETS.search(text)
    if brackets is None:
        return Explanation(text)
    return Explanation(text[: brackets.start()], **brackets.groupdict())


def as_sentences(docstring: str) -> str:
    """A field's docstring for readers who see no table: the brackets become sentences."""
    sentence, unit, origin, remark = read_explanation(docstring)
    unit_said = f" Unit: {unit}." if unit else ""
    origin_said = f" Origin of the default: {origin}{f' ({remark})' if remark else ''}." if origin else ""
    return f"{sentence}{unit_said}{origin_said}"
