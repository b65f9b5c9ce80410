"""Read a task's rows, check them, and write them in the one form that the other stages read."""

from __future__ import annotations

from pathlib import Path

from espalier.config.job_specs import PrepareSpec
from espalier.kinds.base import task_kind
from espalier.runtime.files import write_json


def run(spec: str, *, train: Path, evaluation: Path, task: Path) -> None:
    """Write the training rows, all evaluation sets in one table with the column `set`, and what is to know of them."""
    settings = PrepareSpec.model_validate_json(spec)
    write_json(task, task_kind(settings.task.kind).prepare(settings, train, evaluation))
