"""A fine-tuned checkpoint of one's own becomes a compact model: it is checked and scored, and no teacher is trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from espalier.runtime.files import read_json
from tests.checkpoints import BROUGHT, CLASSES, accuracy, rows, write_checkpoint, write_rows
from tests.conftest import Clone

pytestmark = pytest.mark.slow
CONFIG = {
    "project": "mine",
    "precision": "fp32",
    "teacher": {"source": "local", "path": "fine-tuned"},
    "tasks": {
        "thirds": {
            **{"kind": "classification", "source": "files", "train": "train.csv", "validation": "validation.csv"},
            **{"text": ["text"], "label": "label", "classes": list(CLASSES), "metric": "accuracy", "max_length": 16},
        }
    },
    "plans": {
        "cofi": {
            **{"method": "cofi", "path": [0.5], "start": "teacher", "prepruning_epochs": 0.0, "pruning_epochs": 4.0},
            **{"sparsity_warmup_epochs": 1.0, "learning_rate": 1.0e-3},
        }
    },
    "rivals": {"linear": False},
    "measure": {"repeats": 3, "length": 16},
}
"""Without a block `bases`: the checkpoint is the base, too."""
TEACHER = "results/mine/own/thirds/seed42/teacher/0"


@pytest.fixture(scope="module")
def small(make_clone, tmp_path_factory) -> Clone:
    clone = make_clone(tmp_path_factory.mktemp("own"))
    write_checkpoint(clone.folder / "fine-tuned")
    write_rows(clone.folder / "train.csv", rows(240, 1))
    write_rows(clone.folder / "validation.csv", rows(90, 2))
    clone.write_config(CONFIG)
    jobs = clone.jobs()
    assert "admit" in jobs and not {"finetune", "fetch_teacher"} & jobs, "the base's files are the checkpoint's"
    clone.run_all()
    return clone


def test_the_teacher_scores_what_transformers_says(small: Clone) -> None:
    scores = read_json(small.folder / TEACHER / "scores.json")
    assert scores["score"] == pytest.approx(accuracy(small.folder / "fine-tuned", rows(90, 2)), abs=1e-12)
    assert scores["score"] > 0.6, "a teacher that learned nothing tests nothing"


def test_nothing_is_trained_and_the_head_s_rows_stand_in_the_task_s_order(small: Clone) -> None:
    before = load_file(small.folder / "fine-tuned/model.safetensors")
    after = load_file(small.folder / TEACHER / "model.safetensors")
    order = [BROUGHT.index(name) for name in CLASSES]
    for name, tensor in before.items():
        wanted = tensor[order] if name.startswith("classifier.") else tensor
        assert torch.equal(after[name], wanted), name
    record = read_json(small.folder / TEACHER / "run.json")
    assert (record["stage"], record["steps"], record["matching"]) == ("admit", 0, "by-name")
    assert read_json(small.folder / TEACHER / "config.json")["id2label"] == {
        str(place): name for place, name in enumerate(CLASSES)
    }


def test_the_student_is_half_as_large_and_its_card_names_the_checkpoint(small: Clone) -> None:
    table = pd.read_csv(small.folder / "results/mine/table.csv").set_index("plan")
    assert set(table.index) == {"teacher", "cofi"} and table.loc["cofi", "sparsity_encoder"] == pytest.approx(0.5, abs=0.02)
    card = (small.folder / "results/mine/own/thirds/seed42/cofi/50/compact/README.md").read_text()
    assert "was fine-tuned elsewhere (`fine-tuned`" in card and "matched by-name" in card


def test_contents_decide_and_not_the_folder(small: Clone, tmp_path: Path) -> None:
    """With a base of its own, another folder with the same files runs nothing again; other weights do."""
    moved = small.copied_to(tmp_path / "moved")
    base = {"bases": {"tiny": {"source": "local", "path": "base"}}}
    shutil.copytree(moved.folder / "fine-tuned", moved.folder / "base")
    moved.write_config(CONFIG | base)
    result = moved.snakemake("--cores", "2", "--until", "admit", "--set-threads", "admit=1")
    assert result.returncode == 0, result.stderr[-3000:]

    (moved.folder / "fine-tuned").rename(moved.folder / "elsewhere")
    moved.write_config(CONFIG | base | {"teacher": {"source": "local", "path": "elsewhere"}})
    assert not {"fetch_teacher", "admit"} & moved.jobs("--until", "admit")
    write_checkpoint(moved.folder / "elsewhere", steps=1)
    assert {"fetch_teacher", "admit"} <= moved.jobs("--until", "admit")
