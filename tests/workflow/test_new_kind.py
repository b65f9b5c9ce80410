"""A new kind of task is new files and one line in the table of kinds; no other code changes, and no job runs again."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from espalier.runtime.files import read_json, sha256
from tests import tiny
from tests.workflow.made_up_kinds.run import digests_of_another_kind

ROOT = Path(__file__).parents[2]
MADE_UP = Path(__file__).parent / "made_up_kinds"
TABLE = "config/kinds/__init__.py"
CLASSES = ["low", "middle", "high"]
METRICS = {"ordinal": "accuracy", "tags": "tag-accuracy"}

pytestmark = pytest.mark.slow


def snapshot(package: Path) -> dict[str, str]:
    """Digest of every Python file of a package."""
    return {path.relative_to(package).as_posix(): sha256(path) for path in package.rglob("*.py")}


def add_kind(package: Path, kind: str) -> None:
    """Two new files, one new line."""
    (package / f"config/kinds/{kind}.py").write_text((MADE_UP / f"{kind}_rules.py").read_text())
    (package / f"kinds/{kind}.py").write_text((MADE_UP / f"{kind}.py").read_text())
    table = package / TABLE
    line = f'    "{kind}": "espalier.kinds.{kind}:{kind.title()}",\n'
    table.write_text(table.read_text().replace("KINDS = {\n", f"KINDS = {{\n{line}", 1))


def write_rows(path: Path, kind: str, count: int, seed: int) -> None:
    """Texts whose words tell their class: one class a text, or for tags one a word."""
    generator = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(count):
            length = generator.integers(3, 10)
            thirds = generator.integers(0, 3, length) if kind == "tags" else np.full(length, number % 3)
            words = [tiny.WORDS[20 * third + generator.integers(20)] for third in thirds]
            labels = [CLASSES[third] for third in thirds]
            writer.writerow([" ".join(words), " ".join(labels) if kind == "tags" else labels[0]])


def study(kind: str) -> dict[str, object]:
    files = {"source": "files", "train": "train.csv", "validation": "validation.csv", "text": ["text"], "label": "label"}
    settings = {"batch_size": 16, "learning_rate": 5e-3}
    return {
        "project": "mine",
        "rivals": {"linear": False},
        "deploy": {"formats": []},
        "device": "cpu",
        "precision": "fp32",
        "bases": {"tiny": {"source": "local", "path": "base"}},
        "tasks": {"mine": {"kind": kind, **files, "classes": CLASSES, "metric": METRICS[kind], "max_length": 16}},
        "teacher": {"epochs": 6.0, **settings},
        "plans": {"distil": {"method": "distil", "path": [0.5], **settings, "start": "teacher"}},
    }


@pytest.mark.parametrize("kind", METRICS)
def test_a_new_kind_of_task_is_new_files_and_a_line_in_a_table(kind, make_clone, tmp_path):
    package = make_clone(tmp_path / "clone").folder / "workflow/espalier"
    before = snapshot(package)
    add_kind(package, kind)

    tiny.write_base(tmp_path / "base")
    for name, count, seed in (("train", 96, 0), ("validation", 48, 1)):
        write_rows(tmp_path / f"{name}.csv", kind, count, seed)
    (tmp_path / "study.json").write_text(json.dumps(study(kind)))

    # the package of the clone comes first; `tests` is this checkout's
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(package.parent), str(ROOT)])}
    command = [sys.executable, "-m", "tests.workflow.made_up_kinds.run", str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]

    # no other file than the table is another one
    after = snapshot(package)
    new = {f"config/kinds/{kind}.py", f"kinds/{kind}.py"}
    assert after.keys() - before.keys() == new
    assert {path for path in before if before[path] != after[path]} == {TABLE}

    # it works: teacher and student know more than chance, scores and predictions agree
    scores = read_json(tmp_path / "out/scores.json")
    table = pd.read_parquet(tmp_path / "out/predictions.parquet")
    assert scores["metric"] == METRICS[kind] and scores["score"] > 0.5
    assert scores["score"] == pytest.approx((table["prediction"] == table["label"]).mean())
    assert read_json(tmp_path / "prepared/task.json")["classes"] == CLASSES

    # and no job of another kind of task runs again
    assert read_json(tmp_path / "out/digests.json") == digests_of_another_kind()


def test_the_new_kind_has_its_jobs(clone, small):
    add_kind(clone.folder / "workflow/espalier", "ordinal")
    write_rows(clone.folder / "train.csv", "ordinal", 8, 0)
    write_rows(clone.folder / "validation.csv", "ordinal", 8, 1)
    small["tasks"] = study("ordinal")["tasks"]
    clone.write_config(small)
    jobs = clone.jobs()
    assert {"prepare", "tokenise", "finetune", "compress sdp 50", "evaluate sdp 90"} <= jobs
