"""Reading data files: parquet, csv, tsv and jsonl, with refusals that name the file and the row.

csv is read with the usual quoting; tsv is split at tabs and nothing else, as GLUE's files are made. Both have a line
of column names and are UTF-8. Only the columns that are asked for are read, so the others may hold anything.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from espalier.config.blocks import nearest, shortened
from espalier.config.data import Task
from espalier.data.labels import some
from espalier.runtime.errors import UserError
from espalier.runtime.files import sha256

Column: TypeAlias = pa.Array | pa.ChunkedArray
LONGEST_NUMBER = 4000
"""Digits; Python reads a few more, and longer ones are kept as text."""


class MixedType(pa.ExtensionType):
    """Type of a jsonl column whose values have no type in common: each is kept as JSON."""

    def __init__(self) -> None:
        super().__init__(pa.string(), "espalier.mixed")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> MixedType:
        return cls()


def files_of(task: Task) -> tuple[dict[str, Path], list[dict[str, str]]]:
    """The file of each split of a task, the training rows first, and the digests of their contents.

    Raises:
        UserError: a file is missing.
    """
    paths = {split: Path(path) for split, path in {"train": task.train, **task.evaluation_sets}.items()}
    for split, path in paths.items():
        if not path.is_file():
            raise UserError(f"{path}: there is no such file (the {split} rows of the task); looked in {Path.cwd()}")
    return paths, [{"split": split, "sha256": sha256(path)} for split, path in paths.items()]


def read_file(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pa.Table:
    """All rows of some columns of a data file; every column of csv and tsv is text.

    Args:
        path: the file; its ending tells the format.
        columns: must be there.
        optional: are read where they are there.

    Raises:
        UserError: the file is damaged, has not these columns, or its rows do not fit its columns.
    """
    readers = {".parquet": _parquet, ".csv": _separated, ".tsv": _separated, ".jsonl": _jsonl}
    return readers[path.suffix](path, columns, optional)


def class_names(table: pa.Table, label: str | None) -> tuple[str, ...] | None:
    """Class names that the `datasets` library stored in a parquet file, if it did."""
    try:
        stored = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    except ValueError:  # whatever stands there, it is not what that library writes
        return None
    for key in ("info", "features", label, "names"):
        # the names of lists stand with their items
        stored = stored.get("feature", stored) if key == "names" and isinstance(stored, dict) else stored
        stored = stored.get(key) if isinstance(stored, dict) else None
    named = isinstance(stored, list) and stored and all(isinstance(name, str) for name in stored)
    return tuple(stored) if named else None


def check_column(place: str, columns: Sequence[str], name: str) -> None:
    """See that a table has a column.

    Raises:
        UserError: it has none, or several.
    """
    if columns.count(name) > 1:
        raise UserError(f"{place}: the column '{name}' occurs {columns.count(name)} times; it must occur once")
    if name not in columns:
        there = some([column or "''" for column in columns])
        raise UserError(f"{place}: there is no column '{name}'{nearest(name, columns)}; columns: {there}")


def _chosen(path: Path, names: Sequence[str], columns: Sequence[str], optional: Sequence[str]) -> list[str]:
    """The columns to read, each once."""
    for name in columns:
        check_column(str(path), names, name)
    return list(dict.fromkeys([*columns, *(name for name in optional if names.count(name) == 1)]))


def plain(column: Column) -> Column:
    """The values themselves: without a dictionary or a name around the type, and text in one of arrow's usual types."""
    if isinstance(column.type, pa.BaseExtensionType) and not isinstance(column.type, MixedType):
        column = _storage(column)

    wanted = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    wanted = pa.string() if pa.types.is_string_view(wanted) else wanted
    if wanted == column.type:
        return column
    try:
        return column.cast(wanted)
    except pa.ArrowNotImplementedError:  # the library has not every cast between its own types
        return pa.array(column.to_pylist(), wanted)


def python_values(place: str, name: str, column: Column) -> list[Any]:
    """The values of a column as Python has them.

    Raises:
        UserError: a text is not UTF-8.
    """
    column = plain(column)
    if isinstance(column.type, MixedType):
        return [_value(text) for text in _storage(column).to_pylist()]
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        raise _not_utf8(place, name, column) from None


def text_column(place: str, name: str, column: Column, *, before: int = 0) -> Column:
    """A column of text in arrow's usual type.

    Args:
        place: file or data set and split, for messages.
        name: of the column.
        column: all rows, or some of them.
        before: number of the rows before these.

    Raises:
        UserError: it is of another type, or not UTF-8.
    """
    column = plain(column)
    if column.null_count == len(column):  # a column without any value may be of any type
        return pa.nulls(len(column), pa.string())
    if isinstance(column.type, MixedType):
        raise _no_text(place, name, python_values(place, name, column), before)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise UserError(f"{place}, column '{name}': got type {column.type}; a column of text is needed")

    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        raise _not_utf8(place, name, column, before) from None
    return column.cast(pa.string())


def half_a_character(text: object) -> bool:
    """Whether a text has a lone surrogate, which no file can hold as UTF-8."""
    return isinstance(text, str) and any("\ud800" <= sign <= "\udfff" for sign in text)


