"""The parts of a prepared task: training rows, evaluation sets, and their description in task.json."""

from __future__ import annotations

import pyarrow as pa

from espalier.config.blocks import printable
from espalier.config.data import SELECTION, Task
from espalier.config.job_specs import PrepareSpec
from espalier.data import labelled, samples
from espalier.runtime.errors import UserError


def parts(settings: PrepareSpec, found: labelled.Rows) -> tuple[pa.Table, dict[str, pa.Table]]:
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


def describe(settings: PrepareSpec, found: labelled.Rows, training: pa.Table, sets: dict[str, pa.Table]) -> dict[str, object]:
    """The content of task.json: kind, classes, sets, and the number of rows of each."""
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


def overlap(training: pa.Table, sets: dict[str, pa.Table]) -> dict[str, int]:
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
