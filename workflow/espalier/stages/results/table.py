"""One tidy row for each student, teacher and linear model, and the same as means for `dvc metrics`."""

from __future__ import annotations

from pathlib import Path

from espalier.config.reporting.specs import ReportSpec
from espalier.results.linear_rows import with_linear
from espalier.results.summary import groups, nested
from espalier.results.table import COLUMNS, gather, read_results
from espalier.runtime.files import write_csv, write_json


def run(
    spec: str,
    *,
    scores: list[Path],
    costs: list[Path],
    records: list[Path],
    linear: list[Path],
    table: Path,
    metrics: Path,
) -> None:
    """Join scores, costs, records and linear models into table.csv and metrics.json.

    `train_seconds` and `updates` of a student are sums over all training that led to it, the teacher's fine-tuning left out:
    `results.table` says how. Latencies of a batch size that was not measured are empty.

    Args:
        spec: a `ReportSpec` as JSON.
        scores: scores.json of every student and teacher.
        costs: cost.json of the same.
        records: run.json of every stage, teacher and recovery.
        linear: linear.json of every task that has one.
        table: where table.csv goes.
        metrics: where metrics.json goes.
    """
    settings = ReportSpec.model_validate_json(spec)
    rows = gather(scores, costs, records, settings.methods, settings.starts, settings.before)
    write_csv(table, COLUMNS, with_linear(rows, linear))
    write_json(metrics, nested(groups(read_results(table))))
