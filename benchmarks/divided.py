"""The same tiny runs under any number of processes: `python -m torch.distributed.run … -m benchmarks.divided FOLDER NAME…`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from espalier.runtime import distributed as processes
from espalier.training import loop as loop_module
from tests import tiny
from tests.methods import on_text
from tests.methods.conftest import PLANS, Harness

BATCH = 21
"""Of 64 rows: uneven shares, and a last batch of one row, in which the second process has none."""
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
MICRO = {"micro_batch_size": 4}


def make(folder: Path, name: str) -> loop_module.Loop:
    """A run without dropout, whose noise is each process's own."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    plan = name.removesuffix(" in pieces")
    settings = {"batch_size": BATCH} | (MICRO if plan != name else {})
    if plan == "homodistil":
        student = on_text.language_model(**STILL)
        return on_text.Harness(folder / name).loop(settings, student=student)
    harness, settings = Harness(folder / name), PLANS[plan] | settings
    return harness.loop(settings, learning_rate=1e-4, student=tiny.classifier(1, harness.classes, **STILL))


def run(folder: Path, name: str) -> None:
    """Train, and save what this process has at the end."""
    loop, first = make(folder / f"rank{processes.index()}", name), {}
    after_backward = loop.method.after_backward

    def keep(step: int) -> None:
        if step < 2:
            first.update({f"{step}/{key}": p.grad.clone() for key, p in loop.student.named_parameters() if p.grad is not None})
        after_backward(step)

    loop.method.after_backward = keep
    loop.run()
    state = {"weights": loop.student.state_dict(), "method": loop.method.state_dict(), "masks": loop.method.end()}
    losses = torch.tensor([row["loss"] for row in loop.history.rows if "loss" in row])
    torch.save({**state, "first": first, "losses": losses}, folder / f"{name}.{processes.index()}.pt")


if __name__ == "__main__":
    loop_module.SAVE_EVERY = 1
    tiny.accelerator()  # the processes meet here
    for each in sys.argv[2:]:
        run(Path(sys.argv[1]), each)
    processes.finish()
