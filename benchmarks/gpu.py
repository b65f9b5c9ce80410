"""One command for a machine with a GPU: `python -m benchmarks.gpu`, which writes gpu.json beside it.

On random weights of BERT-base's shape: each method's losses in bf16 against fp32, samples a second of each method in both
precisions beside the plain reference, peak memory, the same run divided between processes, and torch.compile. Without a GPU it
refuses, because figures of another device would be taken for a GPU's; the functions take the device as an argument, and
`tests/unit/test_benchmarks.py` runs them on a CPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks.bench import rounded
from benchmarks.speed import equality, machine, methods
from benchmarks.speed.references import REFERENCES, adamw
from benchmarks.speed.rows import words_of
from benchmarks.speed.runs import BERT_BASE, STILL, Effort, Scale, loop_for, method_for, run
from espalier.config.project import Progress
from espalier.runtime import distributed
from espalier.runtime.files import write_json

RESULTS = Path(__file__).with_name("gpu.json")
FULL = Effort(Scale(BERT_BASE, device="cuda"), batches=8, every=1)
BF16_TOLERANCE = 0.03
"""Relative difference of a loss that bf16 may make: 8 bits of mantissa, over twelve layers."""
PROCESS_TOLERANCE = 1e-4
"""Relative difference of losses that another order of additions may make in a few steps."""
PROCESS_STEPS = 4
COMPILE_STEPS = 10
COMPILE_LENGTHS = (64, 96, 128)
"""Tokens of the batches that a compiled model is given in turn: with dynamic shapes it is compiled once or twice."""


def precisions(effort: Effort, folder: Path) -> dict[str, Any]:
    """First loss of every method without dropout, in fp32 and in bf16."""
    found = {}
    for method in REFERENCES:
        losses = [
            equality.one_step(method, effort.scale, folder, precision, effort.scale.device)[1]["loss"]
            for precision in ("fp32", "bf16")
        ]
        apart = abs(losses[1] - losses[0]) / abs(losses[0])
        found[method] = {"fp32": losses[0], "bf16": losses[1], "difference": apart, "near": apart < BF16_TOLERANCE}
    return found


def speeds(effort: Effort, folder: Path) -> dict[str, Any]:
    """Samples a second of every method beside its reference, ours in fp32 and in bf16; the reference is in fp32."""
    return {
        method: {precision: methods.beside(method, "rte", effort, folder, precision) for precision in ("fp32", "bf16")}
        for method in REFERENCES
    }


def tf32() -> dict[str, Any]:
    """Whether fp32 products may be rounded to TF32, as torch has it set: both sides have the same."""
    return {"matmul_precision": torch.get_float32_matmul_precision(), "cudnn": torch.backends.cudnn.allow_tf32}


def divided(scale: Scale, processes: int, folder: Path) -> dict[str, Any]:
    """The losses of a short SDP run by one process, and by several that share its batches."""
    setting = {"shape": dict(scale.shape), "batch": scale.batch, "classes": scale.classes, "device": scale.device}
    losses = {}
    for count in (1, processes):
        path = folder / f"losses-{count}.json"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m", "benchmarks.gpu"]
        subprocess.run([sys.executable, *launcher, json.dumps(setting), str(path)], check=True, capture_output=True)
        losses[count] = np.array(json.loads(path.read_text()))
    apart = float(np.max(np.abs(losses[processes] / losses[1] - 1.0)))
    backend = "nccl" if scale.device == "cuda" else "gloo"
    return {"processes": processes, "backend": backend, "difference": apart, "equal": apart < PROCESS_TOLERANCE}


def worker(setting: dict[str, Any], path: Path) -> None:
    """One of the processes that `divided` starts: train, and let the main one write the losses."""
    scale = Scale(**setting)
    with tempfile.TemporaryDirectory() as folder:
        lengths = np.full(PROCESS_STEPS * scale.batch, 24)
        rows = words_of(lengths, scale.vocabulary, scale.classes)
        student, teacher = (scale.model("classification", seed, **STILL) for seed in (1, 2))
        method = method_for("sdp", PROCESS_STEPS, batch_size=scale.batch)
        loop = loop_for(method, student, teacher, rows, Path(folder), device=scale.device)
        loop.progress = Progress(log_every=1)
        run(loop)
        if distributed.is_main():
            write_json(path, [row["loss"] for row in loop.history.rows if "loss" in row])
    distributed.finish()


def compiled(scale: Scale, backend: str = "inductor") -> dict[str, Any]:
    """A dense training step with dynamic lengths, compiled and not: losses, seconds a step, seconds until it is compiled."""
    found: dict[str, Any] = {}
    for name in ("eager", "compiled"):
        model = scale.model("classification", 1, **STILL).to(scale.device).train()
        call = torch.compile(model, dynamic=True, backend=backend) if name == "compiled" else model
        step = _step(model, call, scale)
        began = time.perf_counter()
        first = [step(length) for length in COMPILE_LENGTHS]
        warm, began = time.perf_counter() - began, time.perf_counter()
        for number in range(COMPILE_STEPS):
            step(COMPILE_LENGTHS[number % len(COMPILE_LENGTHS)])
        found[name] = {"step_seconds": (time.perf_counter() - began) / COMPILE_STEPS, "warm_seconds": warm, "loss": first[0]}
    found["faster"] = found["eager"]["step_seconds"] / found["compiled"]["step_seconds"]
    return found


def _step(model: PreTrainedModel, call: Callable[..., Any], scale: Scale) -> Callable[[int], float]:
    """A function that takes one step on a batch of some length, and returns its loss."""
    optimizer = adamw(model.parameters(), 1e-5)
    rows = {length: words_of([length] * scale.batch, scale.vocabulary, scale.classes) for length in COMPILE_LENGTHS}

    def step(length: int) -> float:
        batch = rows[length].batch(np.arange(scale.batch), torch.device(scale.device))
        loss = call(**batch.inputs(), labels=batch.labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def content(effort: Effort, processes: int, backend: str = "inductor") -> dict[str, Any]:
    """Everything that gpu.json holds."""
    scale = effort.scale
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {
            "machine": machine.facts(),
            "tf32": tf32(),
            "shape": dict(scale.shape) or "bert-base",
            "equal": equality.check(replace(scale, batch=8), folder, scale.device),
            "precisions": precisions(effort, folder),
            "speeds": speeds(effort, folder),
            "matmul": {precision: methods.share_of_peak(effort, folder, precision) for precision in ("fp32", "bf16")},
            "split": {method: methods.split(method, "rte", effort, folder, "bf16") for method in REFERENCES},
            "memory": {method: methods.memory(method, "rte", effort, folder) for method in REFERENCES},
            "compile": compiled(scale, backend),
        }
        if processes > 1:
            found["processes"] = divided(scale, processes, folder)
        else:
            found["processes"] = "not measured: nccl needs a GPU for each process, and there is one"
    return rounded(found)


def main() -> None:
    """Measure and write, where there is a GPU."""
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu: torch sees no GPU here, and figures of another device would mean nothing; nothing is written")
    write_json(RESULTS, content(FULL, torch.cuda.device_count()))
    print(RESULTS.read_text())


if __name__ == "__main__":
    if len(sys.argv) == 3:
        worker(json.loads(sys.argv[1]), Path(sys.argv[2]))
    else:
        main()
