"""A task's tables: read from files, from the hub or built in, checked once, and brought to one form.

Every table that leaves this module has the columns text_a, text_b (pairs only) and the label columns of its kind of task; no
text is empty. A data row's number in a message counts from 1 and leaves the line of column names out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from espalier.config.blocks import nearest, shortened
from espalier.config.data import Task
from espalier.config.kinds.sides import Side, sides_of
from espalier.data.builtin import tasks as builtin
from espalier.data.files import (
    Column,
    check_column,
    class_names,
    files_of,
    half_a_character,
    plain,
    python_values,
    text_column,
)
from espalier.data.labels import Label, find_places, fraction_in, in_order, mixed_in, name_of, some, stated
from espalier.runtime.errors import UserError


@dataclass(frozen=True)
class SourceTable:
    """The rows of one split as the source has them."""

    place: str
    """File or data set and split, for messages."""
    table: pa.Table
    names: tuple[str, ...] | None = None
    """Class names that the source itself declares."""


@dataclass(frozen=True)
class LabelledTables:
    """The checked tables of a task."""

    train: pa.Table
    evaluation: dict[str, pa.Table]
    """Evaluation sets in the configured order."""
    classes: tuple[str, ...] | None
    sources: list[dict[str, str]]
    """Where the rows come from: digests of files, or a data set with its revision."""

    @property
    def counted_classes(self) -> tuple[str, ...]:
        """The classes where each row has exactly one, in the column `label`; else none."""
        return self.classes if self.classes and "label" in self.train.column_names else ()


@runtime_checkable
class LabelReader(Protocol):
    """What reads the labels of one kind of task; `kinds.base.TaskKind` does."""

    def read_file(self, path: Path, columns: Sequence[str]) -> pa.Table:
        """Columns of a data file that must be there, and those that are read where they are there."""

    def text_columns(self, source: SourceTable, sides: Sequence[Side]) -> dict[str, Column]:
        """The checked columns of a table that hold its texts, given of which columns of the source they are made."""

    def named_classes(self, task: Task, train: SourceTable) -> tuple[str, ...] | None:
        """Names of the classes in order; None where the labels are no classes."""

    def label_columns(
        self, source: SourceTable, task: Task, texts: Mapping[str, Column], classes: tuple[str, ...] | None
    ) -> dict[str, Column]:
        """The checked label columns of a table whose checked texts are given."""


def read_tables(name: str, task: Task, reader: LabelReader) -> LabelledTables:
    """All rows of a task, checked.

    Raises:
        UserError: a file, column, row or class is not as it must be.
    """
    if task.source == "builtin":
        return read_builtin(name, task)

    splits, sources = _files(task, reader) if task.source == "files" else read_hub(task)
    check_counts(name, task, splits)
    classes = reader.named_classes(task, splits["train"])
    tables = {split: checked(source, task, reader, classes) for split, source in splits.items()}

    labelled = LabelledTables(tables.pop("train"), tables, classes, sources)
    _every_class(splits["train"].place, labelled)
    return labelled


def check_counts(name: str, task: Task, splits: Mapping[str, SourceTable]) -> None:
    """Compare the numbers of rows with those that the task says, before any sample is drawn.

    Raises:
        UserError: a split has more or fewer; all such splits are named.
    """
    wanted = task.counts or {}
    other = [
        f"{source.place}: got {source.table.num_rows:,} rows; needed: {wanted[split]:,}"
        for split, source in splits.items()
        if wanted.get(split, source.table.num_rows) != source.table.num_rows
    ]
    if other:
        told = "; ".join(other)
        way_out = "counts: null in the task goes on with these rows, and rows: N takes a sample of them"
        raise UserError(f"task {name}: the numbers of rows are not those of `counts`: {told}; if the rows are right, {way_out}")


def read_builtin(name: str, task: Task) -> LabelledTables:
    """The tables of a built-in task.

    Raises:
        UserError: there is no such task, or its classes are others.
    """
    if name not in builtin.CLASSES:
        known = list(builtin.CLASSES)
        raise UserError(f"task {name}: there is no built-in task of this name{nearest(name, known)}; {_allowed(known)}")
    classes = builtin.CLASSES[name]
    if task.classes and task.classes != classes:
        raise UserError(
            f"task {name}: got classes {', '.join(task.classes)}; its classes are {', '.join(classes or ('none',))}"
        )
    tables = builtin.build(name)
    sources = [{"builtin": name, **builtin.versions()}]
    return LabelledTables(tables["train"], {"validation": tables["validation"]}, classes, sources)


def _files(task: Task, reader: LabelReader) -> tuple[dict[str, SourceTable], list[dict[str, str]]]:
    paths, sources = files_of(task)
    tables = {split: reader.read_file(path, task.columns) for split, path in paths.items()}
    splits = {split: SourceTable(str(paths[split]), table, class_names(table, task.label)) for split, table in tables.items()}
    return splits, sources


def read_hub(task: Task) -> tuple[dict[str, SourceTable], list[dict[str, str]]]:
    """The splits of a data set as they are, memory-mapped, and where they come from."""
    try:
        dataset = datasets.load_dataset(task.id, name=task.name, revision=task.revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"data set {task.id} at revision {task.revision}: {error}") from error
    splits = {}
    for split, source in {"train": task.train, **task.evaluation_sets}.items():
        if source not in dataset:
            raise UserError(
                f"data set {task.id}: there is no split '{source}'{nearest(source, list(dataset))}; {_allowed(dataset)}"
            )
        table = dataset[source].with_format("arrow")[:]
        feature = dataset[source].features.get(task.label)
        feature = getattr(feature, "feature", feature)  # of the items, where rows have lists
        names = tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else None
        splits[split] = SourceTable(f"{task.id} split '{source}'", table, names)
    return splits, [{"id": task.id, "name": task.name or "", "revision": task.revision}]


def classes_in(task: Task, train: SourceTable) -> tuple[str, ...]:
    """The configured class names, those that the training rows declare, or the distinct training labels, sorted."""
    names = task.classes or train.names
    if names is None:
        names = _distinct(train, task)
    if train.table.num_rows and len(names) < 2:
        raise UserError(f"{train.place}, column '{task.label}': got {len(names)} class ({some(names)}); at least 2 are needed")
    return names


def _distinct(train: SourceTable, task: Task) -> tuple[str, ...]:
    """The classes that the training labels name, in order."""
    return distinct_classes(f"{train.place}, column '{task.label}'", labels_of(train, task))


def distinct_classes(place: str, labels: Iterable[Label | None]) -> tuple[str, ...]:
    """The classes that labels name, in order.

    Raises:
        UserError: they are fractions, or truth values and numbers.
    """
    names = list(dict.fromkeys(name_of(label) for label in labels if label is not None))
    if (part := fraction_in(names)) is not None:
        raise UserError(f"{place}: the labels are fractions such as {part}; use kind: regression, or write class names")
    if both := mixed_in(names):
        raise UserError(f"{place}: the labels are truth values and numbers, such as {' and '.join(both)}; write one of both")
    return in_order(names)


def checked(source: SourceTable, task: Task, reader: LabelReader, classes: tuple[str, ...] | None) -> pa.Table:
    """The table in the one form that the rest of the pipeline reads.

    Raises:
        UserError: a column is missing, the table is empty, a text is empty, or a label is not allowed.
    """
    # all columns before any row: a wrong name is the likelier mistake
    for name in task.columns:
        column_of(source, name)

    texts = reader.text_columns(source, sides_of(task.text, task.template))
    return pa.table({**texts, **reader.label_columns(source, task, texts, classes)})


def checked_texts(source: SourceTable, sides: Sequence[Side]) -> dict[str, Column]:
    """The columns text_a and, for two texts a row, text_b of a table.

    Args:
        source: the table as the user's file has it.
        sides: of which columns the texts are made (config/kinds/sides.py).

    Raises:
        UserError: a column is missing, the table is empty, or a text is empty.
    """
    columns = {name: column_of(source, name) for side in sides for name in side.columns}
    if source.table.num_rows == 0:
        raise UserError(f"{source.place}: got 0 rows; at least 1 is needed")

    texts: dict[str, Column] = {}
    for letter, side in zip("ab", sides, strict=False):
        own = {name: columns[name] for name in side.columns}
        texts[f"text_{letter}"] = _text(source, *own.popitem()) if side.plain else _joined(source, side, own)
    return texts


def ids_of(source: SourceTable) -> Column:
    """The column `id` where there is one with a text or a whole number in every row, else the data rows' numbers."""
    if source.table.column_names.count("id") == 1:
        values = python_values(source.place, "id", source.table["id"])
        if all(type(value) in (str, int) and not half_a_character(value) for value in values):
            return pa.array(map(str, values), pa.string())
    return pa.array([str(row + 1) for row in range(source.table.num_rows)])


