"""Both sides compute the same: with the same weights, rows and draws, and without dropout, losses and gradients are equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.references import REFERENCES, CofiReference, SpdReference
from benchmarks.speed.rows import lengths_like, text_of, words_of
from benchmarks.speed.runs import STILL, Scale, kind_of, loop_for, method_for, put_gates, run
from espalier.config.project import Precision, Progress
from espalier.data.batches import TaskRows
from espalier.training.loop import Loop

TOLERANCE = 1e-5
"""Relative difference of losses that rounding in fp32 may make."""
NORM_TOLERANCE = 1e-4
"""Relative difference of the norms of gradients."""
MULTIPLIERS = (0.5, 2.0)
LENGTH = 32
STEPS = {"homodistil": 4}
"""Of a run whose first step is compared; HomoDistil refuses to narrow in fewer."""


def batch_of(method: str, scale: Scale, folder: Path) -> TaskRows:
    """One batch of rows."""
    if kind_of(method) == "text":
        return text_of(folder / f"{scale.batch}-{LENGTH}.arrow", scale.batch, LENGTH, scale.vocabulary)
    return words_of(lengths_like("rte", scale.batch), scale.vocabulary, scale.classes)


def random_gates(scale: Scale) -> dict[str, torch.Tensor]:
    """Log alphas between shut and open, some of them shut for good."""
    config = scale.model("classification", 0).config
    sizes = {"attention": config.num_hidden_layers, "ffn": config.num_hidden_layers, "hidden": config.hidden_size}
    for layer in range(config.num_hidden_layers):
        sizes[f"layer.{layer}.heads"] = config.num_attention_heads
        sizes[f"layer.{layer}.ffn"] = config.intermediate_size
    generator = torch.Generator().manual_seed(1)
    values = {name: 3.0 * torch.randn(size, generator=generator) + 2.0 for name, size in sizes.items()}
    return {name: value.clamp(-4.6, 4.6) for name, value in values.items()}


def one_step(
    method: str, scale: Scale, folder: Path, precision: Precision = "fp32", device: str = "cpu"
) -> tuple[Loop, dict[str, float], Any]:
    """One step of ours on one batch without dropout; its loop, its row of history, and the reference at the same start."""
    rows = batch_of(method, scale, folder)
    student, teacher = (scale.model(kind_of(method), seed, **STILL) for seed in (1, 2))
    reference = REFERENCES[method](student, teacher, rows, scale.batch, device)
    ours = method_for(method, STEPS.get(method, 1), batch_size=scale.batch)

    if isinstance(reference, CofiReference):
        values = random_gates(scale)
        put_gates(ours, values, MULTIPLIERS)
        reference.put_gates(values, MULTIPLIERS)

    loop = loop_for(ours, student, teacher, rows, folder, precision=precision, device=device)
    loop.progress = Progress(log_every=1)
    run(loop)
    return loop, next(row for row in loop.history.rows if "loss" in row), reference


def compared(method: str, scale: Scale, folder: Path, device: str = "cpu") -> dict[str, float]:
    """Loss and norm of the gradients of both sides, and their relative differences."""
    loop, row, reference = one_step(method, scale, folder, device=device)

    # The reference takes the draws of our step.
    if isinstance(reference, CofiReference):
        names = [name for name, _ in loop.method.gates.items()]
        reference.ramp_steps = loop.method.ramp_steps
        reference.noise = dict(zip(names, loop.method.gates.noise, strict=True))
    if isinstance(reference, SpdReference):
        reference.bits = loop.method.bits

    loss, norm = reference.step(np.arange(scale.batch))
    return {
        "ours": row["loss"],
        "reference": loss,
        "loss_difference": abs(row["loss"] - loss) / abs(loss),
        "gradient_difference": abs(row["gradient_norm"] - norm) / abs(norm),
    }


def check(scale: Scale, folder: Path, device: str = "cpu") -> dict[str, dict[str, float]]:
    """All methods.

    Raises:
        SystemExit: two sides differ by more than rounding: then no ratio of their times means anything.
    """
    methods = {method: compared(method, scale, folder, device) for method in REFERENCES}
    for method, numbers in methods.items():
        if numbers["loss_difference"] > TOLERANCE or numbers["gradient_difference"] > NORM_TOLERANCE:
            raise SystemExit(f"{method}: ours and the reference do not compute the same: {numbers}")
    return methods
