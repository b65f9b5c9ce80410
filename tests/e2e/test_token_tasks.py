"""Words with tags: through the whole DAG with the papers' methods, and through the real stages with every method."""

from __future__ import annotations

import pandas as pd
import pytest
from transformers import AutoModelForTokenClassification, PreTrainedTokenizerFast

from espalier.config.methods import METHODS
from espalier.runtime.files import read_json
from tests import tagged, tiny
from tests.cards import run_lines

pytestmark = pytest.mark.slow
FAST = tagged.FAST
CORPUS = {
    "kind": "text",
    "source": "files",
    "train": "corpus.txt",
    "validation": "corpus.txt",
    "text": ["text"],
    "max_length": 16,
}
CONFIG = {
    "project": "named",
    "seeds": [1],
    "precision": "fp32",
    "bases": {"tiny": {"source": "local", "path": "tiny"}},
    "tasks": {"names": None, "corpus": CORPUS},
    "teacher": {"epochs": 16.0, **FAST},
    "pretrain": {"epochs": 1.0, **FAST},
    "plans": {
        "sdp": {**tagged.PLANS["sdp"], "start": "teacher"},
        "spd": {**tagged.PLANS["spd"], "start": "teacher"},
        "cofi": {**tagged.PLANS["cofi"], "start": "teacher", "pruning_epochs": 6.0},
        "narrow": {"method": "homodistil", "path": [0.3], "epochs": 4.0, "start": "teacher", **FAST},
        "tuned": {
            "method": "specialise",
            "start": {"plan": "narrow"},
            "path": [0.3],
            "epochs": 2.0,
            "alpha": 0.5,
            **FAST,
        },
    },
    "deploy": {"formats": ["onnx", "onnx-int8"]},
    "measure": {"repeats": 3, "length": 16},
    "progress": {"log_every": 2},
}
STUDENTS = ["teacher/0", "sdp/50", "spd/50", "cofi/50", "tuned/30"]


@pytest.fixture(scope="module")
def named(make_clone, tmp_path_factory):
    clone = make_clone(tmp_path_factory.mktemp("named"))
    base = tiny.write_base(clone.folder / "tiny")
    PreTrainedTokenizerFast.from_pretrained(base, mask_token="word59").save_pretrained(base)
    # two sets, in files of two forms
    for seed, (name, count) in enumerate([("train", 240), ("validation", 60), ("other", 30)]):
        tagged.write_jsonl(clone.folder / f"{name}.jsonl", tagged.sentences(count, seed))
    rows = tagged.sentences(30, 2)
    lines = ("".join(f"{word} _ {tag}\n" for word, tag in zip(row["words"], row["tags"], strict=True)) for row in rows)
    (clone.folder / "other.conll").write_text("\n".join(lines))
    (clone.folder / "corpus.txt").write_text("\n\n".join(" ".join(row["words"]) for row in rows))

    files = {"train": "train.jsonl", "validation": {"own": "validation.jsonl", "other": "other.conll"}}
    clone.write_config(CONFIG | {"tasks": CONFIG["tasks"] | {"names": tagged.task(clone.folder, **files)}})
    clone.run_all()
    return clone


def test_the_table_has_scores_of_entities(named):
    table = pd.read_csv(named.folder / "results/named/table.csv").set_index(["task", "plan"])
    own = table.loc["names"]
    assert set(own.index) == {"teacher", "sdp", "spd", "cofi", "tuned"} and (own["metric"] == "entity-f1").all()
    assert own.loc["teacher", "score"] > 0.5, "a teacher that learned nothing tests nothing"
    assert (own.loc[["sdp", "spd", "cofi"], "sparsity_encoder"] - 0.5).abs().max() < 0.02


@pytest.mark.parametrize("student", STUDENTS)
def test_predictions_are_words_and_the_card_s_lines_repeat_them(named, student):
    """As printed, on the words of short sentences; longer ones are several rows."""
    folder = named.folder / f"results/named/tiny/names/seed1/{student}"
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert predictions.columns.tolist() == ["set", "sentence", "place", "word", "label", "prediction"]
    rows = tagged.sentences(60, 1)
    own = predictions[predictions["set"] == "own"]
    for name, key in (("word", "words"), ("label", "tags")):
        assert own.groupby("sentence")[name].agg(list).tolist() == [row[key] for row in rows]
    scores = read_json(folder / "scores.json")["sets"]
    assert scores["own"]["accuracy"] == pytest.approx((own["label"] == own["prediction"]).mean())
    assert set(scores) == {"own", "other"} and scores["other"]["rows"] == 30

    card = (folder / "compact/README.md").read_text()
    assert "pipeline_tag: token-classification" in card
    short = [number for number, row in enumerate(rows, start=1) if len(row["words"]) <= tagged.LENGTH - 2]
    expected = [own.loc[own["sentence"] == number, "prediction"].tolist() for number in short]
    words = repr([rows[number - 1]["words"] for number in short])
    for lines in [part.split("```")[0] for part in card.split("```python\n")[1:3]]:
        found = run_lines(lines.replace('[["the", "words", "of", "a", "sentence"]]', words), folder / "compact", {})
        assert found["answers"] == expected


@pytest.mark.parametrize("student", STUDENTS)
def test_formats_score_and_the_model_opens_in_transformers(named, student):
    folder = named.folder / f"results/named/tiny/names/seed1/{student}"
    model = AutoModelForTokenClassification.from_pretrained(folder / "compact")
    assert list(model.config.id2label.values()) == list(tagged.CLASSES)
    formats = read_json(folder / "deploy/compact.json")["formats"]
    assert formats["onnx"]["agreement"] == 1.0 and formats["onnx-int8"]["agreement"] > 0.8


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = tagged.Study(tmp_path_factory.mktemp("study"))
    made.prepare()
    made.teacher()
    return made


def test_every_method_but_those_of_other_kinds_has_a_plan():
    others = {"homodistil", "specialise", "ready-made"}  # on text; above; refused (tests/unit/test_config_tasks.py)
    assert {plan["method"] for plan in tagged.PLANS.values()} | others == set(METHODS)


@pytest.mark.parametrize("plan", tagged.PLANS)
def test_every_method_makes_a_model_that_is_scored(study, plan):
    student = study.compress(plan)
    folder = study.evaluate(study.export(student))
    scores = read_json(folder / "scores.json")
    assert scores["metric"] == "entity-f1" and 0.0 <= scores["score"] <= 1.0
    assert scores["sets"]["validation"]["accuracy"] > 0.2, "a model that learned nothing guesses one tag of five"
    predictions = pd.read_parquet(folder / "predictions.parquet")
    words = [word for row in tagged.sentences(48, 1) for word in row["words"]]
    assert predictions["word"].tolist() == words


@pytest.mark.parametrize("plan", ["distil", "sdp-kld", "cofi"])
def test_stored_outputs_of_the_teacher_are_those_that_are_computed(study, plan):
    note = study.teach(plan)
    computed = pd.read_parquet(study.compress(plan, name=f"{plan}-computed") / "history.parquet")
    stored = pd.read_parquet(study.compress(plan, [note], name=f"{plan}-stored") / "history.parquet")
    terms = [name for name in computed.columns if name.startswith("loss")]
    pd.testing.assert_frame_equal(computed[terms], stored[terms], rtol=1e-4, atol=1e-5)
