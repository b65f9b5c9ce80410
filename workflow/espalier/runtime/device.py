"""Seeds, device and precision of a computation."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from espalier.config.project import Device, Precision
from espalier.runtime.errors import UserError


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_state(device: torch.device, generator: torch.Generator) -> dict[str, Tensor]:
    """States of the generators that a training step draws from: torch's own, for dropout, and the method's."""
    on_device = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state(), "method": generator.get_state(), **on_device}


def set_random_state(state: dict[str, Tensor], device: torch.device, generator: torch.Generator) -> None:
    """Restore the states that `random_state` returned; a run that moved to another kind of device keeps that device's state."""
    torch.set_rng_state(state["cpu"])
    generator.set_state(state["method"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def pick_device(wanted: Device) -> torch.device:
    """The device to compute on.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("device: got 'cuda', but torch sees no GPU here; use 'auto' or 'cpu'")

    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def pick_precision(wanted: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """bf16 where it is asked for, or where the device computes it natively."""
    if wanted != "auto":
        return wanted

    # tensor cores compute bf16 from compute capability 8.0 (Ampere) on
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    """Whether Linux lists a bf16 instruction set: avx512_bf16 or amx_bf16 (x86), bf16 (64-bit Arm). False on other systems."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))