def column_of(source: SourceTable, name: str) -> pa.ChunkedArray:
    """A column of the source, with plain values.

    Raises:
        UserError: there is none of this name, or several.
    """
    check_column(source.place, source.table.column_names, name)
    return plain(source.table[name])


def _text(source: SourceTable, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    column = text_column(source.place, name, column)
    refuse_first(source, name, pc.is_null(column), lambda row: "the text is missing; every row needs one")
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0)
    refuse_first(
        source, name, blank, lambda row: f"got the empty text {shortened(column[row].as_py())}; every row needs some text"
    )
    return column


def _joined(source: SourceTable, side: Side, columns: Mapping[str, pa.ChunkedArray]) -> Column:
    """One text a row from several columns, or from one in a template; some of several may be empty, but not all of them."""
    texts = {name: text_column(source.place, name, column).to_pylist() for name, column in columns.items()}
    rows = [{name: values[row] or "" for name, values in texts.items()} for row in range(source.table.num_rows)]
    blank = pa.array([not any(text.strip() for text in row.values()) for row in rows], pa.bool_())
    refuse_first(source, some(columns), blank, lambda row: "got no text; every row needs some text in one of these columns")
    return pa.array(map(side.made, rows), pa.string())


def labels_of(source: SourceTable, task: Task) -> list[Label | None]:
    """The labels as Python has them, without the blanks around a text; None where one is missing.

    Raises:
        UserError: one is no text, number or truth value.
    """
    labels: list[Any] = [stated(value) for value in python_values(source.place, task.label, column_of(source, task.label))]
    problems = [label_problem(label) for label in labels]
    bad = pa.array([problem is not None for problem in problems], pa.bool_())
    refuse_first(source, task.label, bad, lambda row: str(problems[row]))
    return labels


