"""Rivals for real: a linear model on a task's rows, a second base that reads the same rows in other tokens, and all of them in
int8 beside the students, one of which has layers of one size and needs no code of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertModel, PreTrainedTokenizerFast

from espalier.results.formats import read_formats
from tests import tiny
from tests.e2e.test_pipeline import CONFIG, FAST, write_rows

pytestmark = pytest.mark.slow
WORDS = [*tiny.SPECIAL, *(f"word{index}" for index in reversed(range(60)))]
"""The words of the tiny base, under other numbers."""
SPECIAL_IDS = [("[CLS]", 2), ("[SEP]", 3)]
OTHER = {"method": "ready-made", "base": "other", "epochs": 6.0, **FAST}
EQUAL = {"start": "teacher", "prepruning_epochs": 0.0, "pruning_epochs": 3.0, "sparsity_warmup_epochs": 1.0}
RIVALS = {
    **{key: CONFIG[key] for key in ("tasks", "measure", "progress", "precision", "seeds")},
    "project": "rivals",
    "bases": {"tiny": {"source": "local", "path": "tiny"}, "other": {"source": "local", "path": "other", "licence": "MIT"}},
    "teacher": {"epochs": 6.0, **FAST},
    "deploy": {"formats": ["torch", "onnx-int8"]},
    "plans": {
        "magnitude": {"method": "magnitude", "path": [0.5], "recover": {"epochs": 0.0}, **FAST},
        "equal": {"method": "cofi", "layers": "equal", "path": [0.5], **EQUAL, **FAST},
        "other": OTHER,
    },
}
OPEN = """
import json, sys
import pandas as pd
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder, rows = sys.argv[1:]
model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
table = pd.read_parquet(rows)
texts = [table[name].tolist() for name in ("text_a", "text_b") if name in table]
with torch.no_grad():
    logits = model(**tokenizer(*texts, padding=True, return_tensors="pt")).logits
ours = [name for name in sys.modules if name.startswith("espalier")]
print(json.dumps({"class": type(model).__name__, "logits": logits.tolist(), "ours": ours}))
"""
"""What a program does that has never heard of this project."""


def write_other_base(folder):
    """One layer, 16 dimensions, no pooler, and its own numbers for the words."""
    torch.manual_seed(5)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    BertModel(tiny.config(initializer_range=0.2, **sizes), add_pooling_layer=False).save_pretrained(folder)
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=SPECIAL_IDS
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=40, **names).save_pretrained(folder)


@pytest.fixture(scope="module")
def rivals(make_clone, tmp_path_factory):
    clone = make_clone(tmp_path_factory.mktemp("rivals"))
    tiny.write_base(clone.folder / "tiny")
    write_other_base(clone.folder / "other")
    for seed, (name, count) in enumerate([("train", 240), ("first", 60), ("second", 60)]):
        write_rows(clone.folder / f"{name}.csv", count, seed)
    clone.write_config(RIVALS)
    clone.run_all()
    return clone


@pytest.fixture(scope="module")
def table(rivals):
    found = pd.read_csv(rivals.folder / "results/rivals/table.csv", keep_default_na=False, na_values=[""])
    return found.set_index(["task", "plan"])


@pytest.fixture(scope="module")
def served(rivals):
    return read_formats(rivals.folder / "results/rivals/deploy.csv").set_index(["task", "plan", "format"])


def folder_of(rivals, task, plan):
    return rivals.folder / f"results/rivals/tiny/{task}/seed1/{plan}/0"


def test_nothing_is_left_to_do(rivals):
    assert rivals.jobs() == set()


def test_the_table_has_every_rival_once_for_each_task(table):
    assert set(table.index) == {
        (task, plan) for task in ("sorts", "grades") for plan in ("teacher", "magnitude", "equal", "linear", "other")
    }
    assert set(table["base"]) == {"tiny"}
    methods = table["method"].xs("sorts").to_dict()
    assert methods["linear"] == "linear" and methods["other"] == "ready-made"
    rivals = table[table["method"].isin(["linear", "ready-made"])]
    assert rivals[["score", "teacher_score", "size_mib", "latency_b1_ms", "onnx_speedup_b32"]].notna().all(axis=None)


def test_every_model_is_scored_in_every_format(served, table):
    plans = [(plan, name) for plan in ("teacher", "magnitude", "equal", "other") for name in ("torch", "onnx-int8")]
    expected = {(task, *key) for task in ("sorts", "grades") for key in [*plans, ("linear", "scikit-learn")]}
    assert set(served.index) == expected
    timed = [name for name in served.columns if name.startswith(("ms_", "p95_", "speedup_"))]
    assert timed and served.drop(index="linear", level="plan")[timed].gt(0).all(axis=None)
    for (task, plan, name), row in served.drop(index="linear", level="plan").iterrows():
        assert row["score"] + row["drop"] == pytest.approx(table.loc[(task, plan)]["score"], abs=1e-5)
        if name == "torch":
            assert row["drop"] == pytest.approx(0, abs=1e-6) and row["agreement"] == pytest.approx(1) and row["passed"] == "yes"
        else:
            assert row["agreement"] > 0.9 and row["passed"] == ("yes" if row["drop"] <= 0.01 else "no")


def test_a_row_of_a_model_of_another_base_is_tokenised_by_its_own_tokenizer(rivals):
    """Its words have other numbers: under the teacher's tokenizer int8 could agree with nothing."""
    content = json.loads((folder_of(rivals, "sorts", "other") / "deploy/compact.json").read_text())
    assert content["formats"]["onnx-int8"]["agreement"] > 0.9


