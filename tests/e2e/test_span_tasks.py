"""A span task through the whole DAG: questions in jsonl, long contexts, a teacher and two students."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from transformers import AutoModelForQuestionAnswering

from tests import tiny
from tests.cards import lines_of, run_lines

pytestmark = pytest.mark.slow
FAST = {"batch_size": 16, "learning_rate": 2.0e-3, "evaluate_every": 1.0}
CONFIG = {
    "project": "asked",
    "seeds": [1],
    "precision": "fp32",
    "bases": {"tiny": {"source": "local", "path": "tiny"}},
    "tasks": {
        "questions": {
            "kind": "span",
            "source": "files",
            "train": "train.jsonl",
            "validation": "validation.jsonl",
            "text": ["question", "context"],
            "label": "answers",
            "metric": "squad-f1",
            "also": ["exact-match"],
            "max_length": 20,
            "stride": 6,
            "max_answer_length": 4,
        }
    },
    "teacher": {"epochs": 30.0, "checkpoint": "best", **FAST},
    "plans": {
        "sdp": {"method": "sdp", "path": [0.5], "start": "teacher", "objective": "cc+kld", **FAST},
        "cofi": {
            **{"method": "cofi", "path": [0.5], "start": "teacher", "prepruning_epochs": 0.0, "pruning_epochs": 4.0},
            **{"sparsity_warmup_epochs": 1.0, **FAST},
        },
    },
    "measure": {"repeats": 3, "length": 16},
    "progress": {"log_every": 2},
}
NAMES = {"text_a": "question", "text_b": "context"}


@pytest.fixture(scope="module")
def asked(make_clone, tmp_path_factory):
    clone = make_clone(tmp_path_factory.mktemp("asked"))
    tiny.write_base(clone.folder / "tiny")
    for seed, (name, count) in enumerate([("train", 200), ("validation", 60)]):
        rows = [{NAMES.get(key, key): value for key, value in row.items()} for row in tiny.span_rows(count, seed)]
        (clone.folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clone.write_config(CONFIG)
    clone.run_all()
    return clone


def test_the_table_has_scores_of_answers(asked):
    table = pd.read_csv(asked.folder / "results/asked/table.csv").set_index("plan")
    assert set(table.index) == {"teacher", "sdp", "cofi"} and (table["metric"] == "squad-f1").all()
    assert table.loc["teacher", "score"] > 0.5, "a teacher that learned nothing tests nothing"
    assert (table.loc[["sdp", "cofi"], "sparsity_encoder"] - 0.5).abs().max() < 0.01


@pytest.mark.parametrize("student", ["teacher/0", "sdp/50", "cofi/50"])
def test_a_model_opens_and_its_answers_stand_in_the_contexts(asked, student):
    folder = asked.folder / f"results/asked/tiny/questions/seed1/{student}"
    assert AutoModelForQuestionAnswering.from_pretrained(folder / "compact").config.num_labels == 2
    assert "question-answering" in (folder / "compact/README.md").read_text()
    predictions = pd.read_parquet(folder / "predictions.parquet").set_index("id")
    contexts = pd.read_parquet(asked.folder / "results/asked/prepared/questions/evaluation.parquet").set_index("id")["text_b"]
    assert len(predictions) == 60 and all(row.prediction in contexts[name] for name, row in predictions.iterrows())


@pytest.mark.parametrize("student", ["teacher/0", "sdp/50", "cofi/50"])
def test_the_card_s_lines_give_the_stored_answers(asked, student):
    """As printed, on the evaluation rows, some of whose contexts are read in several windows."""
    folder = asked.folder / f"results/asked/tiny/questions/seed1/{student}"
    rows = pd.read_parquet(asked.folder / "results/asked/prepared/questions/evaluation.parquet")
    stored = pd.read_parquet(folder / "predictions.parquet").set_index("id")["prediction"]
    texts = {"a question": rows["text_a"].tolist(), "its context": rows["text_b"].tolist()}
    for lines in lines_of((folder / "compact/README.md").read_text()):
        answers = run_lines(lines, folder / "compact", texts)["answers"]
        assert answers == stored[rows["id"]].tolist()
