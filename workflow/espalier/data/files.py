"""Reading data files: parquet, csv, tsv and jsonl, with refusals that name the file and the row.

csv is read with the usual quoting; tsv is split at tabs and nothing else, as GLUE's files are made. Both have a line
of column names and are UTF-8.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from espalier.config.blocks import nearest
from espalier.config.data import Task
from espalier.runtime.errors import UserError
from espalier.runtime.files import sha256


def files_of(task: Task) -> tuple[dict[str, Path], list[dict[str, str]]]:
    """The file of each split of a task, the training rows first, and where they come from: paths with digests.

    Raises:
        UserError: a file is missing.
    """
    paths = {split: Path(path) for split, path in {"train": task.train, **task.evaluation_sets}.items()}
    for split, path in paths.items():
        if not path.is_file():
            raise UserError(f"{path}: there is no such file (the {split} rows of the task); looked in {Path.cwd()}")
    return paths, [{"path": str(path), "sha256": sha256(path)} for path in paths.values()]


def read_file(path: Path) -> pa.Table:
    """All rows of a data file; every column of csv and tsv is text.

    Raises:
        UserError: the file is damaged, or its rows do not fit its columns.
    """
    readers = {".parquet": _parquet, ".csv": _separated, ".tsv": _separated, ".jsonl": _jsonl}
    return readers[path.suffix](path)


def class_names(table: pa.Table, label: str | None) -> tuple[str, ...] | None:
    """Class names that the `datasets` library stored in a parquet file, if it did."""
    stored = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    names = stored.get("info", {}).get("features", {}).get(label, {}).get("names")
    return tuple(names) if names else None


def check_column(place: str, columns: Sequence[str], name: str) -> None:
    """See that a table has a column.

    Raises:
        UserError: it has none, or several.
    """
    if columns.count(name) > 1:
        raise UserError(f"{place}: the column '{name}' occurs {columns.count(name)} times; it must occur once")
    if name not in columns:
        raise UserError(f"{place}: there is no column '{name}'{nearest(name, columns)}; columns: {', '.join(columns)}")


def decoded(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The values themselves where a column holds indices into a dictionary."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def text_column(place: str, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """A column of text in arrow's usual type.

    Raises:
        UserError: it is of another type.
    """
    column = decoded(column)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise UserError(f"{place}, column '{name}': got type {column.type}; a column of text is needed")
    return column.cast(pa.string())


@contextmanager
def reading_parquet(path: Path) -> Iterator[None]:
    """Say in plain words that a file of the user's cannot be read.

    Raises:
        UserError: the block could not read it.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as parquet, it is damaged or something else: {error}") from error


def _parquet(path: Path) -> pa.Table:
    with reading_parquet(path):
        return pq.ParquetFile(path).read()


def _text(path: Path) -> str:
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: got the byte 0x{content[error.start]:02x}, which is not UTF-8; save the file as UTF-8"
        ) from error


def _separated(path: Path) -> pa.Table:
    text = _text(path)
    lines = (
        _csv(path, text)
        if path.suffix == ".csv"
        else (line.split("\t") for line in text.replace("\r\n", "\n").split("\n") if line)
    )
    names = next(lines, None)
    if names is None:
        raise UserError(f"{path}: the file is empty; a line of column names is needed")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path}: the column '{repeated[0]}' occurs {names.count(repeated[0])} times; column names must differ")
    rows = list(_of_width(path, lines, names))
    columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    return pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)})


def _csv(path: Path, text: str) -> Iterator[list[str]]:
    try:
        yield from filter(None, csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read as csv: {error}; a quote may be open or misplaced") from error


def _of_width(path: Path, lines: Iterable[list[str]], names: list[str]) -> Iterator[list[str]]:
    for row, fields in enumerate(lines, start=1):
        if len(fields) != len(names):
            raise UserError(f"{path}, data row {row}: got {len(fields)} fields; {len(names)} are needed: {', '.join(names)}")
        yield fields


def _jsonl(path: Path) -> pa.Table:
    rows = []
    lines = [line for line in _text(path).split("\n") if line.strip()]
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}, data row {number}: is not JSON ({error.msg} at character {error.colno}); the file may be cut off"
            ) from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, data row {number}: got {type(row).__name__}; an object with named fields is needed")
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: _column(path, name, [row.get(name) for row in rows]) for name in names})


def _column(path: Path, name: str, values: list[object]) -> pa.Array:
    try:
        return pa.array(values)
    except UnicodeEncodeError as error:
        raise UserError(f"{path}, column '{name}': got half of a character (a lone surrogate): {error.object!r}") from error
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(f"{path}, column '{name}': the values are of several types: {error}") from error
