"""Texts with several labels, and texts that answer queries, through the whole DAG: templates, thresholds, every format."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from espalier.commands import predict
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json
from tests import tiny
from tests.cards import lines_of, run_lines

pytestmark = pytest.mark.slow
FAST = {"batch_size": 16, "learning_rate": 2.0e-3, "evaluate_every": 2.0}
FILES = {"source": "files", "max_length": 20}
CONFIG = {
    "project": "kinds",
    "seeds": [1],
    "precision": "fp32",
    "bases": {"tiny": {"source": "local", "path": "tiny"}},
    "tasks": {
        "tagged": {
            **{
                "kind": "multilabel",
                **FILES,
                "train": "tagged.jsonl",
                "validation": "tagged-new.jsonl",
                "text": ["title", "body"],
            },
            **{"template": ["{title} word19 {body}"], "label": "labels", "metric": "micro-f1", "also": ["macro-f1"]},
            **{"thresholds": "class", "holdout": 0.2},
        },
        "found": {
            **{"kind": "ranking", **FILES, "train": "found.jsonl", "validation": "found-new.jsonl"},
            **{"text": ["query", "title", "body"], "label": "grade", "query": "id", "metric": "ndcg@10", "also": ["mrr"]},
            **{"holdout": 0.1, "loss": "pairwise"},
        },
    },
    "teacher": {"epochs": 8.0, "checkpoint": "best", **FAST},
    "plans": {
        "cofi": {
            **{"method": "cofi", "path": [0.5], "start": "teacher", "prepruning_epochs": 0.0, "pruning_epochs": 3.0},
            **{"sparsity_warmup_epochs": 1.0, **FAST},
        },
    },
    "deploy": {"formats": ["torch", "onnx", "onnx-int8"]},
    "measure": {"repeats": 3, "length": 16},
    "progress": {"log_every": 2},
}
MODELS = ("teacher/0", "cofi/50")


@pytest.fixture(scope="module")
def kinds(make_clone, tmp_path_factory):
    clone = make_clone(tmp_path_factory.mktemp("kinds"))
    tiny.write_base(clone.folder / "tiny")
    for name, rows in (("tagged", tiny.label_set_rows), ("found", tiny.ranking_rows)):
        for seed, (ending, count) in enumerate([("", 240), ("-new", 60)]):
            lines = (json.dumps(row) + "\n" for row in rows(count if name == "tagged" else count // 4, seed))
            (clone.folder / f"{name}{ending}.jsonl").write_text("".join(lines))
    clone.write_config(CONFIG)
    clone.run_all()
    return clone


def folder_of(clone, task: str, model: str):
    return clone.folder / f"results/kinds/tiny/{task}/seed1/{model}"


def test_the_table_has_scores_of_both_kinds_and_of_linear_models(kinds):
    table = pd.read_csv(kinds.folder / "results/kinds/table.csv").set_index(["task", "plan"])
    for task, metric, least in (("tagged", "micro-f1", 0.8), ("found", "ndcg@10", 0.9)):
        assert set(table.loc[task].index) == {"teacher", "cofi", "linear"}
        assert (table.loc[task, "metric"] == metric).all()
        assert table.loc[(task, "teacher"), "score"] > least, "a teacher that learned nothing tests nothing"


def test_no_query_is_torn(kinds):
    prepared = kinds.folder / "results/kinds/prepared/found"
    train, evaluation = (pd.read_parquet(prepared / f"{name}.parquet") for name in ("train", "evaluation"))
    held_out = evaluation[evaluation["set"] == "selection"]
    assert len(held_out) == 24 and not set(held_out["query"]) & set(train["query"])
    assert (held_out.groupby("query").size() == 4).all()


@pytest.mark.parametrize("model", MODELS)
def test_thresholds_travel_with_the_model_and_give_the_stored_predictions(kinds, model):
    folder = folder_of(kinds, "tagged", model)
    opened = AutoModelForSequenceClassification.from_pretrained(folder / "compact")
    assert opened.config.problem_type == "multi_label_classification"
    assert [opened.config.id2label[place] for place in range(3)] == sorted(tiny.THIRDS)
    thresholds = opened.config.espalier["thresholds"]
    scores = read_json(folder / "scores.json")
    assert thresholds == scores["thresholds"] == read_json(folder / "decisions.json")["thresholds"]
    assert len(set(thresholds)) > 1, "one threshold a class was asked for"

    # whoever has transformers alone and the thresholds gets the same labels
    tokenizer = AutoTokenizer.from_pretrained(folder / "compact")
    rows = pd.read_parquet(kinds.folder / "results/kinds/prepared/tagged/evaluation.parquet")
    encoded = tokenizer(rows["text_a"].tolist(), padding=True, truncation=True, max_length=20, return_tensors="pt")
    with torch.inference_mode():
        chosen = opened(**encoded).logits.sigmoid().numpy() >= np.array(thresholds)
    stored = pd.read_parquet(folder / "predictions.parquet")["prediction"]
    assert [" ".join(map(str, np.flatnonzero(row))) for row in chosen] == stored.tolist()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("task", ["tagged", "found"])
def test_every_format_is_scored_in_its_runtime(kinds, task, model):
    folder = folder_of(kinds, task, model)
    formats = read_json(folder / "deploy/compact.json")["formats"]
    assert list(formats) == ["torch", "onnx", "onnx-int8"]
    for name in ("torch", "onnx"):
        assert formats[name]["agreement"] == pytest.approx(1.0, abs=1e-6) and abs(formats[name]["drop"]) < 1e-6
    assert formats["onnx-int8"]["agreement"] > 0.5


@pytest.mark.parametrize("model", MODELS)
def test_predict_reads_columns_as_training_did(kinds, tmp_path, model):
    for task in ("tagged", "found"):
        folder = folder_of(kinds, task, model)
        output = tmp_path / f"{task}.parquet"
        file = kinds.folder / f"{task}-new.jsonl"
        assert predict.main([str(folder / "compact"), str(file), "--format", "onnx", "--output", str(output)]) == 0
        answers, stored = pd.read_parquet(output), pd.read_parquet(folder / "predictions.parquet")
        stored = stored[stored["set"] == "validation"]
        if task == "found":
            np.testing.assert_allclose(answers["score"], stored["prediction"], atol=1e-4)
            continue
        chosen = answers[[f"label_{name}" for name in sorted(tiny.THIRDS)]].to_numpy()
        assert [" ".join(map(str, np.flatnonzero(row))) for row in chosen] == stored["prediction"].tolist()


def test_texts_of_the_command_line_are_answered_where_they_fit(kinds, capsys):
    """Two columns can be given there, three cannot; labels stand before the probabilities."""
    tagged, found = (str(folder_of(kinds, task, "teacher/0") / "compact") for task in ("tagged", "found"))
    assert predict.main([tagged, "--text", "word3", "--pair", "word5 word7 word2"]) == 0
    labels, _, probabilities = capsys.readouterr().out.strip().partition(": ")
    assert set(labels.split(", ")) <= {*tiny.THIRDS, "none"} and len(probabilities.split(", ")) == 3
    with pytest.raises(UserError, match="the model reads 3 columns, query, title, body: give a file with them"):
        predict.main([found, "--text", "word3", "--pair", "word5"])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("task", ["tagged", "found"])
def test_the_card_s_lines_give_the_stored_answers(kinds, task, model):
    """As printed, but for the rows: those of the file."""
    folder = folder_of(kinds, task, model)
    card = (folder / "compact/README.md").read_text()
    assert ("text-ranking" if task == "found" else "text-classification") in card
    columns = ["title", "body"] if task == "tagged" else ["query", "title", "body"]
    rows = [json.loads(line) for line in (kinds.folder / f"{task}-new.jsonl").read_text().splitlines()]
    example = f"rows = [{dict.fromkeys(columns, 'a text')!r}]"
    stored = pd.read_parquet(folder / "predictions.parquet").query("set == 'validation'")
    for lines in lines_of(card):
        assert lines.count(example) == 1, lines
        given = lines.replace(example, f"rows = {[{name: row[name] for name in columns} for row in rows]!r}")
        found = run_lines(given, folder / "compact", {})
        if task == "found":
            logits = found["logits"]
            logits = logits.detach().numpy() if isinstance(logits, torch.Tensor) else logits
            np.testing.assert_allclose(logits[:, 0], stored["prediction"], atol=1e-4)
        else:
            names = sorted(tiny.THIRDS)
            assert [" ".join(str(names.index(name)) for name in row) for row in found["answers"]] == stored[
                "prediction"
            ].tolist()
