"""Pruning without training, for real: from a teacher to compact models, a recovery, a plan that goes on, and a refit."""

from __future__ import annotations

import pandas as pd
import pytest
from transformers import AutoModelForSequenceClassification

import espalier.models.modeling_espalier  # noqa: F401  # so that compact models open
from espalier.models.encoder import count_weights
from espalier.runtime.files import read_json
from tests import tiny
from tests.e2e.test_pipeline import FAST, write_rows

pytestmark = pytest.mark.slow
GATES = {"pruning_epochs": 3.0, "sparsity_warmup_epochs": 1.0, "prepruning_epochs": 1.0}
CONFIG = {
    "project": "untrained",
    "rivals": {"linear": False},
    "deploy": {"formats": []},
    "seeds": [1],
    "bases": {"tiny": {"source": "local", "path": "tiny"}},
    "tasks": {
        "sorts": {
            **{"kind": "classification", "source": "files", "train": "train.csv", "validation": "first.csv", "text": ["left"]},
            **{"max_length": 24, "label": "sort", "metric": "accuracy"},
        }
    },
    "teacher": {"epochs": 3.0, **FAST},
    "plans": {
        "kprune": {"method": "kprune", "path": [0.4, 0.6]},
        "kwon": {"method": "kwon", "path": [0.5], "calibration_rows": 100, "refit": True},
        "recovered": {"method": "kprune", "path": [0.5], "recover": {"epochs": 1.0}, **FAST},
        "after": {"method": "cofi", "path": [0.8], "start": {"plan": "kprune", "at": 0.4}, **GATES, **FAST},
        "sliced": {"method": "small-dense", "path": [0.5], "start": "teacher", "epochs": 1.0, "refit": True, **FAST},
    },
    "measure": {"repeats": 3, "length": 16},
    "progress": {"log_every": 2},
}


@pytest.fixture(scope="module")
def project(make_clone, tmp_path_factory):
    clone = make_clone(tmp_path_factory.mktemp("untrained"))
    tiny.write_base(clone.folder / "tiny")
    for seed, (name, count) in enumerate([("train", 160), ("first", 60)]):
        write_rows(clone.folder / f"{name}.csv", count, seed)
    clone.write_config(CONFIG)
    clone.run_all()
    return clone


def folder_of(project, plan, percent):
    return project.folder / f"results/untrained/tiny/sorts/seed1/{plan}/{percent}"


def test_every_student_has_its_size_and_those_without_training_no_updates(project):
    table = pd.read_csv(project.folder / "results/untrained/table.csv", dtype={"stage": str}, keep_default_na=False)
    rows = table[table["plan"] != "teacher"].set_index(["plan", "stage"])
    assert set(rows.index) == {
        *(("kprune", "40"), ("kprune", "60"), ("kwon", "50"), ("recovered", "50"), ("after", "80"), ("sliced", "50"))
    }
    for key, row in rows.iterrows():
        assert abs(row["sparsity_encoder"] - row["target"]) < 0.03, key
        assert 0.0 <= row["score"] <= 1.0 and (row["updates"] == 0) == (key[0] in ("kprune", "kwon")), key
    assert rows.loc[("after", "80"), "start"] == "sorts/kprune/40"
    assert (rows["train_seconds"] > 0).all(), "a calibration takes time, too"


def test_records_say_what_was_looked_at(project):
    for plan, percent, rows in (("kprune", "40", 160), ("kprune", "60", 160), ("kwon", "50", 100)):
        record = read_json(folder_of(project, plan, percent) / "run.json")
        assert record["steps"] == 0 and record["calibration"]["rows"] == rows and record["selected"]["step"] == 0
        history = pd.read_parquet(folder_of(project, plan, percent) / "history.parquet")
        assert history["step"].tolist() == [0] and history["validation/accuracy"].notna().all()
    for plan in ("kwon", "sliced"):
        found = read_json(folder_of(project, plan, "50") / "run.json")["refit"]
        assert found["rows"] == (100 if plan == "kwon" else 160)
        assert found["taken"] == (found["error_refitted"] <= found["error_before"])
    assert read_json(folder_of(project, "after", "80") / "run.json")["calibration"] is None


def test_compact_models_open_and_are_smaller(project):
    dense = count_weights(tiny.classifier())
    for plan, percent in (("kprune", "60"), ("kwon", "50"), ("recovered", "50")):
        folder = next(folder_of(project, plan, percent).rglob("compact"))
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        assert abs(1 - count_weights(model) / dense - float(percent) / 100) < 0.03
        assert (folder / "onnx/model.onnx").is_file()
    assert (project.folder / "results/untrained/report.html").is_file()
