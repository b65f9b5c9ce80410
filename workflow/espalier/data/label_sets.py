"""Several labels a row, in the three forms that files have: a list, one text with a sign between labels, or a column of 0 and
1 for every class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from espalier.config.blocks import nearest, shortened
from espalier.config.data import Task
from espalier.data.files import half_a_character, python_values
from espalier.data.labelled import Column, SourceTable, column_of, distinct_classes, refuse_first
from espalier.data.labels import Label, find_places, some, stated
from espalier.runtime.errors import UserError

YES_OR_NO = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}
"""Spelling in lower case → whether a class belongs to a row."""


def label_classes(source: SourceTable, task: Task) -> tuple[str, ...]:
    """The configured names, those that the training rows declare, or the distinct labels of all rows, in order.

    Raises:
        UserError: a label is no label, or there are fewer than two classes.
    """
    where = f"{source.place}, column '{task.label}'"
    names = task.classes or source.names
    if names is None:
        names = distinct_classes(where, [label for row in _lists(source, task) for label in row])
    if len(names) < 2:
        raise UserError(f"{where}: got {len(names)} class ({some(names)}); at least 2 are needed")
    return names


def label_matrix(source: SourceTable, task: Task, classes: Sequence[str]) -> pa.Array:
    """For every row a list with 1 for each class that it has and 0 for the others.

    Raises:
        UserError: a label is missing, outside the classes, or neither yes nor no.
    """
    if not task.label:
        columns = [_yes_or_no(source, name) for name in classes]
        return pa.array(list(map(list, zip(*columns, strict=True))), pa.list_(pa.int8()))

    rows = _lists(source, task)
    flat = [label for row in rows for label in row]
    places, counted = find_places(flat, classes, ordered=bool(task.classes or source.names), stored=bool(source.names))
    following = iter(places)
    indices = [[next(following) for _ in row] for row in rows]

    def outside(row: int) -> str:
        got = next(label for label, place in zip(rows[row], indices[row], strict=True) if place is None)
        allowed = f"0 to {len(classes) - 1} ({some(classes)})" if counted else some(classes)
        near = nearest(shortened(str(got)).strip("'"), classes)
        return f"got the label {shortened(got)}, which is outside the classes; allowed: {allowed}{near}"

    refuse_first(source, task.label, _marked(None in row for row in indices), outside)
    refuse_first(source, task.label, _marked(len({*row}) < len(row) for row in indices), lambda row: _twice(rows[row]))
    matrix = [[int(place in {*row}) for place in range(len(classes))] for row in indices]
    return pa.array(matrix, pa.list_(pa.int8()))


def _lists(source: SourceTable, task: Task) -> list[list[Label]]:
    """The labels of every row, without the blanks around them; a row may have none."""
    values = python_values(source.place, task.label, column_of(source, task.label))
    empty = "an empty list" if task.separator is None else "an empty text"
    missing = _marked(value is None for value in values)
    refuse_first(source, task.label, missing, lambda row: f"the labels are missing; a row without labels has {empty}")

    if task.separator is None:
        needed = "a list of labels is needed; where a sign stands between labels, name it as separator"
        refuse_first(source, task.label, _marked(not isinstance(value, list) for value in values), _got(values, needed))
        rows = values
    else:
        refuse_first(
            source, task.label, _marked(not isinstance(value, str) for value in values), _got(values, "a text is needed")
        )
        rows = [value.split(task.separator) if value.strip() else [] for value in values]

    rows = [[stated(label) for label in row] for row in rows]
    bad = _marked(any(not isinstance(label, Label) or half_a_character(label) for label in row) for row in rows)
    refuse_first(source, task.label, bad, _got(values, "every label must be a text, a number, true or false, and not empty"))
    return rows


def _yes_or_no(source: SourceTable, name: str) -> list[int]:
    """A column of 0 and 1."""
    values = [stated(value) for value in python_values(source.place, name, column_of(source, name))]
    marks = [None if value is None else YES_OR_NO.get(str(value).lower()) for value in values]

    def message(row: int) -> str:
        hint = "; -1 may mark rows that nobody labelled: use a labelled split" if str(values[row]) == "-1" else ""
        got = "the label is missing" if values[row] is None else f"got {shortened(values[row])}"
        return f"{got}; 1 is needed where a row has the class, else 0{hint}"

    refuse_first(source, name, _marked(mark is None for mark in marks), message)
    return [mark for mark in marks if mark is not None]


def _twice(row: Sequence[Label]) -> str:
    return f"got a label twice in {shortened(list(row))}; every label may stand once"


def _got(values: Sequence[Any], needed: str) -> Any:
    """A message for a row whose value is not what is needed."""
    return lambda row: f"got {shortened(values[row])}; {needed}"


def _marked(bad: Any) -> Column:
    return pa.array(list(bad), pa.bool_())
