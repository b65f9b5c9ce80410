"""A row's one or two texts, its sides, made of up to four columns: joined, or by a template. No torch here.

Without a template the first column stands alone and the others are joined beside it, as the two texts of a tokenizer's pair
form. A template such as `{title}: {body}` names the columns of a side in braces; `{{` and `}}` stand for braces themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

JOINED_BY = " | "
"""What stands between columns that no template joins: one token of its own in every usual vocabulary."""
_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|([{}])")
"""Two braces, a name in braces, or a brace that is alone."""


class Side(NamedTuple):
    """One text of a row."""

    columns: tuple[str, ...]
    """Columns of the text, in the order in which they stand."""
    parts: tuple[str, ...] = ()
    """A template taken apart: literal text and names of columns in turn, literal text first and last. Empty without one."""

    @property
    def plain(self) -> bool:
        """Whether the text is a column as it is."""
        return len(self.columns) == 1 and self.parts in ((), ("", self.columns[0], ""))

    def renamed(self, names: Mapping[str, str]) -> Side:
        """This side with other names of its columns."""
        parts = (names[part] if place % 2 else part for place, part in enumerate(self.parts))
        return Side(tuple(names[name] for name in self.columns), tuple(parts))

    def made(self, row: Mapping[str, str]) -> str:
        """The text of a row: column → its text. Where no template says more, columns without text are left out."""
        if not self.parts:
            return JOINED_BY.join(row[name] for name in self.columns if row[name].strip())
        return "".join(row[part] if place % 2 else part for place, part in enumerate(self.parts))

    def code(self, row: str) -> str:
        """A Python expression for what `made` gives; the dictionary of the name `row` holds the columns."""
        if self.plain:
            return f"{row}[{self.columns[0]!r}]"
        if not self.parts:
            texts = ", ".join(f"{row}[{name!r}]" for name in self.columns)
            return f"{JOINED_BY!r}.join(text for text in ({texts}) if text.strip())"
        pieces = [f"{row}[{part!r}]" if place % 2 else repr(part) for place, part in enumerate(self.parts)]
        return " + ".join(piece for piece in pieces if piece != "''")


def sides_of(text: Sequence[str], template: Sequence[str] | None = None) -> tuple[Side, ...]:
    """The one or two sides of a task's rows.

    Args:
        text: names of the text columns.
        template: one template a side, if there are any; `template_problem` finds none in them.
    """
    if template is not None:
        sides = [tuple(_parts(side)) for side in template]
        return tuple(Side(tuple(dict.fromkeys(parts[1::2])), parts) for parts in sides)
    first, *others = text
    return (Side((first,)), *([Side(tuple(others))] if others else []))


def template_problem(text: Sequence[str], template: Sequence[str]) -> str | None:
    """What is wrong with templates; None if nothing: they must name all text columns and nothing else, each side one."""
    for side in template:
        if alone := next((match[2] for match in _PART.finditer(side) if match[2]), None):
            return f"{side!r} has a single {alone!r}; write {2 * alone!r} for the sign itself"
        named = _parts(side)[1::2]
        if not named:
            return f"{side!r} names no column; write its name in braces, such as {{{text[0]}}}"
        if unknown := next((name for name in named if name not in text), None):
            return f"{side!r} names {unknown!r}, which is no text column; allowed: {', '.join(text)}"

    used = {name for side in template for name in _parts(side)[1::2]}
    if unused := next((name for name in text if name not in used), None):
        return f"no side names the text column {unused!r}"
    return None


def _parts(side: str) -> list[str]:
    """Literal text and names in turn."""
    parts, end = [""], 0
    for match in _PART.finditer(side):
        parts[-1] += side[end : match.start()]
        end = match.end()
        if match[1] is None:
            parts[-1] += match[0][0]
        else:
            parts += [match[1], ""]
    parts[-1] += side[end:]
    return parts
