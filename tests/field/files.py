"""Data files of every form from the same rows, and tasks that read them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from espalier.config.data import Task

FORMS = (".csv", ".tsv", ".jsonl", ".parquet")


def write(path: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    """Write rows as pandas would: text as it is, values of other types as their form has them."""
    rows = list(zip(*columns.values(), strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t", lineterminator="\n").writerows([columns, *rows])
    return path


def task(folder: Path, train: str = ".csv", validation: str | None = None, **others: Any) -> Task:
    """A classification of the files train and validation, whose endings are given."""
    block = {"kind": "classification", "source": "files", "text": ["text"], "label": "label", "metric": "accuracy"}
    paths = {"train": str(folder / f"train{train}"), "validation": str(folder / f"validation{validation or train}")}
    return Task.model_validate(block | paths | others)
