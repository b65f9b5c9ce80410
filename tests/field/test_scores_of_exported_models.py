"""The score in the table is that of the model that users open: fp32, whatever training computed in.

Public source: NVIDIA/apex#632, where metrics of a model in memory, trained in mixed precision, and of the same model once it
was saved and loaded again are not the same.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from espalier.config import parse
from espalier.config.job_specs import evaluate_spec
from espalier.kinds.base import open_rows
from espalier.models.files import write_model
from espalier.stages.results import evaluate
from tests import stages, tiny
from tests.methods import on_text

NAMES = ("config.json", "model.safetensors")


def evaluated(kind: str, folder: Path, precision: str) -> tuple[dict, pd.DataFrame]:
    """scores.json and predictions of a tiny model, under a configuration that asks for a precision."""
    tasks = {"classification": tiny.write_task, "span": tiny.write_span_task, "text": lambda task: on_text.write_task(task)}
    models = {"classification": tiny.classifier, "span": tiny.answerer, "text": on_text.language_model}
    task = folder / "task"
    if not task.exists():
        tasks[kind](task)
        write_model(models[kind](3).eval(), *(folder / name for name in NAMES))

    block = {"classification": "mine", "text": "words"}.get(kind)
    config = stages.study(f"{{project: p, precision: {precision}, device: cpu, plans: {{}}}}")
    if kind == "span":
        config["tasks"] = {"squad": {"source": "files", "train": "a.jsonl", "validation": "b.jsonl"}}
        block = "squad"
    evaluate.run(
        evaluate_spec(parse(config), block).model_dump_json(),
        model=[folder / name for name in NAMES],
        task=task / "task.json",
        tokens=task / f"evaluation.{'arrow' if kind == 'text' else 'parquet'}",
        scores=folder / f"{precision}.json",
        predictions=folder / f"{precision}.parquet",
    )
    return json.loads((folder / f"{precision}.json").read_text()), pd.read_parquet(folder / f"{precision}.parquet")


@pytest.mark.parametrize("kind", ["classification", "span", "text"])
def test_precision_of_training_does_not_touch_scores_and_predictions(tmp_path: Path, kind: str) -> None:
    (half, halves), (full, fulls) = (evaluated(kind, tmp_path, precision) for precision in ("bf16", "fp32"))
    assert half == full and half["precision"] == "fp32"
    pd.testing.assert_frame_equal(halves, fulls, check_exact=True)


def test_predictions_are_the_logits_of_the_model_as_its_user_opens_it(tmp_path: Path) -> None:
    _, predictions = evaluated("classification", tmp_path, "bf16")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    rows = open_rows(tmp_path / "task/evaluation.parquet", "classification", 0, 0)
    with torch.no_grad():
        own = torch.cat([model(**rows.batch(np.array([row]), torch.device("cpu")).inputs()).logits for row in range(len(rows))])
    torch.testing.assert_close(torch.tensor(np.stack(predictions["logits"]), dtype=torch.float32), own, atol=1e-5, rtol=1e-5)
