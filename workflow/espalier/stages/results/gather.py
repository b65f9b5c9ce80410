"""Gather one row for each model, folder and format: what `choose`, the report and people decide by."""

from __future__ import annotations

from pathlib import Path

from espalier.config.deployment.specs import GatherSpec
from espalier.results.formats import format_columns, gather_formats
from espalier.runtime.files import write_csv


def run(spec: str, *, deployments: list[Path], costs: list[Path], linear: list[Path], table: Path) -> None:
    """Write deploy.csv. A format that loses more score than the configuration allows has `no` in the column `passed`.

    Args:
        spec: a `GatherSpec` as JSON.
        deployments: what `deploy` wrote of every model.
        costs: cost.json of every model.
        linear: linear.json of every task that has one.
        table: where deploy.csv goes.
    """
    wanted = GatherSpec.model_validate_json(spec)
    rows = gather_formats(deployments, costs, linear, wanted.max_drop, wanted.measure)
    write_csv(table, format_columns(wanted.measure), rows)
