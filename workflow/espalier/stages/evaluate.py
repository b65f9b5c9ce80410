"""Score a compact model on every evaluation set and keep its predictions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from espalier.config.data import Kind
from espalier.config.job_specs import EvaluateSpec
from espalier.data.batches import Rows
from espalier.data.packed import FIXED_SEED, Packed
from espalier.data.spans import Examples
from espalier.evaluation.predict import (
    Graded,
    all_logits,
    graded,
    masked_scores,
    masked_sums,
    predictions_of,
    scores_of,
    span_scores,
)
from espalier.evaluation.squad import SPAN_METRICS
from espalier.models.files import open_student
from espalier.runtime.files import atomic, read_json, write_json
from espalier.training.run import accelerator_for, open_tokens


def run(spec: str, *, model: list[Path], task: Path, tokens: Path, scores: Path, predictions: Path) -> None:
    """Write scores.json and, for paired comparisons, predictions.parquet.

    That has a line a row: its label, prediction and logits, or for text the number of masked tokens, how many of them
    were guessed, and the sum of their losses in nats. For spans it has a line a question: its id, the answer in words, the
    gold answers, and F1 and exact match against the best of them.
    """
    wanted = EvaluateSpec.model_validate_json(spec)
    accelerator = accelerator_for(wanted.machine)
    student = open_student(model, wanted.kind).to(accelerator.device)
    rows = open_tokens(tokens, student.config.pad_token_id, FIXED_SEED)
    if isinstance(rows, Packed):
        sums = masked_sums(student, rows, accelerator)
        columns = {"masked": sums.masked, "correct": sums.correct, "loss": sums.loss}
        sets, table = masked_scores(sums, rows), pd.DataFrame({"set": rows.sets, **columns})
    else:
        logits = all_logits(student, rows, accelerator)
        if rows.examples:
            found = graded(logits, rows.examples, list(SPAN_METRICS))
            sets, table = span_scores(logits, rows, found, wanted.metrics), _spans(found, rows.examples)
        else:
            sets, table = scores_of(logits, rows, wanted.kind, wanted.metrics), _predictions(logits, rows, wanted.kind)
    name, metric = read_json(task)["sets"][0], wanted.metrics[0]
    with atomic(predictions) as temporary:
        table.to_parquet(temporary, index=False)
    write_json(scores, {"score": sets[name][metric], "metric": metric, "set": name, "sets": sets})


def _predictions(logits: Float[Tensor, "rows classes"], rows: Rows, kind: Kind) -> pd.DataFrame:
    table = pd.DataFrame({"set": rows.sets, "label": rows.labels, "prediction": predictions_of(logits, kind)})
    return table.assign(logits=logits.tolist())


def _spans(found: Graded, examples: Examples) -> pd.DataFrame:
    columns = {"set": examples.sets, "id": examples.ids, "prediction": found.answers, "gold": examples.answers}
    return pd.DataFrame(columns | found.marks)
