"""Steps of SDP, SPD and HomoDistil beside their references; where the time of a step goes; HomoDistil of smaller students."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from benchmarks.speed.duel import Duel
from benchmarks.speed.equality import random_gates
from benchmarks.speed.machine import matmul_peak, peak_memory, products_of
from benchmarks.speed.references import REFERENCES, CofiReference, HomodistilReference, Reference
from benchmarks.speed.rows import seed_for, table_like, text_of, words_of
from benchmarks.speed.runs import Effort, kind_of, loop_for, method_for, run
from benchmarks.speed.stopwatch import split_of
from espalier.config.project import Precision
from espalier.data.batches import TaskRows
from espalier.methods.base import Method
from espalier.pruning.masks import Masks
from espalier.training.loop import Loop

HALF = (0.0, 0.5)
"""Fractions of the encoder that HomoDistil's students have lost."""
ROUNDS = 2
"""Times that both are measured in turn; ratios are of one round."""
SPARE = {"homodistil": 1}
"""Steps at the end of a stage that are others: HomoDistil cuts before its last one."""
LEAST = {"homodistil": 4}
"""Steps in which a method's stage fits."""


def table(method: str, task: str, effort: Effort, folder: Path, by_length: bool = True) -> TaskRows:
    """A few batches of rows, ours or the reference's: of the task's lengths, or of text."""
    scale, count = effort.scale, effort.batches * effort.scale.batch
    if kind_of(method) == "text":
        return text_of(folder / f"{count}-{effort.text_length}.arrow", count, effort.text_length, scale.vocabulary)
    return words_of(table_like(task, scale.batch, effort.batches, by_length), scale.vocabulary, scale.classes)


def made(
    method: str,
    rows: TaskRows,
    effort: Effort,
    folder: Path,
    *,
    steps: int,
    precision: Precision = "fp32",
    student: PreTrainedModel | None = None,
    masks: Masks | None = None,
) -> Loop:
    """A loop of a method over so many steps, from a dense student unless one is given; CoFi's gates are open."""
    scale = effort.scale
    first, teacher = (scale.model(kind_of(method), seed) for seed in (1, 2))
    own = method_for(method, steps, seed=seed_for(rows.lengths, scale.batch), batch_size=scale.batch)
    options: dict[str, Any] = {"precision": precision, "device": scale.device, "masks": masks}
    return loop_for(own, first if student is None else student, teacher, rows, folder, **options)


def against(method: str, task: str, effort: Effort, folder: Path) -> Reference:
    """The reference of a method at the same start, on batches of its own."""
    scale = effort.scale
    rows = table(method, task, effort, folder, by_length=False)
    student, teacher = (scale.model(kind_of(method), seed) for seed in (1, 2))
    reference = REFERENCES[method](student, teacher, rows, scale.batch, scale.device)
    if isinstance(reference, CofiReference):
        reference.put_gates({name: torch.full_like(value, 4.6) for name, value in random_gates(scale).items()})
    return reference


def steps_of(method: str, measured: int) -> int:
    """Steps of a stage in which so many are measured: the first one warms up, and others may be spare at the end."""
    return max(1 + measured + SPARE.get(method, 0), LEAST.get(method, 0))


def beside(method: str, task: str, effort: Effort, folder: Path, precision: Precision = "fp32") -> dict[str, float]:
    """Seconds of a step of both sides."""
    rows = table(method, task, effort, folder)
    loop = made(method, rows, effort, folder, steps=steps_of(method, effort.batches), precision=precision)
    reference = against(method, task, effort, folder)
    return Duel(loop, reference, effort.every_of(task), SPARE.get(method, 0)).fight().numbers()


def without_idle_logits(effort: Effort, folder: Path) -> dict[str, float]:
    """HomoDistil beside a reference that, like ours, computes the head at masked tokens alone."""
    rows = table("homodistil", "rte", effort, folder)
    reference = against("homodistil", "rte", effort, folder)
    assert isinstance(reference, HomodistilReference)
    reference.masked_only = True
    loop = made("homodistil", rows, effort, folder, steps=steps_of("homodistil", 2))
    return Duel(loop, reference, spare=1).fight().numbers()


def narrower(effort: Effort, folder: Path) -> dict[str, float]:
    """Seconds of a HomoDistil step of the dense student and of one of half the size, and how much faster that is."""
    rows = table("homodistil", "rte", effort, folder)
    rounds = []
    for _ in range(ROUNDS):
        seconds = []
        for removed in HALF:
            student, masks = _narrowed(removed, effort)
            loop = made("homodistil", rows, effort, folder, steps=steps_of("homodistil", 2), student=student, masks=masks)
            seconds.append(Duel(loop, spare=1).fight().our_seconds)
        rounds.append(seconds)
    dense, half = np.mean(rounds, axis=0)
    faster = np.median([dense / half for dense, half in rounds])
    return {"dense_step_seconds": float(dense), "half_step_seconds": float(half), "faster": float(faster)}


def _narrowed(removed: float, effort: Effort) -> tuple[PreTrainedModel, Masks | None]:
    """A student of the widths that a target leaves, and which parts of the whole it has."""
    student = effort.scale.model("text", 1)
    if not removed:
        return student, None
    method: Method = method_for("homodistil", 4, target=removed, removal="random-start")
    method.begin(student, None)
    return method.shrink(student), method.end()


def split(method: str, task: str, effort: Effort, folder: Path, precision: Precision = "fp32") -> dict[str, Any]:
    """Seconds of the parts of a step."""
    rows, steps = table(method, task, effort, folder), steps_of(method, effort.batches)
    return split_of(made(method, rows, effort, folder, steps=steps, precision=precision), SPARE.get(method, 0))


def share_of_peak(effort: Effort, folder: Path, precision: Precision = "fp32") -> dict[str, float]:
    """Operations of matrix products in dense CoFi steps, against what the machine could do in that time."""
    scale = effort.scale
    rows = table("cofi", "rte", effort, folder)
    duel = Duel(made("cofi", rows, effort, folder, steps=effort.batches + 1, precision=precision)).fight()

    # Counted in a run of its own, because counting takes time; the first step is counted with the others here.
    counted = made("cofi", rows, effort, folder, steps=effort.batches, precision=precision)
    with FlopCounterMode(display=False) as counter:
        run(counted)
    operations = counter.get_total_flops() / effort.batches

    tokens = int(rows.lengths.mean()) * scale.batch
    config = counted.student.config
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    peak = matmul_peak(products_of(tokens, config.hidden_size, config.intermediate_size), dtype, scale.device)
    return {
        "operations_a_step": operations,
        "step_seconds": duel.our_seconds,
        "peak_operations_a_second": peak,
        "tokens_of_peak": tokens,
        "share": operations / duel.our_seconds / peak,
    }


def memory(method: str, task: str, effort: Effort, folder: Path) -> dict[str, float | None]:
    """MiB that two steps take at most: models, optimiser and activations, for each side by itself."""
    rows = table(method, task, effort, folder)

    def ours() -> None:
        run(made(method, rows, effort, folder, steps=max(2, LEAST.get(method, 0))))

    def theirs() -> None:
        reference = against(method, task, effort, folder)
        for _ in range(2):
            reference.step()

    return {"ours_mib": peak_memory(ours, effort.scale.device), "reference_mib": peak_memory(theirs, effort.scale.device)}
