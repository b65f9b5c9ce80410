"""The whole DAG, for real, on a two-layer encoder and a few rows of text."""

from __future__ import annotations

import csv
import json
import random

import numpy
import pandas as pd
import pytest
from safetensors.numpy import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests import tiny
from tests.cards import lines_of, run_lines

pytestmark = pytest.mark.slow
FAST = {"batch_size": 16, "learning_rate": 2.0e-3, "evaluate_every": 0.5}
CONFIG = {
    "project": "whole",
    "rivals": {"linear": False},
    "deploy": {"formats": []},
    "seeds": [1],
    "precision": "fp32",
    "bases": {"tiny": {"source": "local", "path": "tiny"}},
    "tasks": {
        "sorts": {
            "kind": "classification",
            "source": "files",
            "train": "train.csv",
            "validation": {"first": "first.csv", "second": "second.csv"},
            "text": ["left", "right"],
            "label": "sort",
            "metric": "accuracy",
            "also": ["macro-f1"],
            "max_length": 24,
            "holdout": 0.2,
        },
        "grades": {
            "kind": "regression",
            "source": "files",
            "train": "train.csv",
            "validation": "first.csv",
            "text": ["left"],
            "label": "grade",
            "metric": "spearman",
            "max_length": 24,
        },
    },
    "teacher": {"epochs": 6.0, "checkpoint": "best", **FAST},
    "teacher_outputs": {"store": "always"},
    "plans": {
        "magnitude": {"method": "magnitude", "path": [0.5], "recover": {"epochs": 0.0}, **FAST},
        "sdp": {"method": "sdp", "path": [0.5], "start": "teacher", "evaluate_removals": True, "evaluate_train": True, **FAST},
        "cofi": {"method": "cofi", "path": [0.5, 0.8], "pruning_epochs": 3.0, "sparsity_warmup_epochs": 1.0, **FAST},
    },
    "analyses": {"sdp": ["representations", "errors", "weights"], "cofi": ["errors"]},
    "measure": {"repeats": 3, "length": 16},
    "progress": {"log_every": 2},
}


def write_rows(path, count, seed):
    generator = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["left", "right", "sort", "grade"])
        for _ in range(count):
            third = generator.randrange(3)
            sides = [" ".join(f"word{20 * third + generator.randrange(20)}" for _ in range(4)) for _ in range(2)]
            writer.writerow([*sides, ("low", "middle", "high")[third], third + generator.random()])


@pytest.fixture(scope="module")
def whole(make_clone, tmp_path_factory):
    clone = make_clone(tmp_path_factory.mktemp("whole"))
    tiny.write_base(clone.folder / "tiny")
    for seed, (name, count) in enumerate([("train", 240), ("first", 60), ("second", 60)]):
        write_rows(clone.folder / f"{name}.csv", count, seed)
    clone.write_config(CONFIG)
    clone.run_all()
    return clone


def test_a_second_run_has_nothing_to_do(whole):
    assert whole.jobs() == set()


def test_what_a_teacher_says_is_stored_once_and_read_by_all_jobs_that_compare_with_it(whole):
    logs = whole.folder / "logs"
    readers = [path for path in logs.rglob("*.log") if "teacher's outputs: read as results/whole/" in path.read_text()]
    assert {path.relative_to(logs).parts[0] for path in readers} == {"compress", "recover"}
    assert len(readers) == 2 * 2 * (1 + 2), "two tasks, stages and recoveries of sdp and cofi"
    assert len(list((logs / "teach").rglob("*.log"))) == 2 * 2, "two tasks; a vector for sdp, layers for cofi"


def test_the_table_has_a_row_for_every_teacher_and_student(whole):
    table = pd.read_csv(whole.folder / "results/whole/table.csv")
    assert len(table) == 2 * (1 + 1 + 1 + 2)
    assert table.drop(columns=["latency_b1_ms", "latency_b32_ms", "start", "unlabelled_rows"]).notna().all(axis=None)
    students = table[table["plan"] != "teacher"]
    assert (students["sparsity_encoder"] - students["target"]).abs().max() < 0.01  # heads are 6 % of this encoder
    teachers = table[(table["plan"] == "teacher") & (table["task"] == "sorts")]
    assert (teachers["score"] > 0.6).all(), "a teacher that learned nothing tests nothing"


