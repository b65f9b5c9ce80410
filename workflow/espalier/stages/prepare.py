"""Read a task's rows, check them, and write them in the one form that the other stages read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from espalier.config.data import f1_problem
from espalier.config.job_specs import PrepareSpec
from espalier.data import corpus, labelled
from espalier.data.prepared import describe, overlap, parts
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic, write_json


def run(spec: str, *, train: Path, evaluation: Path, task: Path) -> None:
    """Write the training rows, all evaluation sets in one table with the column `set`, and what is to know of them."""
    settings = PrepareSpec.model_validate_json(spec)
    if settings.task.kind == "text":
        write_json(task, _corpus(settings, train, evaluation))
        return
    found = labelled.read(settings.name, settings.task)
    if problem := f1_problem(settings.task.metrics, found.classes or ()):
        raise UserError(f"task {settings.name}: {problem}")
    training, sets = parts(settings, found)
    description = describe(settings, found, training, sets) | {"leaked": overlap(training, sets)}
    named = [table.append_column("set", pa.array([name] * table.num_rows, pa.string())) for name, table in sets.items()]
    for path, table in ((train, training), (evaluation, pa.concat_tables(named))):
        with atomic(path) as temporary:
            pq.write_table(table.combine_chunks(), temporary, compression="zstd")
    write_json(task, description)


def _corpus(settings: PrepareSpec, train: Path, evaluation: Path) -> dict[str, object]:
    """Write a text task's rows piece by piece, and say what is to know of them."""
    splits, sources = corpus.read(settings.name, settings.task)
    training = splits.pop("train")
    known: dict[str, Any] = {}
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
