"""Labels of classes as data files have them.

A class is a text. A value that is no text stands for what a person would write: 3 and 3.0 for `3`, true for `True`. A text
stays as it is: `01` is no 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import TypeAlias

from espalier.config.blocks import printable

Label: TypeAlias = str | bool | int | float | Decimal
"""A label as a file has it, in Python's types."""
MOST_NAMES = 20
"""So many names stand in a message; the others are counted."""
TRUTHS = {"false": False, "true": True}
"""Spelling in lower case → truth value."""
SPELLINGS = (("False", "false", "FALSE"), ("True", "true", "TRUE"))
"""How files spell false, and true."""
WHOLE = re.compile(r"0|-?[1-9][0-9]*")
"""A whole number as it would be written: no zeros before it, no sign that says nothing."""
WHOLE_WITH_POINT = re.compile(rf"({WHOLE.pattern})\.0+")
"""A whole number in a column of fractions."""
PLAIN_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")


def stated(value: object) -> object:
    """A label without the blanks around it; none where it is an empty text or NaN."""
    if isinstance(value, str):
        return value.strip() or None
    return None if value != value else value  # NaN alone differs from itself


def name_of(label: Label) -> str:
    """The name of a label's class where no names are given."""
    return next(_names(label))


def _names(label: Label) -> Iterator[str]:
    """Names that the class of a label may have, the likeliest first."""
    with_point = WHOLE_WITH_POINT.fullmatch(label) if isinstance(label, str) else None
    number = int(with_point[1]) if with_point else whole_number(label)
    if number is not None and not isinstance(label, str | bool):
        yield str(number)
    yield str(label)

    # the same value in a file of another form
    if number is not None:
        yield from (*(SPELLINGS[number] if number in (0, 1) else ()), str(number), f"{number}.0")


def whole_number(label: Label) -> int | None:
    """The whole number that a label is: 0 or 1 for a truth value; a text only where it is written as numbers are."""
    if isinstance(label, str) and not WHOLE.fullmatch(label):
        truth = TRUTHS.get(label.lower())
        return None if truth is None else int(truth)
    if isinstance(label, float):
        return int(label) if label.is_integer() else None
    return int(label) if isinstance(label, str) or label == int(label) else None


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names of classes in the order that people expect: false before true, 2 before 10, else by the alphabet."""
    distinct = sorted(set(names))
    if {name.lower() for name in distinct} <= TRUTHS.keys():
        spelled = {truth: [name for name in distinct if TRUTHS[name.lower()] == truth] for truth in (False, True)}
        return tuple(forms[0] if len(forms) == 1 else str(truth) for truth, forms in spelled.items() if forms)
    if all(PLAIN_NUMBER.fullmatch(name) for name in distinct):
        return tuple(sorted(distinct, key=Decimal))
    return tuple(distinct)


def mixed_in(names: Iterable[str]) -> tuple[str, str] | None:
    """A truth value and a number that stand among names, if both do: 1 and true may be one class or two."""
    every = list(names)
    truth = next((name for name in every if name.lower() in TRUTHS), None)
    number = next((name for name in every if name in ("0", "1")), None)
    return (truth, number) if truth and number else None


def fraction_in(names: Iterable[str]) -> str | None:
    """The first name with a fraction where all are numbers: they are not names of classes."""
    every = list(names)
    if not all(PLAIN_NUMBER.fullmatch(name) for name in every):
        return None
    return next((name for name in every if name.partition(".")[2].strip("0")), None)


def find_places(
    labels: Sequence[Label], classes: Sequence[str], *, ordered: bool, stored: bool
) -> tuple[list[int | None], bool]:
    """The place of each label's class, None where it has none; and whether the labels were read as places.

    Names come first. Numbers are places where nothing else can be meant: no label is a name, and no name looks like a number.

    Args:
        labels: of all rows.
        classes: names in order.
        ordered: whether the user or the file gave this order.
        stored: whether the file keeps names beside numbers, which then are places.
    """
    distinct = {(type(label), label): label for label in labels}
    places = {name: place for place, name in enumerate(classes)}
    numbers = {key: whole_number(label) for key, label in distinct.items()}
    named = {key: next((places[name] for name in _names(label) if name in places), None) for key, label in distinct.items()}

    free = set(named.values()) <= {None} and not any(map(WHOLE.fullmatch, classes))
    counted = None not in numbers.values() and (
        (ordered and free) or (stored and all(isinstance(label, int) for label in distinct.values()))
    )
    if counted:
        named = {key: number if number in range(len(classes)) else None for key, number in numbers.items()}
    return [named[type(label), label] for label in labels], counted


def some(names: Iterable[str]) -> str:
    """Names for a message on one line, the first ones where there are many."""
    every = [printable(name) for name in names]
    return ", ".join(every[:MOST_NAMES]) + (f" and {len(every) - MOST_NAMES:,} more" if len(every) > MOST_NAMES else "")
