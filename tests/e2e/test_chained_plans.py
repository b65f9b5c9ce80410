"""Plans that start from students of others, for real: a corpus, task-agnostic narrowing, then tasks."""

from __future__ import annotations

import json
import random

import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification, PreTrainedTokenizerFast

from espalier.models.encoder import count_weights
from espalier.models.modeling_espalier import shape_of
from espalier.pruning.masks import read_masks
from tests import tiny
from tests.e2e.test_pipeline import FAST, write_rows

pytestmark = pytest.mark.slow
ROWS = {"source": "files", "train": "train.csv", "validation": "first.csv", "text": ["left"], "max_length": 24}
GATES = {"pruning_epochs": 3.0, "sparsity_warmup_epochs": 1.0, "prepruning_epochs": 1.0}
BARE = {"recover": {"epochs": 0.0}}
HALF = {"plan": "narrow", "at": 0.5}
CONFIG = {
    "project": "chains",
    "rivals": {"linear": False},
    "deploy": {"formats": []},
    "seeds": [1],
    "bases": {"tiny": {"source": "local", "path": "tiny"}},
    "tasks": {
        "words": {
            "kind": "text",
            "source": "files",
            "train": "a.txt",
            "validation": "b.txt",
            "text": ["text"],
            "max_length": 16,
        },
        "sorts": {"kind": "classification", **ROWS, "label": "sort", "metric": "accuracy"},
    },
    "teacher": {"epochs": 3.0, **FAST},
    "pretrain": {"epochs": 1.0, "batch_size": 16},
    "plans": {
        "narrow": {"method": "homodistil", "path": [0.5], "epochs": 2.0, "multiple": 1, **FAST},
        "narrower": {"method": "homodistil", "path": [0.7], "start": HALF, "epochs": 2.0, "multiple": 1, **FAST},
        "special": {
            "method": "specialise",
            "path": [0.5],
            "start": {"plan": "narrow"},
            "alpha": 0.5,
            "epochs": 3.0,
            **FAST,
        },
        "cofi": {"method": "cofi", "path": [0.8], "start": HALF, **BARE, **GATES, **FAST},
        "later": {"method": "l0", "path": [0.9], "start": {"plan": "cofi", "at": 0.8}, **BARE, **GATES, **FAST},
        "single": {"method": "magnitude", "path": [0.75, 0.9], "start": {"plan": "special", "at": 0.5}, **FAST},
    },
    "measure": {"repeats": 3, "length": 16},
    "progress": {"log_every": 2},
}
EXPECTED = {
    ("words", "narrow", "50"): ("", 0.5),
    ("words", "narrower", "70"): ("words/narrow/50", 0.4),
    ("sorts", "special", "50"): ("words/narrow/50", 0.0),
    ("sorts", "cofi", "80"): ("words/narrow/50", 0.6),
    ("sorts", "later", "90"): ("sorts/cofi/80", 0.5),
    ("sorts", "single", "75"): ("sorts/special/50", 0.5),
    ("sorts", "single", "90"): ("sorts/special/50", 0.8),
}
"""Student → what its path began with, and the fraction that it removed of that."""


def write_words(path, paragraphs, seed):
    generator = random.Random(seed)
    lines = [" ".join(f"word{generator.randrange(59)}" for _ in range(20)) for _ in range(paragraphs)]
    path.write_text("\n\n".join(lines))


@pytest.fixture(scope="module")
def chains(make_clone, tmp_path_factory):
    clone = make_clone(tmp_path_factory.mktemp("chains"))
    tiny.write_base(clone.folder / "tiny")
    PreTrainedTokenizerFast.from_pretrained(clone.folder / "tiny", mask_token="word59").save_pretrained(clone.folder / "tiny")
    for seed, (name, count) in enumerate([("train", 160), ("first", 60)]):
        write_rows(clone.folder / f"{name}.csv", count, seed)
    write_words(clone.folder / "a.txt", 160, 0)
    write_words(clone.folder / "b.txt", 30, 1)
    clone.write_config(CONFIG)
    clone.run_all()
    return clone