def label_problem(label: object) -> str | None:
    """What is wrong with the form of a label, if anything; none is no problem here."""
    if isinstance(label, Label | None) and not half_a_character(label):
        return None
    got = f"{'half of a character in ' if half_a_character(label) else ''}{shortened(label)}"
    return f"got the label {got}; a text, a number, true or false is needed"


def class_indices(source: SourceTable, task: Task, classes: Sequence[str]) -> pa.Array:
    """Class indices: names are looked up; numbers count from 0 when the order of the classes is declared.

    Raises:
        UserError: a label is missing or outside the classes, or the source's numbers stand for another order of them.
    """
    same_order(source, task, classes)
    labels = labels_of(source, task)
    missing = pa.array([label is None for label in labels], pa.bool_())
    refuse_first(source, task.label, missing, lambda row: f"the label is missing; {_allowed(classes)}")
    index, counted = find_places(labels, classes, ordered=bool(task.classes or source.names), stored=bool(source.names))

    outside = pa.array([place is None for place in index], pa.bool_())
    refuse_first(source, task.label, outside, lambda row: outside_classes(labels[row], classes, counted))
    return pa.array(index, pa.int64())


def outside_classes(label: object, classes: Sequence[str], counted: bool) -> str:
    """What to say of a label that is none of the classes; `counted` says whether labels were read as places."""
    hint = "; -1 marks rows without a label, as in GLUE's test splits: use a labelled split" if str(label) == "-1" else ""
    place = f"0 to {len(classes) - 1} ({some(classes)})" if counted else some(classes)
    near = nearest(shortened(str(label)).strip("'"), classes)
    return f"got the label {shortened(label)}, which is outside the classes; allowed: {place}{near}{hint}"


def same_order(source: SourceTable, task: Task, classes: Sequence[str]) -> None:
    """Refuse numbers that stand for a class which has another place in the task."""
    moved = {name for place, name in enumerate(source.names or ()) if name in classes and place != classes.index(name)}
    if moved:
        raise UserError(
            f"{source.place}, column '{task.label}': its numbers stand for {some(source.names or ())} in this order, "
            f"but the task's classes are {some(classes)}; write them in one order"
        )


def finite_numbers(source: SourceTable, task: Task) -> pa.Array:
    """The labels as real numbers.

    Raises:
        UserError: one is no finite number.
    """
    values = python_values(source.place, task.label, column_of(source, task.label))
    numbers = [_number(value) for value in values]
    bad = pa.array([number is None for number in numbers], pa.bool_())
    refuse_first(source, task.label, bad, lambda row: f"got the label {shortened(values[row])}; a finite number is needed")
    return pa.array(numbers, pa.float64())


def _number(value: object) -> float | None:
    """A value as a finite number, if it is one; truth values are none, nor is 1_000, although Python reads it."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal) or "_" in str(value):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _every_class(place: str, tables: LabelledTables) -> None:
    classes = tables.counted_classes
    if not classes:
        return

    absent = sorted(set(range(len(classes))) - set(pc.unique(tables.train["label"]).to_pylist()))
    if absent:
        raise UserError(
            f"{place}: no row has the class {some(classes[index] for index in absent)}; every class needs training rows"
        )


def refuse_first(source: SourceTable, name: str, bad: pa.Array | pa.ChunkedArray, message: Callable[[int], str]) -> None:
    """Refuse the split for the first row that is bad; `message` takes its index."""
    row = pc.index(bad, True).as_py()
    if row >= 0:
        more = pc.sum(bad).as_py() - 1
        also = f" ({more:,} more such row{'s' if more > 1 else ''})" if more else ""
        raise UserError(f"{source.place}, data row {row + 1}, column '{name}': {message(row)}{also}")


def _allowed(names: Iterable[str]) -> str:
    return f"allowed: {some(names)}"
