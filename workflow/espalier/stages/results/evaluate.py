"""Score a compact model on every evaluation set and keep its predictions, in the precision in which it is exported."""

from __future__ import annotations

from pathlib import Path

from espalier.config.data import MEAN
from espalier.config.job_specs import SERVING, EvaluateSpec, Machine
from espalier.data.packed import FIXED_SEED
from espalier.evaluation.predict import with_mean
from espalier.kinds.base import open_rows, task_kind
from espalier.models.files import open_student
from espalier.runtime.files import atomic, read_json, write_json
from espalier.training.run import accelerator_for


def run(spec: str, *, model: list[Path], task: Path, tokens: Path, scores: Path, predictions: Path) -> None:
    """Write scores.json and, for paired comparisons, predictions.parquet, whose columns the kind of task decides."""
    wanted = EvaluateSpec.model_validate_json(spec)
    # Whoever opens the exported model computes in fp32, so the score is that of fp32 whatever training computed in.
    machine = Machine(device=wanted.device, precision="fp32")
    accelerator = accelerator_for(machine)
    student = open_student(model, wanted.kind).to(accelerator.device)

    kind = task_kind(wanted.kind)
    rows = open_rows(tokens, wanted.kind, student.config.pad_token_id, FIXED_SEED)
    rows = kind.as_served(rows, getattr(student.config, SERVING, {}))
    measured = kind.measure(student, rows, accelerator)
    card, metric = read_json(task), wanted.metrics[0]
    averaged = card.get("mean", [])
    sets = with_mean(kind.scores(measured, rows, wanted.metrics), averaged)

    name = MEAN if averaged else card["sets"][0]
    with atomic(predictions) as temporary:
        kind.predictions(measured, rows).to_parquet(temporary, index=False)
    chosen = {"score": sets[name][metric], "metric": metric, "set": name} | ({"mean": averaged} if averaged else {})
    write_json(scores, chosen | {"precision": machine.precision, **kind.decisions(measured), "sets": sets})
