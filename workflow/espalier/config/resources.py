"""Memory and minutes that a job requests from a cluster: they grow with its model and with every further attempt.

    memory in MB = attempt * (memory_mb + copies * model in MB) * processes
    minutes      = attempt * minutes * max(1, model in MB / 440)

The model is the largest file of weights among the job's inputs; 440 MB is BERT-base in 32 bits. No result depends on
these numbers, so a change runs no job again. `set-resources` in a profile or on the command line overrides them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

BERT_BASE_MB = 440
WEIGHTS_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Needs:
    """What the jobs of one rule need, for a model of the size of BERT-base or smaller."""

    memory_mb: int
    """Memory of Python, the libraries and the rows."""
    minutes: int
    """Time limit, generous; a training job that reaches it is tried again with more time and resumes."""
    copies: int = 0
    """Memory that grows with the model, in multiples of its weights."""
    gpu: int = 0
    """GPUs of a job; on machines without GPUs the job runs on the CPU."""

    def memory(self, model_mb: float, attempt: int) -> int:
        """Megabytes to ask for."""
        return math.ceil(attempt * (self.memory_mb + self.copies * model_mb))

    def runtime(self, model_mb: float, attempt: int) -> int:
        """Minutes to ask for."""
        return math.ceil(attempt * self.minutes * max(1.0, model_mb / BERT_BASE_MB))


TRAINING_NEEDS = Needs(memory_mb=4000, minutes=480, copies=24, gpu=1)
"""Teacher, student, gradients, two moments and a save are 7 copies; activations of 32 rows on the CPU are the rest: with
attention maps 5.6 GB in all for a model of 91 MB and 128 tokens."""
INFERENCE_NEEDS = Needs(memory_mb=3000, minutes=60, copies=8, gpu=1)
NEEDS = {
    "finetune": TRAINING_NEEDS,
    "admit": INFERENCE_NEEDS,
    "pretrain": TRAINING_NEEDS,
    "latency": INFERENCE_NEEDS,
    "teach": INFERENCE_NEEDS,
    "compress": TRAINING_NEEDS,
    "specialise": TRAINING_NEEDS,
    "adopt": TRAINING_NEEDS,
    "recover": TRAINING_NEEDS,
    "decide": INFERENCE_NEEDS,
    "export": Needs(memory_mb=3000, minutes=60, copies=8),
    "trim": Needs(memory_mb=3000, minutes=60, copies=8),
    "deploy": Needs(memory_mb=4000, minutes=120, copies=16),
    "evaluate": INFERENCE_NEEDS,
    "measure": INFERENCE_NEEDS,
    "analyse": INFERENCE_NEEDS,
}
"""Needs of every rule that opens a model; the profile has those of the other rules."""


def model_mb(files: Iterable[str]) -> float:
    """Size of the largest file of weights in megabytes; 0 if there is none.

    Raises:
        FileNotFoundError: a file does not exist yet. Snakemake then prints `<TBD>` and asks again before the job starts.
    """
    return max((Path(file).stat().st_size / 1e6 for file in files if file.endswith(WEIGHTS_SUFFIX)), default=0.0)


def resources_of(rule: str, processes: int = 1) -> dict[str, int | Callable[..., int]]:
    """Resources of a rule as Snakemake takes them: functions of a job's inputs and attempt, and one GPU for each process."""
    needs = NEEDS[rule]
    gpu = {"gpu": needs.gpu * processes} if needs.gpu else {}
    return gpu | {
        "mem_mb": lambda wildcards, input, attempt: needs.memory(model_mb(input), attempt) * processes,
        "runtime": lambda wildcards, input, attempt: needs.runtime(model_mb(input), attempt),
    }
