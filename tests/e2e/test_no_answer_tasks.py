"""Questions of which some have no answer, through the whole DAG: the threshold is decided once, and all that serve use it."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from espalier.__main__ import main
from espalier.runtime.files import read_json
from tests import tiny
from tests.cards import lines_of, run_lines
from tests.conftest import Clone
from tests.e2e.test_span_tasks import CONFIG as ASKED
from tests.e2e.test_span_tasks import NAMES

pytestmark = pytest.mark.slow
METRICS = ["exact-match", "has-answer-f1", "no-answer-accuracy", "best-f1"]
QUESTIONS = ASKED["tasks"]["questions"] | {"no_answer": True, "holdout": 0.2, "also": METRICS}
CONFIG = ASKED | {"tasks": {"questions": QUESTIONS}, "plans": {}, "deploy": {"formats": ["torch", "onnx"]}}
TEACHER = "results/asked/tiny/questions/seed1/teacher/0"


@pytest.fixture(scope="module")
def asked(make_clone, tmp_path_factory) -> Clone:
    """A teacher that was asked questions of which every third stands over a context without words of its third."""
    clone = make_clone(tmp_path_factory.mktemp("no-answer"))
    tiny.write_base(clone.folder / "tiny")
    for seed, (name, count) in enumerate([("train", 240), ("validation", 60)]):
        rows = [{NAMES.get(key, key): value for key, value in row.items()} for row in tiny.span_rows(count, seed)]
        for number, row in enumerate(rows):
            if number % 3 == 0:
                answer = row["answers"]["text"][0]
                row["context"] = row["context"].replace(answer, "").strip()
                row["answers"] = {"text": [], "answer_start": []}
        (clone.folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clone.write_config(CONFIG)
    clone.run_all()
    return clone


def test_scores_are_at_the_threshold_that_the_exported_model_carries(asked: Clone) -> None:
    scores = read_json(asked.folder / TEACHER / "scores.json")
    threshold = read_json(asked.folder / TEACHER / "compact/config.json")["espalier"]["no_answer_threshold"]
    assert (
        threshold
        == scores["no_answer_threshold"]
        == read_json(asked.folder / TEACHER / "decisions.json")["no_answer_threshold"]
    )

    table, values = pd.read_parquet(asked.folder / TEACHER / "predictions.parquet"), scores["sets"]["validation"]
    table = table[table["set"] == "validation"]
    assert ((table["prediction"] == "") == (table["null_score"] > threshold)).all() and 0 < (
        table["prediction"] == ""
    ).sum() < 60
    without = table["gold"].map(len) == 0
    assert values["no-answer-accuracy"] == pytest.approx((table["prediction"][without] == "").mean())
    assert values["best-f1"] >= values["squad-f1"] == pytest.approx(table["squad-f1"].mean())


def test_every_format_says_the_same(asked: Clone) -> None:
    formats = read_json(asked.folder / TEACHER / "deploy/compact.json")["formats"]
    assert all(values["agreement"] >= 0.98 for values in formats.values()) and set(formats) == {"torch", "onnx"}


def test_the_card_s_lines_and_predict_say_what_is_stored(asked: Clone, capsys) -> None:
    folder = asked.folder / TEACHER
    rows = pd.read_parquet(asked.folder / "results/asked/prepared/questions/evaluation.parquet")
    stored = pd.read_parquet(folder / "predictions.parquet").set_index("id")["prediction"][rows["id"]].tolist()
    texts = {"a question": rows["text_a"].tolist(), "its context": rows["text_b"].tolist()}
    card = (folder / "compact/README.md").read_text()
    assert "may say that a question has no answer in its context" in card
    for lines in lines_of(card):
        assert run_lines(lines, folder / "compact", texts)["answers"] == stored

    nothing = stored.index("")
    asking = ["--text", rows["text_a"][nothing], "--pair", rows["text_b"][nothing]]
    assert main(["predict", str(folder / "compact"), *asking]) == 0
    assert capsys.readouterr().out.startswith("no answer ")
