"""Score a compact model on every evaluation set and keep its predictions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from espalier.config.specs import EvaluateSpec
from espalier.core.batches import Rows
from espalier.core.models import open_student
from espalier.core.predict import all_logits, predictions_of, scores_of
from espalier.core.runtime import atomic, read_json, write_json
from espalier.core.training import accelerator_for


def run(spec: str, *, model: list[Path], task: Path, tokens: Path, scores: Path, predictions: Path) -> None:
    """Write scores.json and, for paired comparisons, predictions.parquet."""
    wanted = EvaluateSpec.model_validate_json(spec)
    accelerator = accelerator_for(wanted.machine)
    student = open_student(model, wanted.kind).to(accelerator.device)
    rows = Rows.read(tokens, student.config.pad_token_id)
    logits = all_logits(student, rows, accelerator)
    sets = scores_of(logits, rows, wanted.kind, wanted.metrics)
    name, metric = read_json(task)["sets"][0], wanted.metrics[0]
    table = pd.DataFrame({"set": rows.sets, "label": rows.labels, "prediction": predictions_of(logits, wanted.kind)})
    table["logits"] = logits.tolist()
    with atomic(predictions) as temporary:
        table.to_parquet(temporary, index=False)
    write_json(scores, {"score": sets[name][metric], "metric": metric, "set": name, "sets": sets})
