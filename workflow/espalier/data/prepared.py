"""The parts of a prepared task: training rows, evaluation sets, and their description in task.json."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from espalier.config.blocks import printable
from espalier.config.data import SELECTION, Task, f1_problem
from espalier.config.job_specs import PrepareSpec
from espalier.data import samples
from espalier.data.labelled import LabelledTables
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic


def write_labelled(settings: PrepareSpec, tables: LabelledTables, train: Path, evaluation: Path) -> dict[str, object]:
    """Write the training rows, and all evaluation sets in one table with the column `set`; returns what task.json says.

    Raises:
        UserError: there are too few rows, or a metric does not fit the classes.
    """
    if problem := f1_problem(settings.task.metrics, tables.classes or ()):
        raise UserError(f"task {settings.name}: {problem}")

    training, sets = parts(settings, tables)
    description = describe(settings, tables, training, sets) | {"leaked": overlap(training, sets)}

    named = [table.append_column("set", pa.array([name] * table.num_rows, pa.string())) for name, table in sets.items()]
    for path, table in ((train, training), (evaluation, pa.concat_tables(named))):
        with atomic(path) as temporary:
            pq.write_table(table.combine_chunks(), temporary, compression="zstd")

    return description


def parts(settings: PrepareSpec, tables: LabelledTables) -> tuple[pa.Table, dict[str, pa.Table]]:
    """The training rows that are used, and every evaluation set, the held-out one last."""
    training, sets = tables.train, dict(tables.evaluation)
    task, available = settings.task, tables.train.num_rows

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
        if not training.num_rows:
            raise UserError(f"task {settings.name}: holdout: all training rows are of one query, so none can be held out")

    if tables.counted_classes:
        present = set(training["label"].to_pylist())
        if absent := [name for index, name in enumerate(tables.counted_classes) if index not in present]:
            raise UserError(
                f"task {settings.name}: with rows {task.rows or 'all'} and holdout {task.holdout} only {training.num_rows} "
                f"training rows are left, none of the class {', '.join(absent)}; use more rows or hold out fewer"
            )

    return training, sets


def _labels(table: pa.Table, task: Task) -> list[int] | None:
    """The class of each row, by which samples are balanced; None where a row has no class, or several."""
    return table["label"].to_pylist() if task.rules.named_classes and "label" in table.column_names else None


def describe(
    settings: PrepareSpec, labelled: LabelledTables, training: pa.Table, sets: dict[str, pa.Table]
) -> dict[str, object]:
    """The content of task.json: kind, classes, sets, and the number of rows of each."""
    tables, classes = {"train": training, **sets}, labelled.counted_classes
    counts = {name: _counts(table, classes) for name, table in tables.items()} if classes else None

    # the share of the largest class is what a model scores that always gives the same answer
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
        "classes": list(labelled.classes) if labelled.classes else None,
        "sets": list(sets),
        **({"mean": list(averaged)} if (averaged := settings.task.averaged) else {}),
        "rows": {name: table.num_rows for name, table in tables.items()},
        "class_counts": counts,
        "majority": majority,
        "sources": labelled.sources,
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
