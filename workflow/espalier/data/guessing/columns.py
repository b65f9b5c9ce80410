"""What the columns of a data file look like: texts, numbers, labels, lists, answers."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from espalier.config.kinds.rules import FILE_FORMATS
from espalier.data.files import class_names, python_values, read_file, reading_parquet
from espalier.data.labels import whole_number
from espalier.runtime.errors import UserError

TEXT_LINES = ".txt"
"""Ending of files with paragraphs of text and nothing else."""
TAGGED = (".conll", ".conllu")
"""Endings of files with a word and its tag a line."""
READABLE = (*FILE_FORMATS, TEXT_LINES, *TAGGED)
SEPARATORS = (";", "\t", "|")
"""What may separate the fields of a file that calls itself csv."""
NAMED_AFTER = 1000
"""Lines of a jsonl file whose keys are its columns."""
Form = Literal["text", "number", "truth", "words", "answers", "empty", "other"]
"""What the values of a column are; `words` is a list of texts or of numbers in every row."""


@dataclass(frozen=True)
class ColumnLook:
    """One column."""

    name: str
    form: Form
    values: list[Any]
    """Without those that are missing; numbers where texts of a csv file are all numbers."""
    missing: int
    """Rows without a value."""
    stored: tuple[str, ...] | None = None
    """Class names that the file keeps beside the numbers."""

    @cached_property
    def counts(self) -> Counter[Any]:
        """How often each value occurs; of lists and answers nothing."""
        return Counter(self.values if self.form in ("text", "number", "truth") else ())

    @cached_property
    def words(self) -> float:
        """Mean number of words of a text."""
        return sum(len(str(value).split()) for value in self.values) / max(1, len(self.values))

    @cached_property
    def whole(self) -> bool:
        """Whether all values are whole numbers."""
        return self.form == "number" and all(whole_number(value) is not None for value in self.counts)


def looks_of(path: Path) -> list[ColumnLook]:
    """The columns of a data file.

    Raises:
        UserError: it is no file, has an unknown ending, cannot be read, or has no rows.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; looked in {Path.cwd()}")
    if path.suffix not in READABLE:
        raise UserError(f"{path}: got the ending {path.suffix!r}; allowed: {', '.join(READABLE)}")
    if path.suffix == TEXT_LINES:
        return [_of_text(path)]
    if path.suffix in TAGGED:
        return [_of_tags(path)]

    names = _names(path)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{path}: the column {twice[0]!r} occurs {names.count(twice[0])} times; rename one of them")
    table = read_file(path, names)
    if table.num_rows == 0:
        raise UserError(f"{path}: got 0 rows; at least 1 is needed")
    looks = [_look(path, name, table) for name in names]
    _check_names(path, looks)
    return looks


def _check_names(path: Path, looks: Sequence[ColumnLook]) -> None:
    """In files whose first line names the columns, a name that is one of its own column's values is a row's."""
    if path.suffix not in (".csv", ".tsv"):
        return
    for look in looks:
        if look.name in map(str, look.counts):
            raise UserError(
                f"{path}: its first line seems to be a row: {look.name!r} is also a value of the column below it; put a line "
                "with the names of the columns above it"
            )


def _of_text(path: Path) -> ColumnLook:
    try:
        parts = [part for part in path.read_text(encoding="utf-8-sig").split("\n\n") if part.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: got the byte 0x{error.object[error.start]:02x}, which is not UTF-8") from error
    if not parts:
        raise UserError(f"{path}: the file is empty; text is needed")
    return ColumnLook("text", "text", parts, 0)


def _of_tags(path: Path) -> ColumnLook:
    """The tags of a file with a word a line: the last field, in CoNLL-U the fourth (UPOS)."""
    try:
        lines = [
            line.split()
            for line in path.read_text(encoding="utf-8-sig").splitlines()
            if not line.startswith(("#", "-DOCSTART-"))
        ]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: got the byte 0x{error.object[error.start]:02x}, which is not UTF-8") from error
    place = 3 if path.suffix == ".conllu" else -1
    if not (tags := [fields[place] for fields in lines if len(fields) > max(1, place)]):
        raise UserError(f"{path}: no line has a word and a tag; a word a line, with blank lines between sentences, is needed")
    return ColumnLook("tags", "words", [tags], 0)


def _names(path: Path) -> list[str]:
    """Names of the columns, in the file's order."""
    if path.suffix == ".parquet":
        with reading_parquet(path):
            return list(pq.read_schema(path).names)
    if path.suffix == ".jsonl":
        return _keys(path)

    line = _first_line(path)
    separator = "," if path.suffix == ".csv" else "\t"
    names = next(csv.reader([line], delimiter=separator), []) if path.suffix == ".csv" else line.split(separator)
    other = next((sign for sign in (",", *SEPARATORS) if sign != separator and sign in line), None)
    if len(names) < 2 and other is not None:
        raise UserError(
            f"{path}: its one column is called {line!r}: fields seem to be separated by {other!r}; {path.suffix} needs "
            f"{'a comma' if separator == ',' else 'a tab'} between them"
        )
    if not all(name.strip() for name in names):
        raise UserError(f"{path}: a column has no name; the first line must name every column, got {line!r}")
    return names


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: its first line is not UTF-8; save the file as UTF-8") from error
    if not line.strip():
        raise UserError(f"{path}: the first line is empty; a line of column names is needed")
    return line


def _keys(path: Path) -> list[str]:
    """The keys of a jsonl file's first lines; what else is wrong with it `read_file` says."""
    keys: dict[str, None] = {}
    with path.open("rb") as file:
        for _, line in zip(range(NAMED_AFTER), file, strict=False):
            try:
                row = json.loads(line) if line.strip() else {}
            except (ValueError, RecursionError):
                break
            keys |= dict.fromkeys(row) if isinstance(row, dict) else {}
    return list(keys)


def _look(path: Path, name: str, table: pa.Table) -> ColumnLook:
    values = python_values(str(path), name, table[name])
    present = [
        value for value in values if value is not None and value != "" and value == value
    ]  # NaN alone differs from itself
    missing = len(values) - len(present)
    numbers = [number_in(value) for value in present]

    form: Form = "other"
    if not present:
        form = "empty"
    elif all(isinstance(value, bool) for value in present) or {str(value).lower() for value in present} <= {"true", "false"}:
        form = "truth"
    elif None not in numbers:
        form, present = "number", numbers
    elif all(isinstance(value, str) for value in present):
        form = "text"
    elif all(isinstance(value, list) and all(isinstance(part, str | int) for part in value) for value in present):
        form = "words"
    elif all(isinstance(value, dict) and {"text", "answer_start"} <= value.keys() for value in present):
        form = "answers"
    return ColumnLook(name, form, present, missing, class_names(table, name))


def number_in(value: object) -> float | int | None:
    """A value as a number, if it is one: a text only where it is written as numbers are."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    if isinstance(value, str) and "_" in value:
        return None
    return int(number) if number.is_integer() else number