def test_the_report_is_there_and_whole(whole):
    page = (whole.folder / "results/whole/report.html").read_text()
    assert "sorts" in page and "sdp" in page and page.rstrip().endswith("</html>")
    assert (
        json.loads((whole.folder / "results/whole/metrics.json").read_text())["tiny"]["sorts"]["cofi"]["80"]["score"]["n"] == 1
    )


def test_students_are_analysed_and_the_report_tells(whole):
    folder = whole.folder / "results/whole/tiny/sorts/seed1"
    assert not (folder / "magnitude/50/analysis.json").exists()
    found = json.loads((folder / "sdp/50/analysis.json").read_text())
    assert found["rows"] == 60 and 0 < found["errors"]["distance"] <= found["errors"]["bound"]
    assert found["representations"]["student"]["separability"] > 0
    page = (whole.folder / "results/whole/report.html").read_text()
    assert all(title in page for title in ("Analyses", "Implicit sparsity", "Recovery after a removal", "Overfitting gap"))


def test_held_out_rows_selected_the_teacher(whole):
    record = json.loads((whole.folder / "results/whole/tiny/sorts/seed1/teacher/0/run.json").read_text())
    assert record["selected"]["set"] == "selection"
    scores = json.loads((whole.folder / "results/whole/tiny/sorts/seed1/teacher/0/scores.json").read_text())
    assert scores["set"] == "first" and list(scores["sets"]) == ["first", "second", "selection"]


@pytest.mark.parametrize("student", ["sdp/50", "cofi/50", "cofi/80"])
def test_a_compact_model_opens_with_the_auto_classes(whole, student):
    folder = whole.folder / f"results/whole/tiny/sorts/seed1/{student}/compact"
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    logits = model(**tokenizer("word1 word2", "word3", return_tensors="pt")).logits
    assert logits.shape == (1, 3) and set(model.config.label2id) == {"low", "middle", "high"}


@pytest.mark.parametrize(
    "student", ["sorts/seed1/teacher/0", "sorts/seed1/cofi/80", "sorts/seed1/sdp/50", "grades/seed1/cofi/50"]
)
def test_the_card_s_lines_give_the_stored_predictions(whole, student):
    """Pairs in one task, single texts in the other; with PyTorch and from the ONNX file."""
    folder = whole.folder / "results/whole/tiny" / student
    rows = pd.read_parquet(whole.folder / f"results/whole/prepared/{student.partition('/')[0]}/evaluation.parquet")
    stored = pd.read_parquet(folder / "predictions.parquet")
    texts = {"a text": rows["text_a"].tolist()}
    if "text_b" in rows:
        texts["the other text"] = rows["text_b"].tolist()
    for lines in lines_of((folder / "compact/README.md").read_text()):
        logits = run_lines(lines, folder / "compact", texts)["logits"]
        numpy.testing.assert_allclose(numpy.asarray(logits.tolist()), numpy.stack(stored["logits"]), atol=1e-3)


def test_a_later_stage_of_a_structured_path_trains_the_smaller_model(whole):
    folder = whole.folder / "results/whole/tiny/sorts/seed1/cofi"
    weights = [(folder / percent / "model.safetensors").stat().st_size for percent in ("50", "80")]
    teacher = (whole.folder / "results/whole/tiny/sorts/seed1/teacher/0/model.safetensors").stat().st_size
    assert teacher > weights[0] > weights[1]
    first, second = (load_file(folder / percent / "masks.safetensors") for percent in ("50", "80"))
    assert all((second[name] & ~first[name] == 0).all() for name in first), "nothing comes back"


def test_a_model_has_a_card_and_onnx(whole):
    folder = whole.folder / "results/whole/tiny/sorts/seed1/cofi/80/compact"
    assert "cofi" in (folder / "README.md").read_text() and (folder / "onnx/model.onnx").stat().st_size > 0


def test_one_more_target_runs_that_stage_alone(whole):
    more = {**CONFIG, "plans": {**CONFIG["plans"], "cofi": {**CONFIG["plans"]["cofi"], "path": [0.5, 0.8, 0.9]}}}
    whole.write_config(more, "more.yaml")
    jobs = whole.jobs("--configfile", "more.yaml")
    assert {job for job in jobs if job.startswith("compress")} == {"compress 1 cofi 90"}
