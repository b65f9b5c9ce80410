"""Where and how to compute: seeds, device, precision."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from espalier.core.runtime import UserError


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def pick_device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to compute on.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("device: got 'cuda', but torch sees no GPU here; use 'auto' or 'cpu'")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def pick_precision(wanted: Literal["auto", "fp32", "bf16"], device: torch.device) -> Literal["fp32", "bf16"]:
    """bf16 where it is asked for, or where the device computes it natively."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    """x86 with avx512_bf16 or amx_bf16, or 64-bit Arm with bf16; unknown elsewhere, so no."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))
