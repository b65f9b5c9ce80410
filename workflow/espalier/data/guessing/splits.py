"""Training and validation rows: files that lie beside each other, or one file that is divided."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from espalier.data.files import python_values, read_file
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic

TRAIN_NAMES = ("train", "training")
VALIDATION_NAMES = ("validation", "valid", "val", "dev", "development", "eval", "test")
"""What files of evaluation rows are called, those first that are meant for it."""
SHARE = 0.1
"""Part of the rows of a single file that becomes its validation file."""
LEAST_ROWS = 10
"""Rows of a file that can be divided."""
DIVIDED = (".parquet", ".csv", ".tsv", ".jsonl")


def partners(path: Path) -> tuple[Path, Path] | None:
    """Training and validation file, where the name of a file says which one it is and the other lies beside it."""
    if _renamed(path, TRAIN_NAMES, ("x",)):
        return next(((path, other) for other in _renamed(path, TRAIN_NAMES, VALIDATION_NAMES) if other.is_file()), None)
    return next(((other, path) for other in _renamed(path, VALIDATION_NAMES, TRAIN_NAMES) if other.is_file()), None)


def _renamed(path: Path, words: Sequence[str], others: Sequence[str]) -> list[Path]:
    """Names with one of the other words in the place of one of these; nothing where none of these is in it."""
    pattern = re.compile(rf"(?<![A-Za-z])({'|'.join(words)})(?![A-Za-z])", re.IGNORECASE)
    if not pattern.search(path.stem):
        return []
    return [path.with_name(pattern.sub(other, path.stem, count=1) + path.suffix) for other in others]


def divided_names(path: Path) -> tuple[Path, Path]:
    """Names of the two files that a file is divided into.

    Raises:
        UserError: a file of this form cannot be divided.
    """
    if path.suffix not in DIVIDED:
        raise UserError(
            f"{path}: {path.suffix} files are not divided here; put evaluation rows into a file of their own, such as "
            f"{path.with_name('validation' + path.suffix).name} beside {path.with_name('train' + path.suffix).name}"
        )
    return path.with_name(f"{path.stem}.train{path.suffix}"), path.with_name(f"{path.stem}.validation{path.suffix}")


def divide(path: Path, columns: Sequence[str], label: str | None) -> tuple[int, int]:
    """Write the rows of a file into two, the same ones every time; returns the numbers of rows.

    Rows with the same texts go to the same side, and each class gives its share. The rows themselves are not changed.

    Args:
        path: the file.
        columns: of the texts.
        label: column of the classes, where rows have any.

    Raises:
        UserError: it has too few rows, or a file of the new name is there already.
    """
    targets = divided_names(path)
    if there := [target for target in targets if target.exists()]:
        raise UserError(f"{there[0]}: is there already; name it in place of {path.name}, or move it away")

    apart = _validation_rows(path, columns, label)
    kept = [row for row in range(len(apart)) if not apart[row]]
    others = [row for row in range(len(apart)) if apart[row]]
    for target, rows in zip(targets, (kept, others), strict=True):
        with atomic(target) as temporary:
            _write_rows(path, temporary, rows)
    return len(kept), len(others)


def _validation_rows(path: Path, columns: Sequence[str], label: str | None) -> list[bool]:
    """Whether each row is one of the validation rows."""
    table = read_file(path, [*columns, *([label] if label else [])])
    if table.num_rows < LEAST_ROWS:
        raise UserError(f"{path}: got {table.num_rows} rows; at least {LEAST_ROWS} are needed to set some apart for validation")
    texts = zip(*(python_values(str(path), name, table[name]) for name in columns), strict=True)
    keys = [hashlib.sha256(repr(row).encode()).hexdigest() for row in texts]
    labels = python_values(str(path), label, table[label]) if label else [None] * len(keys)

    # a text with two labels counts for the first one, so that all of its rows stay together
    class_of: dict[str, str] = {}
    for key, value in zip(keys, labels, strict=True):
        class_of.setdefault(key, str(value))
    members: dict[str, list[str]] = {}
    for key, name in class_of.items():
        members.setdefault(name, []).append(key)

    # digests are as good as random numbers, and the same ones wherever the file lies
    chosen = {key for own in members.values() for key in sorted(own)[: round(SHARE * len(own))]}
    chosen = chosen or {min(class_of)}
    return [key in chosen for key in keys]


def _write_rows(path: Path, target: Path, rows: Sequence[int]) -> None:
    """Some rows of a file, as they stand there."""
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            pq.write_table(file.read().take(pa.array(rows, pa.int64())), target, compression="zstd")
        return

    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".csv":
        names, *fields = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
        with target.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([names, *(fields[row] for row in rows)])
        return

    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]
    head = lines[:1] if path.suffix == ".tsv" else []
    target.write_text("".join(f"{line}\n" for line in [*head, *(lines[len(head) + row] for row in rows)]), encoding="utf-8")
