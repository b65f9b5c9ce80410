"""Speed of the training step and of start-up on this machine: `make bench`. Prints; asserts nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.throughput import BATCH, MEAN_LENGTH, STEPS, random_rows, seconds
from espalier.config.methods.sdp import SdpPlan
from espalier.methods.base import Stage
from espalier.methods.sdp import Sdp
from espalier.models.files import open_base


def seconds_a_step(base: list[Path]) -> float:
    """Median seconds of an SDP step: forward, backward, masks, clipping, AdamW."""
    student, teacher = (open_base(base, "classification", [str(index) for index in range(8)]) for _ in range(2))
    stage = Stage("classification", 0, 0.0, 0.5, (STEPS,), {0: 0.5})
    method = Sdp(SdpPlan(method="sdp", path=(0.5,), evaluate_every=0.0), stage)
    return seconds(method, student, teacher, random_rows(STEPS * BATCH))


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
    step = seconds_a_step([folder / "config.json", folder / "model.safetensors"])
    print(f"{torch.get_num_threads()} threads, batch {BATCH}, mean length {MEAN_LENGTH}:")
    print(f"SDP step with minilm: {step:.3f} s a step, {BATCH / step:.1f} samples a second")


if __name__ == "__main__":
    main()
