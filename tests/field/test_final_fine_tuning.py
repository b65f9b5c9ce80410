"""The final fine-tuning after pruning has settings of its own, down to the authors' long one at a constant rate.

Public source: princeton-nlp/CoFiPruning#3, where a user's numbers stay below the paper's until pruning is followed by the final
fine-tuning that the paper has.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from espalier.__main__ import main
from espalier.config import parse
from espalier.config.job_specs import compress_spec, recover_spec
from espalier.pruning.masks import read_handed_on, read_masks, write_masks
from espalier.runtime.files import read_json
from tests import stages
from tests.stages import MODEL, PRUNED, TRAINED, inside

PLAN = {
    **{"method": "cofi", "path": [0.4, 0.6], "batch_size": 16, "learning_rate": 1.0e-3, "warmup": 0.25, "start": "teacher"},
    **{"prepruning_epochs": 0.0, "pruning_epochs": 2.0, "sparsity_warmup_epochs": 1.0, "keep_transform": True},
    **{"gate_learning_rate": 0.5, "multiplier_learning_rate": 0.5, "gates": ["heads", "units", "hidden"]},
}
FINAL = {"epochs": 3.0, "learning_rate": 5.0e-4, "schedule": "constant", "warmup": 0.0}
FAR = 7.0
STUDENT = (*MODEL, "masks.safetensors")


def do(stage: str, spec: Any, root: Path, out: Path, start: list[str], names: dict[str, str], **lists: list[str]) -> None:
    """One job on the tiny task."""
    given = {"start": start, "outputs": [], "tokens": inside(root / "mine", "train.parquet", "evaluation.parquet"), **lists}
    paths = {name: out / file for name, file in names.items()} | {"task": root / "mine/task.json", "work": out / "work"}
    options = [part for name, files in given.items() for part in (f"--{name}", *files)]
    options += [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    assert main([stage, "--spec", spec.model_dump_json(), *options]) == 0


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Jobs of a teacher, of a student at 0.4, of its recovery, and of a student at 0.6 that goes on from it."""
    root = tmp_path_factory.mktemp("path")
    stages.write_inputs(root)
    text = "{project: p, precision: fp32, device: cpu, progress: {log_every: 1}, teacher: {epochs: 1.0, batch_size: 16}}"
    config = parse(stages.study(text) | {"plans": {"cofi": PLAN | {"recover": FINAL}}})
    assert main(stages.arguments(config, "teacher", root, root / "teacher", lambda run: root / run)) == 0

    teacher = inside(root / "teacher", *MODEL)
    first, second = (compress_spec(config, "mine", "cofi", stages.SEED, percent) for percent in ("40", "60"))
    do("compress", first, root, root / "40", teacher, PRUNED, teacher=teacher, latency=[])
    student = inside(root / "40", *STUDENT)
    spec = recover_spec(config, "mine", "cofi", stages.SEED, "40")
    do("recover", spec, root, root / "recovered", student, TRAINED, teacher=teacher)

    # The next stage is given a map that a few steps neither reach nor leave.
    masks, handed = read_masks(root / "40/masks.safetensors"), read_handed_on([root / "40/masks.safetensors"])
    shutil.copytree(root / "40", root / "far")
    write_masks(root / "far/masks.safetensors", masks, handed | {"transform/bias": torch.full((32,), FAR)})
    do("compress", second, root, root / "60", inside(root / "far", *STUDENT), PRUNED, teacher=teacher, latency=[])
    return root


def test_rate_schedule_and_length_are_those_of_recover(path: Path) -> None:
    history = pd.read_parquet(path / "recovered/history.parquet")
    rates = history["learning_rate"].dropna()
    assert len(rates) == read_json(path / "recovered/run.json")["steps"] == 12, "3 epochs of 4 steps"
    assert rates.tolist() == pytest.approx([5.0e-4] * 12)
    pruning = pd.read_parquet(path / "40/history.parquet")["learning_rate"].dropna()
    assert pruning.max() == pytest.approx(1.0e-3) and pruning.iloc[-1] < 5.0e-4, "the plan's own stays what it is"


def test_the_layer_map_goes_on_from_job_to_job(path: Path) -> None:
    student = load_file(path / "40/model.safetensors")
    width = student["bert.embeddings.word_embeddings.weight"].shape[1]
    kept = read_handed_on([path / "40/masks.safetensors"])
    assert kept["transform/weight"].shape == (32, width)
    assert not torch.equal(kept["transform/bias"], torch.zeros(32)), "it was trained"

    later = read_handed_on([path / "60/masks.safetensors"])
    assert later["transform/weight"].shape[1] <= width
    assert later["transform/bias"].min() > FAR - 0.1, "the next stage began where this one ended"
