"""The machine: what it is, how fast it multiplies matrices, and how much memory a piece of work takes."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers

from espalier.provenance.job_records import git_commit
from espalier.runtime.device import pick_precision

Matrices = tuple[int, int, int]
"""Rows, inner size and columns of a product."""
PEAK_SECONDS = 0.3
"""For so long each product is repeated; the fastest counts."""


def facts() -> dict[str, Any]:
    """What figures of time depend on."""
    cpu = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", cpu.read_text(), re.MULTILINE) if cpu.exists() else []
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "hardware_bf16": pick_precision("auto", torch.device("cpu")) == "bf16",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "commit": git_commit(),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def settle(device: torch.device | str) -> None:
    """Wait until the device has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def products_of(tokens: int, hidden: int, units: int) -> list[Matrices]:
    """The products of one encoder layer on so many tokens, forward; backward has the same numbers in other places."""
    square, up, down = (tokens, hidden, hidden), (tokens, hidden, units), (tokens, units, hidden)
    backward = [(hidden, tokens, hidden), (hidden, tokens, units), (units, tokens, hidden)]
    return [square, up, down, *backward]


def matmul_peak(products: Iterable[Matrices], dtype: torch.dtype, device: torch.device | str) -> float:
    """Floating-point operations a second of these products, each as fast as it was at its best."""
    operations = seconds = 0.0
    for rows, inner, columns in products:
        left = torch.randn(rows, inner, device=device, dtype=dtype)
        right = torch.randn(inner, columns, device=device, dtype=dtype)
        best, until = float("inf"), time.perf_counter() + PEAK_SECONDS

        while time.perf_counter() < until:
            settle(device)
            began = time.perf_counter()
            torch.mm(left, right)
            settle(device)
            best = min(best, time.perf_counter() - began)

        operations += 2.0 * rows * inner * columns
        seconds += best
    return operations / seconds


def _resident(field: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at most."""
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def peak_memory(work: Callable[[], object], device: torch.device | str = "cpu") -> float | None:
    """MiB that a piece of work takes at most, beyond what is there before; None where the system does not tell.

    On a CPU Linux resets its count of the highest resident memory; memory that was freed before is given back first.
    """
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return round((torch.cuda.max_memory_allocated() - before) / 2**20)

    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    before = _resident("VmRSS")
    work()
    return round(_resident("VmHWM") - before)
