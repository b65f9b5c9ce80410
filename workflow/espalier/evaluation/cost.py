"""What a model costs: parameters, multiply-accumulates, file size, latency."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from espalier.config.project import Measure
from espalier.models.encoder import count_weights, prunable_weights
from espalier.models.modeling_espalier import FAMILIES, shape_of
from espalier.models.onnx import Inputs, Runner, input_names, onnx_runner
from espalier.runtime.device import pick_precision

WARMUP = 3
"""Untimed forward passes of each model before the timed ones."""
WARMUP_SECONDS = 0.5
"""After this time no further warm-up begins: a long pass is warm after one."""
TIMED_SECONDS = 2.0
"""After this time no further round of passes begins, once there were `repeats` of them."""
UNCERTAINTY = 0.005
"""Rounds end before that time where the standard error of each model's median is at most this fraction of it."""

TimedPrecision = Literal["fp32", "fp16", "bf16"]
DTYPES: dict[TimedPrecision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Candidate(NamedTuple):
    """A model with its files."""

    model: PreTrainedModel
    weights: Path
    onnx: Path


def parameter_counts(model: PreTrainedModel) -> dict[str, int]:
    """Numbers of all parameters and of those in the encoder's matrices, and how many of each are not zero."""
    return {
        "params_total": sum(parameter.numel() for parameter in model.parameters()),
        "params_encoder": count_weights(model),
        "params_nonzero": sum(int(parameter.count_nonzero()) for parameter in model.parameters()),
        "params_encoder_nonzero": sum(int(matrix.count_nonzero()) for matrix in prunable_weights(model).values()),
    }


def sparsities(student: Mapping[str, int], dense: Mapping[str, int]) -> dict[str, float]:
    """Fractions removed against the dense model, in [0, 1): of the encoder's matrices, and of all parameters."""
    return {
        "sparsity_encoder": 1.0 - student["params_encoder_nonzero"] / dense["params_encoder_nonzero"],
        "sparsity_total": 1.0 - student["params_nonzero"] / dense["params_nonzero"],
    }


def macs(model: PreTrainedModel, length: int) -> int:
    """Multiply-accumulates of the encoder for one row of `length` tokens.

    Zeros count, because dense kernels multiply them.
    """
    # Each matrix multiplies every token; attention multiplies n queries with n keys, and n probabilities with n values.
    return length * count_weights(model) + 2 * length * length * _attention_width(model)


def _attention_width(model: PreTrainedModel) -> int:
    """Heads x head size, summed over the layers."""
    config = model.config

    # In families that are not pruned structurally all layers are as wide as the hidden states.
    if config.model_type.removeprefix("compact-") not in FAMILIES:
        return config.hidden_size * config.num_hidden_layers
    shape = shape_of(config)
    return sum(heads * shape.heads_in(layer).size for layer, (heads, _) in enumerate(shape.layers))


def size_mib(weights: Path) -> float:
    """Size of a file, in MiB."""
    return weights.stat().st_size / 2**20


def full_batch(model: PreTrainedModel, batch: int, length: int) -> Inputs:
    """A batch of random tokens without padding; the tokens are the same in every call."""
    ids = torch.randint(0, model.config.vocab_size, (batch, length), generator=torch.Generator().manual_seed(0))
    known = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    return {name: known[name] for name in input_names(model)}


def timed_precision(device: torch.device) -> TimedPrecision:
    """The numbers that people serve models in on a device: fp32 on a CPU; half as many bits on a GPU, bf16 where it has it."""
    if device.type != "cuda":
        return "fp32"
    return "bf16" if pick_precision("auto", device) == "bf16" else "fp16"


def eager_runner(model: PreTrainedModel, device: torch.device, precision: TimedPrecision = "fp32") -> Runner:
    """A function that makes a forward pass in PyTorch and returns when the device has finished."""
    model.eval().to(device, DTYPES[precision])

    def run(inputs: Inputs) -> object:
        outputs = model(**inputs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return outputs

    return run


@torch.inference_mode()
def latencies_ms(runners: Mapping[str, Callable[[], object]], repeats: int, pause: float = 0.0) -> dict[str, dict[str, float]]:
    """Milliseconds of a call: name → median, quartiles, 95th percentile and the number of calls, which is `repeats` or more.

    The runners take turns, so that a drift of the machine's speed touches all alike. Short calls are made more often: a median
    of three calls of 5 ms is off by some 10 %.

    Args:
        runners: what to call, by name.
        repeats: least number of calls of each.
        pause: seconds before each call, in which threads of the runtime before can fall asleep.
    """
    _warm_up(runners)

    times: dict[str, list[float]] = {name: [] for name in runners}
    while not _enough(times, repeats, pause):
        for name, run in runners.items():
            time.sleep(pause)
            began = time.perf_counter()
            run()
            times[name].append(1000.0 * (time.perf_counter() - began))

    latencies = {}
    for name, values in times.items():
        median, q25, q75, p95 = np.percentile(values, [50, 25, 75, 95]).tolist()
        latencies[name] = {"median": median, "q25": q25, "q75": q75, "p95": p95, "passes": len(values)}
    return latencies


def _enough(times: Mapping[str, Sequence[float]], repeats: int, pause: float) -> bool:
    """Whether the medians are known well enough, or took the time that there is for them."""
    if min(map(len, times.values())) < repeats:
        return False
    spent = sum(sum(values) / 1000.0 + pause * len(values) for values in times.values())
    if spent >= TIMED_SECONDS:
        return True

    for values in times.values():
        median, q25, q75 = np.percentile(values, [50, 25, 75])
        # of normally distributed times: sd = interquartile range / 1.349, that of their median = 1.253 x sd / sqrt(n)
        if 1.253 * (q75 - q25) / 1.349 / len(values) ** 0.5 > UNCERTAINTY * median:
            return False
    return True


def _warm_up(runners: Mapping[str, Callable[[], object]]) -> None:
    """Run each model a few times, or once where it is slow."""
    began = time.perf_counter()
    for _ in range(WARMUP):
        for run in runners.values():
            run()
        if time.perf_counter() - began > WARMUP_SECONDS:
            return


def _both_timed(
    student: Runner | None, dense: Runner | None, batches: Mapping[str, tuple[Inputs, Inputs]], repeats: int
) -> dict[str, Any]:
    """Latencies of student and dense model in one runtime at every batch size; empty where it cannot run one of them.

    A batch is that of the student and that of the dense model, which may have other inputs and another vocabulary.
    """
    result: dict[str, dict[str, Any]] = {"latency_ms": {}, "dense_latency_ms": {}, "speedup": {}}
    if student is None or dense is None:
        return result

    for size, (own, other) in tqdm(batches.items(), unit="batch size", mininterval=5.0):
        times = latencies_ms({"student": partial(student, own), "dense": partial(dense, other)}, repeats)
        result["latency_ms"][size] = times["student"]
        result["dense_latency_ms"][size] = times["dense"]
        result["speedup"][size] = times["dense"]["median"] / times["student"]["median"]
    return result


def cost_of(student: Candidate, dense: Candidate, settings: Measure, device: torch.device) -> dict[str, Any]:
    """The content of cost.json: parameters, sparsities, file sizes, MACs and latencies of a student and its dense model."""
    counts = parameter_counts(student.model)
    dense_counts = parameter_counts(dense.model)

    batches = {}
    for size in settings.batch_sizes:
        pair = (full_batch(candidate.model, size, settings.length) for candidate in (student, dense))
        own, other = ({name: value.to(device) for name, value in batch.items()} for batch in pair)
        batches[str(size)] = (own, other)

    # One runtime after the other: threads that wait in one would disturb the times of the other.
    own_eager, dense_eager = (eager_runner(candidate.model, device, timed_precision(device)) for candidate in (student, dense))
    in_eager = _both_timed(own_eager, dense_eager, batches, settings.repeats)
    in_onnx = _both_timed(onnx_runner(student.onnx, device), onnx_runner(dense.onnx, device), batches, settings.repeats)

    return {
        **counts,
        **sparsities(counts, dense_counts),
        "size_mib": size_mib(student.weights),
        "macs": macs(student.model, settings.length),
        "length": settings.length,
        "repeats": settings.repeats,
        "device": str(device),
        "precision": timed_precision(device),
        "threads": torch.get_num_threads(),
        **in_eager,
        "onnx": {**in_onnx, "size_mib": size_mib(student.onnx)},
    }