def test_int8_lies_in_the_folder_and_on_the_card(rivals):
    compact = rivals.folder / "results/rivals/tiny/sorts/seed1/magnitude/50/compact"
    assert (compact / "onnx/model_int8.onnx").read_bytes() == (compact / "onnx/model_quantized.onnx").read_bytes()
    card = (compact / "README.md").read_text()
    assert "## Formats" in card and "`onnx/model_int8.onnx`" in card
    page = (rivals.folder / "results/rivals/report.html").read_text()
    assert "every model in every format" in page and page.count(">onnx-int8") >= 6


@pytest.mark.parametrize("task", ["sorts", "grades"])
def test_a_student_of_equal_layers_is_a_stock_model(rivals, table, task):
    """Opened by a process without this package, it gives the stored predictions; and it is as small as was asked for."""
    student = rivals.folder / f"results/rivals/tiny/{task}/seed1/equal/50"
    rows = rivals.folder / f"results/rivals/prepared/{task}/evaluation.parquet"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-I", "-c", OPEN, str(student / "compact"), str(rows)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd="/")
    found = json.loads(result.stdout)

    config = json.loads((student / "compact/config.json").read_text())
    assert found["class"] == "BertForSequenceClassification" and found["ours"] == [] and "auto_map" not in config
    stored = pd.read_parquet(student / "predictions.parquet")
    np.testing.assert_allclose(found["logits"], np.stack(stored["logits"]), atol=1e-4, rtol=0)
    sparsity = table.loc[(task, "equal")]["sparsity_encoder"]
    assert sparsity == pytest.approx(0.5, abs=0.1), "a unit in every layer is the step between two sizes"


def test_rivals_learn(table):
    """Words tell the third, so everyone can; three classes of equal size give 0.33 to a guess."""
    assert (table["score"].xs("sorts")[["linear", "other"]] > 0.6).all()
    assert (table["score"].xs("grades")[["linear", "other"]] > 0.6).all()


def test_a_ready_made_model_is_counted_against_the_base_that_is_compressed(rivals, table):
    """Encoder matrices of 2 layers with 32 dimensions against those of one layer with 16."""
    dense, small = 2 * (4 * 32 * 32 + 2 * 32 * 64), 4 * 16 * 16 + 2 * 16 * 24
    assert table.loc[("sorts", "other")]["sparsity_encoder"] == pytest.approx(1 - small / dense, abs=1e-5)


def test_it_has_the_other_base_s_tokens_and_tokenizer(rivals):
    results = rivals.folder / "results/rivals"
    read = [pd.read_parquet(results / base / "sorts/tokens/train.parquet") for base in ("tiny", "other")]
    assert (read[0]["label"] == read[1]["label"]).all()
    assert [len(row) for row in read[0]["input_ids"]] == [len(row) for row in read[1]["input_ids"]]
    assert any((one != other).any() for one, other in zip(read[0]["input_ids"], read[1]["input_ids"], strict=True))
    compact = folder_of(rivals, "sorts", "other") / "compact"
    assert AutoTokenizer.from_pretrained(compact).convert_tokens_to_ids("word0") == 63
    assert AutoModelForSequenceClassification.from_pretrained(compact).config.hidden_size == 16


def test_the_teacher_taught_it(rivals):
    folder = folder_of(rivals, "sorts", "other")
    assert "loss/kld" in pd.read_parquet(folder / "history.parquet")
    inputs = json.loads((folder / "run.json").read_text())["inputs"]
    assert "results/rivals/tiny/sorts/tokens/train.parquet" in inputs
    assert "results/rivals/tiny/sorts/seed1/teacher/0/model.safetensors" in inputs


def test_the_card_names_the_base_that_it_is_made_from(rivals):
    card = (folder_of(rivals, "sorts", "other") / "compact/README.md").read_text()
    assert "made from other by Espalier" in card and "rival of the models that are made from tiny" in card
    assert "license: mit" in card and "| smaller than the teacher |" in card and "| removed |" not in card


def test_the_other_base_has_no_teacher_and_no_plans(rivals):
    assert {path.name for path in (rivals.folder / "results/rivals/other").glob("*/*")} == {"tokens"}


def test_the_report_says_who_wins(rivals):
    page = (rivals.folder / "results/rivals/report.html").read_text()
    assert page.count("Against linear (") == 2 and page.count("Against other (") == 2
    picture = (rivals.folder / "results/rivals/figures/size.svg").read_text()
    assert "linear" in picture and "other" in picture
