"""Real runs killed with SIGKILL at a random step end, once resumed, with the weights of the undisturbed run."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espalier.config import parse
from espalier.runtime.files import read_json, sha256
from tests.stages import arguments, study, write_inputs

pytestmark = pytest.mark.slow
RUNS = ["teacher", "magnitude", "sdp", "cofi", "spd", "pretrain", "homodistil"]
TEACHERS = ("teacher", "pretrain")
CONFIG = """
project: kill
precision: fp32
teacher: {epochs: 40.0, batch_size: 16, learning_rate: 1.0e-3}
pretrain: {epochs: 40.0, batch_size: 16, train: all}
plans:
  magnitude: {method: magnitude, path: [0.6], prune_steps: 4, dense_epochs: 8.0, epochs_per_step: 8.0, batch_size: 16}
  sdp: {method: sdp, path: [0.6], prune_steps: 4, dense_epochs: 8.0, epochs_per_step: 8.0, batch_size: 16, checkpoint: best}
  cofi: {method: cofi, path: [0.6], prepruning_epochs: 8.0, pruning_epochs: 32.0, sparsity_warmup_epochs: 8.0, batch_size: 16,
         checkpoint: best}
  spd: {method: spd, path: [0.6], prune_steps: 4, sparsify_epochs: 20.0, grafting_epochs: 12.0, finetune_epochs: 8.0,
        batch_size: 16}
  homodistil: {method: homodistil, path: [0.6], epochs: 40.0, batch_size: 16, decide_every: 4, multiple: 1, checkpoint: best}
progress: {log_every: 1}
"""
STEPS = 160


def command(root: Path, run: str, out: Path) -> list[str]:
    """The stage as the workflow would call it."""
    options = arguments(parse(study(CONFIG)), run, root, out, lambda run: root / "out" / run)
    return [sys.executable, "-m", "espalier", *options]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A base, a task of each kind, and the undisturbed runs."""
    root = tmp_path_factory.mktemp("kill")
    write_inputs(root)
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
    compact = "pooled_size" in read_json(tmp_path / "config.json")
    assert compact == (run == "cofi")
