"""What comes before training: seconds until a stage has started, and the processor time of planning a study."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from espalier.stages import MODULES
from tests.conftest import SMALL, copy_workflow

TEACHER_JOBS = 5
"""Jobs of one seed without plans: finetune, export, evaluate, measure and card."""
STARTS = 2


def seconds_to_start(stage: str) -> float:
    """Seconds from nothing to a stage that has imported what it needs and read its specification (and refuses it)."""
    arguments = inspect.signature(import_module(MODULES[stage]).run).parameters
    paths = [f"--{name.replace('_', '-')}=x" for name in arguments if name != "spec"]

    began = time.perf_counter()
    result = subprocess.run([sys.executable, "-m", "espalier", stage, "--spec={}", *paths], capture_output=True, check=False)
    assert result.returncode == 1 and b"Field required" in result.stderr, result.stderr
    return time.perf_counter() - began


def planned(jobs: int, folder: Path) -> dict[str, Any]:
    """Processor seconds and memory of a dry run of about so many jobs, none of which has run."""
    clone = copy_workflow(folder / str(jobs))
    clone.write_config(SMALL | {"seeds": list(range(jobs // TEACHER_JOBS)), "plans": {}})
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules"]
    process = subprocess.Popen(command, cwd=clone.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    told = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, told[-2000:]
    total = int(re.search(r"^total +(\d+)", told, re.MULTILINE)[1])
    memory = round(used.ru_maxrss / 1024)
    return {"jobs": total, "processor_seconds": used.ru_utime + used.ru_stime, "memory_mib": memory}


def measured(jobs: tuple[int, ...], folder: Path) -> dict[str, Any]:
    """Start-up of a stage with and without a model, the best of a few; planning of studies of these sizes."""
    return {
        "stage_without_model_seconds": min(seconds_to_start("table") for _ in range(STARTS)),
        "stage_that_trains_seconds": min(seconds_to_start("finetune") for _ in range(STARTS)),
        "planning": [planned(count, folder) for count in jobs],
    }
