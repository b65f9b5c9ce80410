"""Speed on this machine: `make bench`, which writes bench.json and docs/speed.md. About ten minutes; let nothing run beside it.

`--quick --output FILE` measures tiny shapes in seconds and writes FILE alone: for tests.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed import equality, growth, machine, methods, page, stages, start
from benchmarks.speed.aims import TASKS, aims_of
from benchmarks.speed.runs import FULL, MINILM, QUICK, Effort, Scale
from espalier.runtime.files import write_json
from espalier.runtime.process import keep_freed_memory

RESULTS = Path(__file__).with_name("bench.json")
JOBS = (1_000, 5_000)
QUICK_JOBS = (10, 20)
EQUAL = Scale(MINILM, batch=8)
"""At which equality is checked: the shape that is measured, on few rows."""
SPLIT = ("cofi", "sdp", "spd", "homodistil")
DIGITS, LOSS_DIGITS = 4, 8
"""Figures are written with so many digits, losses that are to be equal with more."""
SENTENCES = {
    "ratio": "seconds of a reference step over seconds of one of ours, taken in turn inside one run",
    "whole_stage": "a few steps at several points of the ramp, linear between them, summed over the steps of a stage",
    "teacher": "ours reads outputs that are stored once, by one pass over the rows in a hundred epochs, which is not counted",
    "gates": "a synthetic ramp: the method's gates under its Lagrangian against random pulls (benchmarks/speed/ramp.py)",
    "reference": "plain steps after public trainers (benchmarks/speed/references.py); losses and gradients equal ours",
}


class Report:
    """What was measured so far, and how long each part took."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}

    def add(self, name: str, measure: Callable[[], Any]) -> None:
        """Measure a part and say how long it took."""
        began = time.perf_counter()
        self.found[name] = measure()
        self.seconds[name] = time.perf_counter() - began
        print(f"{name}: {self.seconds[name]:.0f} s", file=sys.stderr, flush=True)


def measured(effort: Effort, equal: Scale, jobs: tuple[int, ...], folder: Path) -> dict[str, Any]:
    """Every part, the cheap ones first: two sides that are not equal end the run at once."""
    report = Report()
    report.add("equal", lambda: equality.check(equal, folder))
    report.add("start", lambda: start.measured(jobs, folder))
    report.add("matmul", lambda: methods.share_of_peak(effort, folder))
    report.add("split", lambda: {method: methods.split(method, "rte", effort, folder) for method in SPLIT})
    report.add("methods", lambda: _others(effort, folder))
    report.add("homodistil_masked_head", lambda: methods.without_idle_logits(effort, folder))
    report.add("homodistil_narrower", lambda: methods.narrower(effort, folder))
    report.add("memory", lambda: {method: methods.memory(method, "rte", effort, folder) for method in SPLIT})
    report.add("cofi", lambda: {task: _cofi(task, effort, folder) for task in TASKS})
    report.add("growth", lambda: growth.sweeps(effort, folder))
    return report.found | {"seconds": report.seconds}


def _others(effort: Effort, folder: Path) -> dict[str, Any]:
    """SDP and SPD on both lengths, HomoDistil on text."""
    found = {f"{method}_{task}": methods.beside(method, task, effort, folder) for method in ("sdp", "spd") for task in TASKS}
    return found | {"homodistil": methods.beside("homodistil", "rte", effort, folder)}


def _cofi(task: str, effort: Effort, folder: Path) -> dict[str, Any]:
    """CoFi in fp32 beside the reference; where the machine computes bf16, ours in bf16, too."""
    found: dict[str, Any] = {"fp32": stages.study(task, effort, folder)}
    if machine.facts()["hardware_bf16"]:
        found["bf16"] = stages.study(task, effort, folder, "bf16", against=False)
        for whole in ("whole_stage", "whole_path"):
            theirs = found["fp32"][whole]["reference_step_seconds"]
            found["bf16"][whole]["ratio"] = theirs / found["bf16"][whole]["step_seconds"]
    return found


def rounded(value: Any, digits: int = DIGITS) -> Any:
    """All numbers of a content with so many digits; what is compared under `equal` with more."""
    if isinstance(value, dict):
        return {str(key): rounded(each, LOSS_DIGITS if key == "equal" else digits) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each, digits) for each in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def content(quick: bool) -> dict[str, Any]:
    """Everything that the JSON file holds."""
    began = time.perf_counter()
    effort, equal, jobs = (QUICK, QUICK.scale, QUICK_JOBS) if quick else (FULL, EQUAL, JOBS)

    # More threads than one only wait for each other where models are tiny.
    torch.set_num_threads(1 if quick else len(os.sched_getaffinity(0)))

    # As training stages do. It makes the reference faster, too.
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(effort, equal, jobs, Path(folder))

    setting = {"quick": quick, "batch": effort.scale.batch, "total_seconds": time.perf_counter() - began}
    aims = [aim.as_json() for aim in aims_of(found)]
    return rounded({"machine": machine.facts(), **setting, "meaning": SENTENCES, "aims": aims, **found})


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny shapes, in seconds; the figures mean nothing")
    parser.add_argument("--output", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    if arguments.quick and arguments.output == RESULTS:
        parser.error("--quick needs --output: its figures mean nothing and must not replace bench.json")

    write_json(arguments.output, content(arguments.quick))
    if not arguments.quick:
        page.PAGE.write_text(page.text_of(arguments.output))
    print(arguments.output)


if __name__ == "__main__":
    main()
