"""Read a task's rows, check them, and write them in the one form that the other stages read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from espalier.config.base import printable
from espalier.config.data import SELECTION, Task, f1_problem
from espalier.config.specs import PrepareSpec
from espalier.core import corpus, samples
from espalier.core import rows as task_rows
from espalier.core.runtime import UserError, atomic, write_json


def run(spec: str, *, train: Path, evaluation: Path, task: Path) -> None:
    """Write the training rows, all evaluation sets in one table with the column `set`, and what is to know of them."""
    settings = PrepareSpec.model_validate_json(spec)
    if settings.task.kind == "text":
        write_json(task, _corpus(settings, train, evaluation))
        return
    found = task_rows.read(settings.name, settings.task)
    if problem := f1_problem(settings.task.metrics, found.classes or ()):
        raise UserError(f"task {settings.name}: {problem}")
    training, sets = _parts(settings, found)
    description = _describe(settings, found, training, sets) | {"leaked": _overlap(training, sets)}
    named = [table.append_column("set", pa.array([name] * table.num_rows, pa.string())) for name, table in sets.items()]
    for path, table in ((train, training), (evaluation, pa.concat_tables(named))):
        with atomic(path) as temporary:
            pq.write_table(table.combine_chunks(), temporary, compression="zstd")
    write_json(task, description)


def _corpus(settings: PrepareSpec, train: Path, evaluation: Path) -> dict[str, object]:
    """Write a text task's rows piece by piece, and say what is to know of them."""
    splits, sources = corpus.read(settings.name, settings.task)
    training, known = splits.pop("train"), {}
    found = corpus.write(evaluation, splits, named=True, known=known)
    counts = corpus.write(train, {"train": training}, named=False, known=known) | found
    for name, count in counts.items():
        print(f"{settings.name}: {name} {count.rows:,} rows; {count.blank:,} without text were left out")
    if shared := counts["train"].shared:
        print(f"warning: {shared:,} training rows have a text that is also one of an evaluation set")
    return {
        "name": settings.name,
        "kind": "text",
        "classes": None,
        "sets": list(found),
        "rows": {name: count.rows for name, count in counts.items()},
        "class_counts": None,
        "majority": None,
        "sources": sources,
        "leaked": {"train": counts["train"].shared},
    }


def _parts(settings: PrepareSpec, found: task_rows.Rows) -> tuple[pa.Table, dict[str, pa.Table]]:
    """The training rows that are used, and every evaluation set, the held-out one last."""
    training, sets = found.train, dict(found.evaluation)
    task, available = settings.task, found.train.num_rows
    if task.rows is not None:
        if task.rows > available:
            raise UserError(f"task {settings.name}: rows: got {task.rows:,}; there are {available:,} training rows")
        training, _ = samples.split(training, _labels(training, task), task.rows)
    if task.holdout:
        count = round(task.holdout * training.num_rows)
        if not 0 < count < training.num_rows:
            raise UserError(
                f"task {settings.name}: holdout: {task.holdout} of {training.num_rows} training rows is {count} rows"
            )
        sets[SELECTION], training = samples.split(training, _labels(training, task), count)
    if found.classes:
        present = set(training["label"].to_pylist())
        if absent := [name for index, name in enumerate(found.classes) if index not in present]:
            raise UserError(
                f"task {settings.name}: with rows {task.rows or 'all'} and holdout {task.holdout} only {training.num_rows} "
                f"training rows are left, none of the class {', '.join(absent)}; use more rows or hold out fewer"
            )
    return training, sets


def _labels(table: pa.Table, task: Task) -> list[int] | None:
    return table["label"].to_pylist() if task.kind == "classification" else None


def _describe(settings: PrepareSpec, found: task_rows.Rows, training: pa.Table, sets: dict[str, pa.Table]) -> dict[str, object]:
    tables = {"train": training, **sets}
    counts = {name: _counts(table, found.classes) for name, table in tables.items()} if found.classes else None
    majority = None
    if counts:
        largest = max(counts["train"], key=counts["train"].__getitem__)
        majority = {name: counts[name][largest] / table.num_rows for name, table in sets.items()}
    for name, table in tables.items():
        balance = f": {', '.join(f'{printable(label)} {count:,}' for label, count in counts[name].items())}" if counts else ""
        print(f"{settings.name}: {name} {table.num_rows:,} rows{balance}")
    return {
        "name": settings.name,
        "kind": settings.task.kind,
        "classes": list(found.classes) if found.classes else None,
        "sets": list(sets),
        "rows": {name: table.num_rows for name, table in tables.items()},
        "class_counts": counts,
        "majority": majority,
        "sources": found.sources,
    }


def _counts(table: pa.Table, classes: tuple[str, ...]) -> dict[str, int]:
    labels = table["label"].to_pylist()
    return {name: labels.count(index) for index, name in enumerate(classes)}


def _overlap(training: pa.Table, sets: dict[str, pa.Table]) -> dict[str, int]:
    """Rows of each evaluation set whose text is also a training row's."""
    known = set(_texts(training))
    shared = {name: sum(texts in known for texts in _texts(table)) for name, table in sets.items()}
    for name, count in shared.items():
        if count:
            print(f"warning: {count:,} of {sets[name].num_rows:,} rows of {name} have a text that is also a training row's")
    return shared


def _texts(table: pa.Table) -> list[tuple[str, ...]]:
    names = [name for name in ("text_a", "text_b") if name in table.column_names]
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))
