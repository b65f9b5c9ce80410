"""Texts without labels beside a task's own rows: from the user's files, each once, and none that the task has already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from espalier.config.kinds.sides import Side, sides_of
from espalier.config.kinds.specs import CollectSpec
from espalier.data import samples
from espalier.data.files import read_file
from espalier.data.labelled import SourceTable, checked_texts
from espalier.runtime.errors import UserError

TextRow = tuple[str, ...]
"""The text of a row, or both of its texts."""


def unlabelled_rows(settings: CollectSpec, known: set[TextRow]) -> pa.Table:
    """The rows to use, with the columns that a task's rows have.

    Args:
        settings: files, columns, and how many rows are wanted.
        known: rows of the task itself, for training and for evaluation.

    Raises:
        UserError: a file or column is not as it must be, or there are too few rows.
    """
    texts: dict[TextRow, None] = {}
    read = left_out = 0
    for path, columns in settings.unlabelled.columns_of(settings.text):
        for row in _rows_of(Path(path), _sides_of(settings, columns)):
            read += 1
            left_out += row in known
            if row not in known:
                texts[row] = None

    said = (
        f"{read:,} texts read, {left_out:,} of them rows of the task, {read - left_out - len(texts):,} not for the first time"
    )
    wanted = settings.unlabelled.rows
    if len(texts) < (wanted or 1):
        asked = "all" if wanted is None else f"{wanted:,}"
        raise UserError(f"task {settings.name}: unlabelled.rows: got {asked}; there are {len(texts):,} ({said})")

    arrays = (pa.array(column, pa.string()) for column in zip(*texts, strict=True))
    table = pa.table(dict(zip(("text_a", "text_b"), arrays, strict=False)))
    table = table if wanted is None else samples.split(table, None, wanted)[0]
    print(f"{settings.name}: {table.num_rows:,} texts without labels; {said}", flush=True)
    return table


def rows_in(path: Path) -> Iterator[TextRow]:
    """The texts of every prepared row of a task."""
    file = pq.ParquetFile(path)
    names = [name for name in ("text_a", "text_b") if name in file.schema_arrow.names]
    for batch in file.iter_batches(columns=names):
        yield from zip(*(batch[name].to_pylist() for name in names), strict=True)


def _sides_of(settings: CollectSpec, columns: tuple[str, ...]) -> list[list[Side]]:
    """The columns of a file that rows are made of: all together, or one by one."""
    own = sides_of(settings.text, settings.template)
    if settings.together:
        names = dict(zip(settings.text, columns, strict=True))
        return [[side.renamed(names) for side in own]]
    return [[own[0].renamed({settings.text[0]: column})] for column in columns]


def _rows_of(path: Path, groups: list[list[Side]]) -> Iterator[TextRow]:
    """The rows of one file, group by group of the columns that make them."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file (texts without labels); looked in {Path.cwd()}")
    columns = dict.fromkeys(name for sides in groups for side in sides for name in side.columns)
    source = SourceTable(str(path), read_file(path, list(columns)))
    for group in groups:
        yield from zip(*(column.to_pylist() for column in checked_texts(source, group).values()), strict=True)
