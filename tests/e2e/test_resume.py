"""Real runs killed with SIGKILL at a random step end, once resumed, with the weights of the undisturbed run."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from espalier.config import parse
from espalier.config.specs import compress_spec, finetune_spec, pretrain_spec
from espalier.core.runtime import read_json, sha256
from tests import tiny
from tests.methods import on_text

pytestmark = pytest.mark.slow
RUNS = ["teacher", "magnitude", "sdp", "cofi", "pretrain", "homodistil"]
ON_TEXT = ("pretrain", "homodistil")
TEACHERS = ("teacher", "pretrain")
CONFIG = """
project: kill
precision: fp32
bases: {tiny: {source: local, path: base}}
tasks:
  mine: {kind: classification, source: files, train: a.csv, validation: b.csv, text: [text], label: label, metric: accuracy}
  words: {kind: text, source: files, train: a.txt, validation: b.txt, text: [text], max_length: 16}
teacher: {epochs: 40.0, batch_size: 16, learning_rate: 1.0e-3}
pretrain: {epochs: 40.0, batch_size: 16, train: all}
plans:
  magnitude: {method: magnitude, path: [0.6], prune_steps: 4, dense_epochs: 8.0, epochs_per_step: 8.0, batch_size: 16}
  sdp: {method: sdp, path: [0.6], prune_steps: 4, dense_epochs: 8.0, epochs_per_step: 8.0, batch_size: 16, checkpoint: best}
  cofi: {method: cofi, path: [0.6], prepruning_epochs: 8.0, pruning_epochs: 32.0, sparsity_warmup_epochs: 8.0, batch_size: 16,
         checkpoint: best}
  homodistil: {method: homodistil, path: [0.6], epochs: 40.0, batch_size: 16, decide_every: 4, multiple: 1, checkpoint: best}
progress: {log_every: 1}
"""
STEPS = 160


def inside(folder: Path, *names: str) -> list[str]:
    return [str(folder / name) for name in names]


def command(root: Path, run: str, out: Path) -> list[str]:
    """The stage as the workflow would call it."""
    config = parse(yaml.safe_load(CONFIG))
    text = run in ON_TEXT
    task, taught = ("words", "pretrain") if text else ("mine", "teacher")
    base, teacher = (inside(folder, "config.json", "model.safetensors") for folder in (root / "base", root / "out" / taught))
    names = {"config": "config.json", "weights": "model.safetensors", "history": "history.parquet", "record": "run.json"}
    if run in TEACHERS:
        stage, make = ("pretrain", pretrain_spec) if text else ("finetune", finetune_spec)
        spec, models = make(config, task, 3), {"base": base}
    else:
        stage, spec = "compress", compress_spec(config, task, run, 3, "60")
        models = {"teacher": teacher, "start": teacher if text else base, "latency": []}
        names |= {"masks": "masks.safetensors", "structure": "structure.json"}
    lists = {
        **models,
        "tokens": inside(root / task, *(f"{name}.{'arrow' if text else 'parquet'}" for name in ("train", "evaluation"))),
    }
    paths = {"task": root / task / "task.json", "work": out / "work", **{name: out / file for name, file in names.items()}}
    options = [part for name, files in lists.items() for part in (f"--{name}", *files)]
    options += [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    return [sys.executable, "-m", "espalier", stage, "--spec", spec.model_dump_json(), *options]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A base, a task of each kind, and the undisturbed runs."""
    root = tmp_path_factory.mktemp("kill")
    tiny.write_base(root / "base")
    tiny.write_task(root / "mine")
    on_text.write_task(root / "words")
    for run in sorted(RUNS, key=lambda run: run not in TEACHERS):
        subprocess.run(command(root, run, root / "out" / run), check=True, capture_output=True)
    return root


def kill_at(process: subprocess.Popen, history: Path, step: int) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if history.exists() and history.read_text().count('"loss"') >= step:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.002)
    assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"


@pytest.mark.parametrize("run", RUNS)
def test_killed_and_resumed_is_bit_identical(root, tmp_path, run):
    step = random.randint(15, STEPS - 30)
    print(f"killing {run} at about step {step}")
    process = subprocess.Popen(command(root, run, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kill_at(process, tmp_path / "work/history.jsonl", step)
    assert not (tmp_path / "model.safetensors").exists()
    subprocess.run(command(root, run, tmp_path), check=True, capture_output=True)
    for name in ("model.safetensors", "config.json", *(["structure.json"] if run not in TEACHERS else [])):
        assert sha256(tmp_path / name) == sha256(root / "out" / run / name)
    record = read_json(tmp_path / "run.json")
    assert record["steps"] == STEPS and len(record["resumed_at"]) == 1
    assert not (tmp_path / "work").exists(), "the checkpoints of a finished run are litter"
    compact = read_json(tmp_path / "config.json")["model_type"] == "compact-bert"
    assert compact == (run == "cofi")