def _no_text(place: str, name: str, values: Sequence[object], before: int) -> UserError:
    """What is wrong with the first value of a column of several types."""
    row = next(row for row, value in enumerate(values) if half_a_character(value) or not isinstance(value, str | None))
    got = "half of a character (a lone surrogate): " if half_a_character(values[row]) else ""
    where = f"{place}, data row {before + row + 1}, column '{name}'"
    return UserError(f"{where}: got {got}{shortened(values[row])}; a text is needed in every row")


def _not_utf8(place: str, name: str, column: Column, before: int = 0) -> UserError:
    """Which value of a damaged column is the first that is not UTF-8."""
    for row, value in enumerate(column):
        try:
            value.as_py()
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            return UserError(
                f"{place}, data row {before + row + 1}, column '{name}': got the byte 0x{byte:02x}, which is not UTF-8"
            )
    return UserError(f"{place}, column '{name}': got text that is not UTF-8")


@contextmanager
def reading_parquet(path: Path) -> Iterator[None]:
    """Say in plain words that a file of the user's cannot be read.

    Raises:
        UserError: the block could not read it.
    """
    try:
        yield
    # names of columns that are no UTF-8 fail in Python, not in Arrow
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as parquet, it is damaged or something else: {reason}") from error


def _parquet(path: Path, columns: Sequence[str], optional: Sequence[str]) -> pa.Table:
    with reading_parquet(path), pq.ParquetFile(path) as file:
        chosen = _chosen(path, file.schema_arrow.names, columns, optional)
        # a column `text` would bring along `text.length`: the library takes a point for the way into a nested column
        return file.read(columns=chosen).select(chosen)


def _text(path: Path) -> str:
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: got the byte 0x{content[error.start]:02x}, which is not UTF-8; save the file as UTF-8"
        ) from error


def _separated(path: Path, columns: Sequence[str], optional: Sequence[str]) -> pa.Table:
    text = _text(path)
    lines = (
        _csv(path, text)
        if path.suffix == ".csv"
        else (line.split("\t") for line in text.replace("\r\n", "\n").split("\n") if line)
    )
    names = next(lines, None)
    if names is None:
        raise UserError(f"{path}: the file is empty; a line of column names is needed")

    chosen = _chosen(path, names, columns, optional)
    places = [names.index(name) for name in chosen]
    rows = [[fields[place] for place in places] for fields in _of_width(path, lines, names)]
    values = zip(*rows, strict=True) if rows else ((),) * len(chosen)
    return pa.table({name: pa.array(column, pa.string()) for name, column in zip(chosen, values, strict=True)})


def _csv(path: Path, text: str) -> Iterator[list[str]]:
    csv.field_size_limit(sys.maxsize)  # Python's own limit, 131,072 characters, is less than a long document
    row = 0
    try:
        for fields in csv.reader(io.StringIO(text, newline=""), strict=True):
            if fields:
                yield fields
                row += 1
    except csv.Error as error:
        where = f"data row {row}" if row else "the line of column names"
        raise UserError(f"{path}: cannot be read as csv: {error} in {where}; a quote may be open or misplaced") from error


def _of_width(path: Path, lines: Iterable[list[str]], names: list[str]) -> Iterator[list[str]]:
    for row, fields in enumerate(lines, start=1):
        if len(fields) != len(names):
            wanted = some(names)
            raise UserError(f"{path}, data row {row}: got {len(fields)} fields; {len(names)} are needed: {wanted}")
        yield fields


def _jsonl(path: Path, columns: Sequence[str], optional: Sequence[str]) -> pa.Table:
    lines = [line for line in _text(path).split("\n") if line.strip()]
    if not lines:
        raise UserError(f"{path}: got 0 rows; at least 1 is needed")

    names: dict[str, None] = {}
    values: dict[str, list[object]] = {name: [] for name in (*columns, *optional)}
    for number, line in enumerate(lines, start=1):
        row = _object(path, number, line)
        names |= dict.fromkeys(row)
        for name, column in values.items():
            column.append(row.get(name))

    return pa.table({name: _column(values[name]) for name in _chosen(path, list(names), columns, optional)})


def _object(path: Path, number: int, line: str) -> dict[str, object]:
    """One line of a jsonl file."""
    try:
        row = _value(line)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, data row {number}: is not JSON ({error.msg} at character {error.colno}); the file may be cut off"
        ) from error
    except RecursionError:
        raise UserError(f"{path}, data row {number}: is too deeply nested to be read; leave that field out") from None
    if not isinstance(row, dict):
        raise UserError(f"{path}, data row {number}: got {type(row).__name__}; an object with named fields is needed")
    return row


def _value(text: str | None) -> Any:
    """What a JSON text stands for; nothing for none."""
    return None if text is None else json.loads(text, parse_int=_integer)


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= LONGEST_NUMBER else digits


def _column(values: list[Any]) -> pa.Array:
    """The values of a field, in the type that they have in common; as JSON where there is none, or where they are nested."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {int, float} or (len(kinds) <= 1 and not kinds & {list, dict}):
        try:
            return pa.array(values)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            pass
    texts = [None if value is None else json.dumps(value) for value in values]
    return pa.ExtensionArray.from_storage(MixedType(), pa.array(texts, pa.string()))


def _storage(column: Column) -> Column:
    """The values behind a type that is another one under a name of its own."""
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    return column.storage
