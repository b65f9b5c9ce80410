"""Latencies of a model in its formats, beside the dense model in PyTorch and in the same formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from tqdm import tqdm

from espalier.config.deployment.formats import FORMATS, Format
from espalier.data.batches import TaskRows
from espalier.deployment.rows import batches_of
from espalier.deployment.runtimes import FormatRunner, TokenArrays
from espalier.evaluation.cost import latencies_ms

PAUSE = 0.002
"""Seconds before each pass: threads that spin while they wait for the next one would slow down another runtime."""
TIMED_BATCHES = 64
"""Batches of the task's own rows that take turns; at batch size 32 more rows than most passes will see."""
Runners = Mapping[Format, FormatRunner]
Batches = Mapping[str, Sequence[TokenArrays]]
"""`b{batch size}_l{length}` → batches of that kind."""


def own_batches(rows: TaskRows, vocabulary: int, sizes: Sequence[int], length: int) -> dict[str, list[TokenArrays]]:
    """What a model is timed on: full rows of one length, and the task's own rows as they come (length `rows`).

    Args:
        rows: of the task, in the model's tokens.
        vocabulary: number of the model's tokens.
        sizes: rows of a batch.
        length: tokens of a full row.
    """
    batches: dict[str, list[TokenArrays]] = {}
    for size in sizes:
        ids = np.random.default_rng(0).integers(0, vocabulary, (size, length))
        batches[f"b{size}_l{length}"] = [{"input_ids": ids, "attention_mask": np.ones_like(ids)}]
        batches[f"b{size}_lrows"] = batches_of(rows, size, TIMED_BATCHES)
    return batches


def times_of(own: tuple[Runners, Batches], dense: tuple[Runners, Batches] | None, repeats: int) -> dict[Format, dict[str, Any]]:
    """Latencies and speed-ups in each format, at each kind of batch.

    Args:
        own: the model in all formats that are to be timed, and its batches.
        dense: the dense model in these formats and in `torch`, and its batches, which may have other tokens; None where the
            model is the dense one itself.
        repeats: least number of passes.
    """
    formats = list(own[0])
    result: dict[Format, dict[str, Any]] = {
        format: {"latency_ms": {}, "speedup": {}, "same_runtime_speedup": {}} for format in formats
    }
    for kind in tqdm(own[1], unit="kind of batch", mininterval=5.0):
        timed = latencies_ms(_callers(own, dense, kind), repeats, PAUSE)
        eager = timed["dense torch" if dense else "torch"]["median"]

        for format in formats:
            median = timed[format]["median"]
            same = timed[f"dense {format}" if dense else format]["median"]
            result[format]["latency_ms"][kind] = timed[format]
            result[format]["speedup"][kind] = eager / median
            result[format]["same_runtime_speedup"][kind] = same / median
    return result


def _callers(own: tuple[Runners, Batches], dense: tuple[Runners, Batches] | None, kind: str) -> dict[str, Callable[[], object]]:
    """A function for each model and format that answers the next batch; those of one runtime stand side by side."""
    models = {"": own} | ({"dense ": dense} if dense else {})
    return {
        f"{prefix}{format}": _caller(runners[format], batches[kind])
        for format in FORMATS
        for prefix, (runners, batches) in models.items()
        if format in runners
    }


def _caller(runner: FormatRunner, batches: Sequence[TokenArrays]) -> Callable[[], object]:
    turns = cycle(batches)
    return lambda: runner(next(turns))
