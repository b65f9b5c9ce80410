"""Score a compact model on every evaluation set and keep its predictions."""

from __future__ import annotations

from pathlib import Path

from espalier.config.job_specs import EvaluateSpec
from espalier.data.packed import FIXED_SEED
from espalier.kinds.base import open_rows, task_kind
from espalier.models.files import open_student
from espalier.runtime.files import atomic, read_json, write_json
from espalier.training.run import accelerator_for


def run(spec: str, *, model: list[Path], task: Path, tokens: Path, scores: Path, predictions: Path) -> None:
    """Write scores.json and, for paired comparisons, predictions.parquet, whose columns the kind of task decides."""
    wanted = EvaluateSpec.model_validate_json(spec)
    accelerator = accelerator_for(wanted.machine)
    student = open_student(model, wanted.kind).to(accelerator.device)

    kind = task_kind(wanted.kind)
    rows = open_rows(tokens, wanted.kind, student.config.pad_token_id, FIXED_SEED)
    measured = kind.measure(student, rows, accelerator)
    sets = kind.scores(measured, rows, wanted.metrics)

    name, metric = read_json(task)["sets"][0], wanted.metrics[0]
    with atomic(predictions) as temporary:
        kind.predictions(measured, rows).to_parquet(temporary, index=False)
    write_json(scores, {"score": sets[name][metric], "metric": metric, "set": name, "sets": sets})
