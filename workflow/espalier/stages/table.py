"""One tidy row for each student and teacher, and the same as means for `dvc metrics`."""

from __future__ import annotations

import csv
from pathlib import Path

from espalier.config.job_specs import ReportSpec
from espalier.results.summary import groups, nested
from espalier.results.table import COLUMNS, gather, read_results
from espalier.runtime.files import atomic, write_json


def run(spec: str, *, scores: list[Path], costs: list[Path], records: list[Path], table: Path, metrics: Path) -> None:
    """Join scores, costs and records into table.csv and metrics.json.

    `train_seconds` of a student is the sum of all training that led to it, the teacher's fine-tuning left out:
    `results.table.gather` says how. Latencies of a batch size that was not measured are empty.

    Args:
        spec: a `ReportSpec` as JSON.
        scores: scores.json of every student and teacher.
        costs: cost.json of the same.
        records: run.json of every stage, teacher and recovery.
        table: where table.csv goes.
        metrics: where metrics.json goes.
    """
    settings = ReportSpec.model_validate_json(spec)
    rows = gather(scores, costs, records, settings.methods, settings.starts)
    with atomic(table) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_json(metrics, nested(groups(read_results(table))))
