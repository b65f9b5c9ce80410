"""Speed of the training step and of start-up on this machine: `make bench`. Prints; asserts nothing."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from espalier.config.plans import SdpPlan
from espalier.config.project import Progress
from espalier.config.specs import Machine
from espalier.core.batches import Rows
from espalier.core.history import History
from espalier.core.loop import Loop
from espalier.core.method import Stage
from espalier.core.models import open_base
from espalier.core.predict import Teacher
from espalier.core.saves import Saves
from espalier.core.training import accelerator_for
from espalier.methods.sdp import Sdp

BATCH, MEAN_LENGTH, STEPS, WARMUP = 32, 53, 30, 5


def random_rows(count: int) -> Rows:
    """Rows of random words whose lengths have the mean MEAN_LENGTH."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(MEAN_LENGTH - 20, MEAN_LENGTH + 21, count)
    ids = generator.integers(1000, 20000, lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Rows(ids, np.zeros(len(ids), np.int8), offsets, generator.integers(0, 8, count), np.full(count, "validation"), 0)


def seconds_a_step(base: list[Path], work: Path) -> float:
    """Median seconds of an SDP step: forward, backward, masks, clipping, AdamW."""
    accelerator = accelerator_for(Machine(device="auto", precision="auto"))
    rows = random_rows((STEPS + WARMUP) * BATCH)
    classes = [str(index) for index in range(8)]
    student = open_base(base, "classification", classes)
    stage = Stage("classification", 0, 0.0, 0.5, (STEPS + WARMUP,), {0: 0.5})
    method = Sdp(SdpPlan(method="sdp", path=(0.5,), evaluate_every=0.0), stage)
    teacher = Teacher.of(open_base(base, "classification", classes), rows, accelerator, method.representation)
    times: list[float] = []
    method.after_step = lambda step: times.append(time.perf_counter()) or {}
    loop = Loop(
        student=student,
        method=method,
        rows=rows,
        settings=method.settings,
        learning_rate=1e-5,
        progress=Progress(log_every=1000),
        accelerator=accelerator,
        evaluate=lambda model: {"validation": {"rows": 0, "loss": 0.0, "accuracy": 0.0}},
        metric="accuracy",
        saves=Saves(work, {}),
        history=History(work / "history.jsonl"),
        teacher=teacher,
    )
    loop.run()
    return float(np.median(np.diff(times)[WARMUP:]))


def seconds_to_start(stage: str, *names: str) -> float:
    """Seconds from nothing to a stage that has imported what it needs and read its specification (and refuses it)."""
    began = time.perf_counter()
    paths = [f"--{name}=x" for name in names]
    result = subprocess.run([sys.executable, "-m", "espalier", stage, "--spec={}", *paths], capture_output=True, check=False)
    assert result.returncode == 1 and b"Field required" in result.stderr, result.stderr
    return time.perf_counter() - began


def main() -> None:
    """Print the figures."""
    training = ("base", "task", "tokens", "work", "config", "weights", "history", "record")
    print(
        f"a stage without a model starts in {seconds_to_start('table', 'scores', 'costs', 'records', 'table', 'metrics'):.1f} s"
    )
    print(f"a stage that trains starts in {seconds_to_start('finetune', *training):.1f} s")
    folder = next(Path("results").glob("*/bases/minilm"), None)
    if folder is None:
        sys.exit("bench needs the base minilm: run `make demo` first")
    with tempfile.TemporaryDirectory() as work:
        seconds = seconds_a_step([folder / "config.json", folder / "model.safetensors"], Path(work))
    print(f"{torch.get_num_threads()} threads, batch {BATCH}, mean length {MEAN_LENGTH}:")
    print(f"SDP step with minilm: {seconds:.3f} s a step, {BATCH / seconds:.1f} samples a second")


if __name__ == "__main__":
    main()