@pytest.fixture(scope="module")
def table(chains):
    found = pd.read_csv(chains.folder / "results/chains/table.csv", dtype={"stage": str}, keep_default_na=False)
    return found[found["plan"] != "teacher"].set_index(["task", "plan", "stage"])


def folder_of(chains, task, plan, percent):
    return chains.folder / f"results/chains/tiny/{task}/seed1/{plan}/{percent}"


def test_sparsities_count_against_the_base_and_against_the_start(table):
    assert set(table.index) == set(EXPECTED)
    for key, (start, relative) in EXPECTED.items():
        row = table.loc[key]
        assert row["start"] == start
        assert abs(row["sparsity_encoder"] - row["target"]) < 0.03, key  # a unit of so small an encoder is 1 % and more
        assert abs(row["sparsity_relative"] - relative) < 0.05, key


@pytest.mark.parametrize("student", EXPECTED, ids="/".join)
def test_a_student_is_as_large_as_its_masks_and_its_record_say(chains, table, student):
    folder = folder_of(chains, *student)
    said = json.loads((folder / "structure.json").read_text())
    assert said["sparsity"] == pytest.approx(table.loc[student]["sparsity_encoder"], abs=1e-3)
    last = pd.read_parquet(folder / "history.parquet")["sparsity"].dropna().iloc[-1]
    assert last == pytest.approx(0.0 if student[1] == "special" else said["sparsity"], abs=1e-3)


def test_training_of_the_start_is_counted(table):
    seconds = table["train_seconds"]
    assert seconds["sorts", "later", "90"] > seconds["sorts", "cofi", "80"] > seconds["words", "narrow", "50"] > 0.0


def test_a_specialised_student_is_an_ordinary_small_model(chains):
    model = AutoModelForSequenceClassification.from_pretrained(folder_of(chains, "sorts", "special", "50") / "compact")
    assert type(model) is BertForSequenceClassification or model.config.model_type == "compact-bert"
    before = shape_of(AutoModelForSequenceClassification.from_pretrained(folder_of(chains, "words", "narrow", "50")).config)
    assert shape_of(model.config)._replace(pooled=before.pooled) == before


def test_what_goes_on_from_narrowed_widths_keeps_their_count(chains):
    """Masks stay over the base: 32 hidden dimensions, 4 heads of 8; heads are narrower, and none of what was gone is back."""
    widths = read_masks(folder_of(chains, "words", "narrow", "50") / "masks.safetensors")
    masks = read_masks(folder_of(chains, "sorts", "later", "90") / "masks.safetensors")
    small = AutoModelForSequenceClassification.from_pretrained(folder_of(chains, "sorts", "later", "90"))
    assert masks["hidden"].numel() == 32 and masks["head"].numel() == 8
    assert int(masks["head"].sum()) == shape_of(small.config).head_dim < 8
    assert not (masks["hidden"] & ~widths["hidden"]).any()
    assert not (masks["layer.0.ffn"] & ~widths["layer.0.ffn"]).any()
    assert [int(masks[f"layer.{index}.heads"].sum()) for index in range(2)] == [
        heads for heads, _ in shape_of(small.config).layers
    ]


def test_single_weights_go_from_the_smaller_model(chains):
    dense = count_weights(tiny.classifier())
    first, second = (folder_of(chains, "sorts", "single", percent) for percent in ("75", "90"))
    masks = [read_masks(folder / "masks.safetensors") for folder in (first, second)]
    kept = [sum(int(mask.sum()) for mask in each.values()) for each in masks]
    assert [count / dense for count in kept] == pytest.approx([0.25, 0.1], abs=2e-3)
    assert all(torch.equal(masks[0][name] & mask, mask) for name, mask in masks[1].items())


def test_report_and_card_name_the_start(chains):
    page = (chains.folder / "results/chains/report.html").read_text()
    assert "from words/narrow/50" in page and "of its start" in page
    card = (folder_of(chains, "sorts", "cofi", "80") / "compact/README.md").read_text()
    assert "`words/narrow/50`" in card
    assert "another plan" not in (folder_of(chains, "words", "narrow", "50") / "compact/README.md").read_text()
