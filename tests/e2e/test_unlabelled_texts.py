"""Texts without labels through the whole DAG: two plans read them, one leaves them aside, the teacher never sees them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from espalier.runtime.files import read_json
from tests import tiny

pytestmark = pytest.mark.slow
FAST = {"batch_size": 16, "learning_rate": 2.0e-3, "start": "teacher", "recover": {"epochs": 1.0}}
CONFIG = {
    "project": "more",
    "seeds": [1],
    "device": "cpu",
    "precision": "fp32",
    "bases": {"tiny": {"source": "local", "path": "tiny"}},
    "tasks": {
        "thirds": {
            **{"kind": "classification", "source": "files", "train": "train.csv", "validation": "validation.csv"},
            **{"text": ["text"], "label": "label", "metric": "accuracy", "max_length": 16},
            "unlabelled": {"files": [{"path": "more.csv", "text": ["first", "second"]}], "rows": 70, "share": 0.5},
        }
    },
    "teacher": {"epochs": 8.0, "batch_size": 16, "learning_rate": 2.0e-3},
    "plans": {
        "distil": {"method": "distil", "path": [0.5], **FAST},
        "small": {"method": "small-dense", "path": [0.5], "epochs": 3.0, **FAST},
        "magnitude": {"method": "magnitude", "path": [0.5], **FAST},
    },
    "rivals": {"linear": False},
    "deploy": {"formats": []},
    "measure": {"repeats": 3, "length": 16},
    "progress": {"log_every": 2},
}


def sentences(count, seed):
    generator = np.random.default_rng(seed)
    numbers = [20 * (row % 3) + generator.integers(0, 20, generator.integers(3, 9)) for row in range(count)]
    return [" ".join(tiny.WORDS[number] for number in row) for row in numbers]


@pytest.fixture(scope="module")
def more(make_clone, tmp_path_factory):
    clone = make_clone(tmp_path_factory.mktemp("more"))
    tiny.write_base(clone.folder / "tiny")
    for seed, (name, count) in enumerate([("train", 48), ("validation", 60)]):
        labels = ["low", "middle", "high"] * (count // 3)
        pd.DataFrame({"text": sentences(count, seed), "label": labels}).to_csv(clone.folder / f"{name}.csv", index=False)
    texts = {"first": sentences(60, 7), "second": sentences(40, 8) + sentences(20, 1)}
    pd.DataFrame(texts).to_csv(clone.folder / "more.csv", index=False)
    clone.write_config(CONFIG)
    clone.run_all()
    return clone


def test_the_table_and_the_card_say_how_many(more):
    table = pd.read_csv(more.folder / "results/more/table.csv").set_index("plan")
    assert table["unlabelled_rows"].fillna(0).to_dict() == {"teacher": 0, "distil": 70, "small": 70, "magnitude": 0}
    folder = more.folder / "results/more/tiny/thirds/seed1"
    assert "besides 70 texts without labels" in (folder / "distil/50/compact/README.md").read_text()
    assert "texts without labels" not in (folder / "magnitude/50/compact/README.md").read_text()
    assert "also on 70 texts without labels" in (more.folder / "results/more/report.html").read_text()


def test_texts_of_evaluation_rows_are_left_out(more):
    tokens = pd.read_parquet(more.folder / "results/more/tiny/thirds/tokens/unlabelled.parquet")["input_ids"]
    evaluation = pd.read_parquet(more.folder / "results/more/tiny/thirds/tokens/evaluation.parquet")["input_ids"]
    assert len(tokens) == 70 and not set(map(tuple, tokens)) & set(map(tuple, evaluation))


def test_only_who_distils_depends_on_them(more):
    folder = more.folder / "results/more/tiny/thirds/seed1"
    read = {
        place: any(path.endswith("unlabelled.parquet") for path in read_json(folder / place / "run.json")["inputs"])
        for place in ("teacher/0", "distil/50", "distil/50/recovered", "small/50", "magnitude/50", "magnitude/50/recovered")
    }
    assert read == {place: place.startswith(("distil", "small")) for place in read}
    # 48 rows with labels and 48 without, against 48, in batches of 16: one dense epoch and one after the removal
    steps = {plan: read_json(folder / plan / "50/run.json")["steps"] for plan in ("distil", "magnitude")}
    assert steps == {"distil": 12, "magnitude": 6}


def test_stored_outputs_are_the_teacher_s(more):
    folder = more.folder / "results/more/tiny/thirds/seed1/teacher/0"
    note = read_json(folder / "outputs/logits.json")
    stored = np.load(more.folder / note["folder"] / "logits.npy")
    tokens = more.folder / "results/more/tiny/thirds/tokens"
    rows = [ids for name in ("train", "unlabelled") for ids in pd.read_parquet(tokens / f"{name}.parquet")["input_ids"]]
    model = AutoModelForSequenceClassification.from_pretrained(folder / "compact").eval()
    with torch.no_grad():
        logits = [model(input_ids=torch.tensor(ids[None].astype(np.int64))).logits[0].numpy() for ids in rows]
    assert len(stored) == 48 + 70
    np.testing.assert_allclose(stored, np.stack(logits), atol=1e-4)


def test_a_dry_run_says_who_leaves_them_aside(more):
    result = more.snakemake("--dry-run", "--cores", "1", "--forcerun", "table")
    assert "note: plans.magnitude leaves tasks.thirds.unlabelled aside" in result.stdout + result.stderr


def test_other_texts_run_the_students_again_and_not_the_teacher(more):
    frame = pd.read_csv(more.folder / "more.csv")
    frame["first"] = sentences(60, 11)
    frame.to_csv(more.folder / "more.csv", index=False)
    jobs = more.jobs()
    assert {"collect", "compress 1 distil 50", "compress 1 small 50"} <= jobs
    assert not any(job.startswith(("finetune", "prepare", "tokenise", "compress 1 magnitude")) for job in jobs)


def test_a_tokenizer_is_there_for_users(more):
    folder = more.folder / "results/more/tiny/thirds/seed1/distil/50/compact"
    assert AutoTokenizer.from_pretrained(folder)("word1")["input_ids"][0] == 2
