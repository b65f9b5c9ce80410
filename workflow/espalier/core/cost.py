"""What a model costs: parameters, multiply-accumulates, file size, latency."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel

from espalier.core.masks import encoder_layers, prunable_weights

WARMUP = 3
"""Untimed forward passes of each model before the timed ones."""


def parameter_counts(model: PreTrainedModel) -> dict[str, int]:
    """All parameters, the encoder's matrices among them, and how many of each are not zero."""
    matrices = list(prunable_weights(model).values())
    return {
        "params_total": sum(parameter.numel() for parameter in model.parameters()),
        "params_encoder": sum(matrix.numel() for matrix in matrices),
        "params_nonzero": sum(int(parameter.count_nonzero()) for parameter in model.parameters()),
        "params_encoder_nonzero": sum(int(matrix.count_nonzero()) for matrix in matrices),
    }


def sparsities(student: Mapping[str, int], dense: Mapping[str, int]) -> dict[str, float]:
    """Fractions removed, in [0, 1), against the dense model: of the encoder's matrices and of every parameter."""
    return {
        "sparsity_encoder": 1.0 - student["params_encoder_nonzero"] / dense["params_encoder_nonzero"],
        "sparsity_total": 1.0 - student["params_nonzero"] / dense["params_nonzero"],
    }


def macs(model: PreTrainedModel, length: int) -> int:
    """Multiply-accumulates of the encoder for one row of `length` tokens: its matrices, and queries with keys and values.

    Zeros count, because dense kernels multiply them.
    """
    _, stack = encoder_layers(model)
    projections = sum(module.weight.numel() for module in stack.modules() if isinstance(module, nn.Linear))
    attention = 2 * length * length * model.config.hidden_size * len(stack)
    return length * projections + attention


def size_mib(weights: Path) -> float:
    """Size of the weights file."""
    return weights.stat().st_size / 2**20


@torch.inference_mode()
def latencies_ms(
    models: Mapping[str, PreTrainedModel], batch_sizes: Sequence[int], length: int, repeats: int, device: torch.device
) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds of a forward pass: name → batch size → median and quartiles.

    Models take turns within a batch size, so that a drift of the machine's speed touches all alike. Rows are full
    (no padding), fp32, eager mode.
    """
    result: dict[str, dict[str, dict[str, float]]] = {name: {} for name in models}
    for model in models.values():
        model.eval().to(device)
    vocabulary = min(model.config.vocab_size for model in models.values())
    for size in tqdm(batch_sizes, unit="batch size", mininterval=5.0):
        ids = torch.randint(0, vocabulary, (size, length), generator=torch.Generator().manual_seed(0)).to(device)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        times: dict[str, list[float]] = {name: [] for name in models}
        for turn in range(WARMUP + repeats):
            for name, model in models.items():
                elapsed = _time_ms(model, inputs, device)
                if turn >= WARMUP:
                    times[name].append(elapsed)
        for name, values in times.items():
            q25, median, q75 = np.percentile(values, [25, 50, 75])
            result[name][str(size)] = {"median": float(median), "q25": float(q25), "q75": float(q75)}
    return result


def _time_ms(model: PreTrainedModel, inputs: Mapping[str, Tensor], device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    model(**inputs)
    _wait(device)
    return 1000.0 * (time.perf_counter() - began)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def cost_of(
    student: PreTrainedModel,
    dense: PreTrainedModel,
    weights: Path,
    *,
    batch_sizes: Sequence[int],
    length: int,
    repeats: int,
    device: torch.device,
) -> dict[str, Any]:
    """Everything that cost.json holds."""
    counts, dense_counts = parameter_counts(student), parameter_counts(dense)
    times = latencies_ms({"student": student, "dense": dense}, batch_sizes, length, repeats, device)
    speedup = {size: times["dense"][size]["median"] / times["student"][size]["median"] for size in times["dense"]}
    return {
        **counts,
        **sparsities(counts, dense_counts),
        "size_mib": size_mib(weights),
        "macs": macs(student, length),
        "length": length,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "latency_ms": times["student"],
        "dense_latency_ms": times["dense"],
        "speedup": speedup,
    }
