"""A task's rows: read from files, from the hub or built in, checked once, and brought to one form.

Every table that leaves this module has the columns text_a, text_b (pairs only) and label (not for unlabelled text);
labels are class indices (int64) or finite numbers (float64), and no text is empty. Spans have answers and id instead of a
label. A data row's number in a message counts from 1 and leaves the line of column names out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from espalier.config.blocks import nearest
from espalier.config.data import Task
from espalier.data.builtin import tasks as builtin
from espalier.data.files import check_column, class_names, decoded, files_of, read_file, text_column
from espalier.data.labels import fraction_in, some, stated
from espalier.runtime.errors import UserError


@dataclass(frozen=True)
class Split:
    """The rows of one split as they were found, and where."""

    place: str
    """File or data set and split, for messages."""
    table: pa.Table
    names: tuple[str, ...] | None = None
    """Class names that the source itself declares."""


@dataclass(frozen=True)
class Rows:
    """A task's checked rows."""

    train: pa.Table
    evaluation: dict[str, pa.Table]
    """Evaluation sets in the configured order."""
    classes: tuple[str, ...] | None
    sources: list[dict[str, str]]
    """Where the rows come from: paths with digests, or a data set with its revision."""


def read(name: str, task: Task) -> Rows:
    """All rows of a task, checked.

    Raises:
        UserError: a file, column, row or class is not as it must be.
    """
    if task.source == "builtin":
        return _builtin(name, task)
    splits, sources = _files(task) if task.source == "files" else read_hub(task)
    classes = _classes(task, splits["train"]) if task.kind == "classification" else None
    tables = {split: check(found, task, classes) for split, found in splits.items()}
    if classes:
        _every_class(splits["train"].place, tables["train"], classes)
    return Rows(tables.pop("train"), tables, classes, sources)


def _builtin(name: str, task: Task) -> Rows:
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
    return Rows(tables["train"], {"validation": tables["validation"]}, classes, sources)


def _files(task: Task) -> tuple[dict[str, Split], list[dict[str, str]]]:
    paths, sources = files_of(task)
    tables = {split: read_file(path) for split, path in paths.items()}
    splits = {split: Split(str(paths[split]), table, class_names(table, task.label)) for split, table in tables.items()}
    return splits, sources


def read_hub(task: Task) -> tuple[dict[str, Split], list[dict[str, str]]]:
    """The splits of a data set as they are, memory-mapped, and where they come from."""
    try:
        found = datasets.load_dataset(task.id, name=task.name, revision=task.revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"data set {task.id} at revision {task.revision}: {error}") from error
    splits = {}
    for split, source in {"train": task.train, **task.evaluation_sets}.items():
        if source not in found:
            raise UserError(
                f"data set {task.id}: there is no split '{source}'{nearest(source, list(found))}; {_allowed(found)}"
            )
        table = found[source].with_format("arrow")[:]
        feature = found[source].features.get(task.label)
        names = tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else None
        splits[split] = Split(f"{task.id} split '{source}'", table, names)
    return splits, [{"id": task.id, "name": task.name or "", "revision": task.revision}]


def _classes(task: Task, train: Split) -> tuple[str, ...]:
    """The configured class names, those that the training rows declare, or the distinct training labels, sorted."""
    names = task.classes or train.names
    if names is None:
        found = pc.unique(_labels(stated(_column(train, task.label)))).drop_null()
        if (part := fraction_in(found)) is not None:
            raise UserError(
                f"{train.place}, column '{task.label}': the labels are fractions such as {part}; use kind: regression, "
                "or write class names"
            )
        names = tuple(map(str, sorted(found.to_pylist())))
    if train.table.num_rows and len(names) < 2:
        raise UserError(f"{train.place}, column '{task.label}': got {len(names)} class ({some(names)}); at least 2 are needed")
    return names


def check(split: Split, task: Task, classes: tuple[str, ...] | None) -> pa.Table:
    """The split in the one form that the rest of the pipeline reads.

    Raises:
        UserError: a column is missing, the split is empty, a text is empty, or a label is not allowed.
    """
    columns = [_column(split, name) for name in (*task.text, *filter(None, [task.label]))]
    if split.table.num_rows == 0:
        raise UserError(f"{split.place}: got 0 rows; at least 1 is needed")
    texts = {
        f"text_{letter}": _text(split, name, column) for letter, name, column in zip("ab", task.text, columns, strict=False)
    }
    if task.kind == "text":
        return pa.table(texts)
    if task.kind == "span":
        return pa.table(texts | {"answers": check_answers(split, task, texts["text_b"]), "id": _ids(split)})
    label = _index(split, task, columns[-1], classes) if classes else _number(split, task, columns[-1])
    return pa.table(texts | {"label": label})


def _ids(split: Split) -> pa.ChunkedArray | pa.Array:
    """The column `id` where there is one, else the data rows' numbers."""
    if "id" in split.table.column_names:
        return _column(split, "id").cast(pa.string())
    return pa.array([str(row + 1) for row in range(split.table.num_rows)])


