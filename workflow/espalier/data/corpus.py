"""A text task's rows, read and checked piece by piece: memory does not grow with the corpus.

Rows without text are left out and counted: they say nothing, and many corpora have them where a heading stood.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from espalier.config.data import Task
from espalier.config.job_specs import PrepareSpec
from espalier.data import labelled
from espalier.data.files import check_column, files_of, read_file, reading_parquet, text_column
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic

ROWS_IN_MEMORY = 2048
"""Rows that are in memory at once."""
LONGEST_PARAGRAPH = 100_000
"""Characters of a paragraph from which on it ends with its line: some files have no blank line at all."""
TXT_COLUMN = "text"
"""Column of a .txt file's paragraphs."""
TextPieces = Iterator[pa.Array | pa.ChunkedArray]


@dataclass(frozen=True)
class CorpusPart:
    """One split of a corpus, in pieces that are read as they are asked for."""

    place: str
    """File or data set and split, for messages."""
    pieces: TextPieces


@dataclass
class Count:
    """What was counted while a split was written."""

    rows: int = 0
    blank: int = 0
    shared: int = 0
    """Rows whose text is known from another split."""


def open_corpus(name: str, task: Task) -> tuple[dict[str, CorpusPart], list[dict[str, str]]]:
    """The parts of a text task's corpus, the training rows first, and where they come from.

    Raises:
        UserError: a file or column is missing; what is wrong with a row is said when it is read.
    """
    if task.source == "files":
        paths, sources = files_of(task)
        return {split: CorpusPart(str(path), _file(path, task.text[0])) for split, path in paths.items()}, sources

    # data sets of the hub are memory-mapped
    if task.source == "hub":
        splits, sources = labelled.read_hub(task)
        column = task.text[0]
        parts = {key: CorpusPart(split.place, _table(split.place, split.table, column)) for key, split in splits.items()}
        return parts, sources

    built = labelled.read_builtin(name, task)
    tables = {"train": built.train, **built.evaluation}
    return {split: CorpusPart(name, _table(name, table, "text_a")) for split, table in tables.items()}, built.sources


def write_corpus(settings: PrepareSpec, train: Path, evaluation: Path) -> dict[str, object]:
    """Write the rows of a text task piece by piece; returns what task.json says."""
    splits, sources = open_corpus(settings.name, settings.task)
    training = splits.pop("train")
    known: dict[str, set[int]] = {}

    # evaluation sets first: `known` then holds their texts, and training rows that repeat one are counted
    written = write(evaluation, splits, named=True, known=known)
    counts = write(train, {"train": training}, named=False, known=known) | written

    for name, count in counts.items():
        print(f"{settings.name}: {name} {count.rows:,} rows; {count.blank:,} without text were left out")
    if shared := counts["train"].shared:
        print(f"warning: {shared:,} training rows have a text that is also one of an evaluation set")

    return {
        "name": settings.name,
        "kind": settings.task.kind,
        "classes": None,
        "sets": list(written),
        "rows": {name: count.rows for name, count in counts.items()},
        "class_counts": None,
        "majority": None,
        "sources": sources,
        "leaked": {"train": counts["train"].shared},
    }


def _file(path: Path, column: str) -> TextPieces:
    if path.suffix == ".parquet":
        return _parquet(path, column)
    if path.suffix == ".txt":
        check_column(str(path), [TXT_COLUMN], column)
        return _paragraphs(path)
    return _table(str(path), read_file(path, [column]), column)


def _parquet(path: Path, column: str) -> TextPieces:
    with reading_parquet(path):
        file = pq.ParquetFile(path, pre_buffer=False)  # or it would hold the whole file in the end
        check_column(str(path), file.schema_arrow.names, column)
        rows = 0
        for batch in file.iter_batches(batch_size=ROWS_IN_MEMORY, columns=[column]):
            yield text_column(str(path), column, batch[column], before=rows)
            rows += batch.num_rows


def _paragraphs(path: Path) -> TextPieces:
    """Paragraphs of a text file, each as one line; blank lines lie between them, and the longest go on as another."""
    paragraphs: list[str] = []
    lines: list[str] = []
    length = 0

    try:
        with path.open(encoding="utf-8-sig") as file:
            for line in file:
                if text := line.strip():
                    lines.append(text)
                    length += len(text)
                if text and length < LONGEST_PARAGRAPH:
                    continue
                paragraphs += [" ".join(lines)] if lines else []
                lines, length = [], 0
                if len(paragraphs) == ROWS_IN_MEMORY:
                    yield pa.array(paragraphs, pa.string())
                    paragraphs = []
    except UnicodeDecodeError:
        raise _not_utf8(path) from None

    # the last paragraph may have no blank line after it
    paragraphs += [" ".join(lines)] if lines else []
    if paragraphs:
        yield pa.array(paragraphs, pa.string())


def _not_utf8(path: Path) -> UserError:
    """Which line of a text file is the first that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                got = f"the byte 0x{line[error.start]:02x}"
                return UserError(f"{path}, line {number}: got {got}, which is not UTF-8; save the file as UTF-8")
    return UserError(f"{path}: is not UTF-8; save the file as UTF-8")


def _table(place: str, table: pa.Table, column: str) -> TextPieces:
    check_column(place, table.column_names, column)
    rows = 0
    for batch in table.select([column]).to_batches(max_chunksize=ROWS_IN_MEMORY):
        yield text_column(place, column, batch[column], before=rows)
        rows += batch.num_rows


def write(path: Path, splits: dict[str, CorpusPart], *, named: bool, known: dict[str, set[int]]) -> dict[str, Count]:
    """Write splits one after another as the column text_a, with the column `set` where they are named.

    Args:
        path: a parquet file.
        splits: by name.
        named: whether the rows tell their split.
        known: texts of other splits, by `hash`; those of the splits that are named are added.

    Raises:
        UserError: a split has no text.
    """
    schema = pa.schema([("text_a", pa.string()), *([("set", pa.string())] if named else [])])
    counts = {name: Count() for name in splits}
    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for name, split in splits.items():
            for texts in _with_text(split.pieces, counts[name]):
                hashes = {hash(text) for text in texts.to_pylist()}
                counts[name].shared += sum(len(hashes & others) for others in known.values())
                if named:
                    known.setdefault(name, set()).update(hashes)
                columns = [texts, pa.array([name] * len(texts), pa.string())] if named else [texts]
                writer.write_batch(pa.record_batch(columns, schema=schema))
            if not counts[name].rows:
                raise UserError(f"{split.place}: got no row with text; at least 1 is needed")
    return counts


def _with_text(pieces: Iterable[pa.Array], count: Count) -> Iterator[pa.Array]:
    for piece in pieces:
        full = pc.fill_null(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(piece)), 0), False)
        texts = piece.filter(full)
        count.rows += len(texts)
        count.blank += len(piece) - len(texts)
        if len(texts):
            yield texts