def check_answers(split: Split, task: Task, contexts: pa.ChunkedArray) -> pa.Array:
    """The answers, every one at its place in the context.

    Raises:
        UserError: a question has no answer, or an answer does not stand where it is said to.
    """
    found = _column(split, task.label).to_pylist()
    problems = [answer_problem(each, context) for each, context in zip(found, contexts.to_pylist(), strict=True)]
    _refuse_first(split, task.label, pa.array([problem is not None for problem in problems]), problems.__getitem__)
    return pa.array([{field.name: answers[field.name] for field in builtin.ANSWERS} for answers in found], builtin.ANSWERS)


def answer_problem(answers: object, context: str) -> str | None:
    """What is wrong with the answers to one question, if anything."""
    form = "{text: [...], answer_start: [...]}, two lists of equal length, starts in characters"
    if not isinstance(answers, dict) or not {"text", "answer_start"} <= answers.keys():
        return f"got {answers!r}; needed: {form}"
    texts, starts = answers["text"], answers["answer_start"]
    if not (isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)):
        return f"got {answers!r}; needed: {form}"
    if not texts:
        return "got no answer; every question needs one (SQuAD v1.1's form: questions without an answer are not supported)"
    problems = (_misplaced(text, start, context) for text, start in zip(texts, starts, strict=True))
    return next(filter(None, problems), None)


def _misplaced(text: object, start: object, context: str) -> str | None:
    if not isinstance(text, str) or not text.strip():
        return f"got the answer {text!r}; some text is needed; rows whose answers are kept secret score nothing"
    if not isinstance(start, int) or not 0 <= start < len(context):
        return f"got answer_start {start!r}; allowed: 0 to {len(context) - 1}, a character of the context"
    there = context[start : start + len(text)]
    if there == text:
        return None
    if there.split() == text.split():
        return f"the answer {text!r} differs from the context {there!r} at character {start} in white space; write it as there"
    place = context.find(text)
    where = f"it stands at {place}" if place >= 0 else "it stands nowhere in the context"
    return f"the answer {text!r} does not stand at character {start}, where the context has {there!r}; {where}"


def _column(split: Split, name: str) -> pa.ChunkedArray:
    check_column(split.place, split.table.column_names, name)
    return decoded(split.table[name])


def _text(split: Split, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    if column.null_count < len(column):  # a column without any value may be of any type
        column = text_column(split.place, name, column)
    _refuse_first(split, name, pc.is_null(column), lambda row: "the text is missing; every row needs one")
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0)
    _refuse_first(split, name, blank, lambda row: f"got the empty text {column[row].as_py()!r}; every row needs some text")
    return column


def _index(split: Split, task: Task, column: pa.ChunkedArray, classes: Sequence[str]) -> pa.ChunkedArray:
    """Class indices: names are looked up; integers count from 0 when the order of the classes is declared."""
    if split.names and split.names != tuple(classes) and sorted(split.names) == sorted(classes):
        raise UserError(
            f"{split.place}, column '{task.label}': its numbers stand for {', '.join(split.names)} in this order, "
            f"but the task's classes are {', '.join(classes)}; write them in one order"
        )
    column = stated(column)
    _refuse_first(split, task.label, pc.is_null(column), lambda row: f"the label is missing; {_allowed(classes)}")
    labels = _labels(column)
    counted = pa.types.is_integer(labels.type) and bool(task.classes or split.names)
    allowed = list(range(len(classes))) if counted else list(classes)
    index = pc.index_in(labels if counted else labels.cast(pa.string()), value_set=pa.array(allowed))

    def message(row: int) -> str:
        got = column[row].as_py()
        hint = "; -1 marks rows without a label, as in GLUE's test splits: use a labelled split" if str(got) == "-1" else ""
        place = f"0 to {len(classes) - 1} ({some(classes)})" if counted else some(classes)
        return f"got the label {got!r}, which is outside the classes; allowed: {place}{nearest(got, classes)}{hint}"

    _refuse_first(split, task.label, pc.is_null(index), message)
    return index.cast(pa.int64())


def _labels(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whole numbers where all labels are such, also when written as text; otherwise text."""
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column.cast(pa.string())


def _number(split: Split, task: Task, column: pa.ChunkedArray) -> pa.ChunkedArray:
    def finite(value: Any) -> bool:
        try:
            return math.isfinite(float(value))
        except (TypeError, ValueError):
            return False

    bad = pa.array([not finite(value) for value in column.to_pylist()])
    _refuse_first(split, task.label, bad, lambda row: f"got the label {column[row].as_py()!r}; a finite number is needed")
    return pa.chunked_array([pa.array([float(value) for value in column.to_pylist()], pa.float64())])


def _every_class(place: str, train: pa.Table, classes: Sequence[str]) -> None:
    absent = sorted(set(range(len(classes))) - set(pc.unique(train["label"]).to_pylist()))
    if absent:
        raise UserError(
            f"{place}: no row has the class {some(classes[index] for index in absent)}; every class needs training rows"
        )


def _refuse_first(split: Split, name: str, bad: pa.Array | pa.ChunkedArray, message: Callable[[int], str]) -> None:
    """Refuse the split for the first row that is bad; `message` takes its index."""
    row = pc.index(bad, True).as_py()
    if row >= 0:
        more = pc.sum(bad).as_py() - 1
        also = f" ({more:,} more such row{'s' if more > 1 else ''})" if more else ""
        raise UserError(f"{split.place}, data row {row + 1}, column '{name}': {message(row)}{also}")


def _allowed(names: Iterable[str]) -> str:
    return f"allowed: {some(names)}"
