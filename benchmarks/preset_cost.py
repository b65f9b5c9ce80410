"""What a study of BERT-base or XLM-R base costs, by arithmetic: `python -m benchmarks.preset_cost FILE`. Nothing is measured.

GPU hours are floating-point operations over an assumed rate. A row costs, for one forward pass through the encoder,
2 x weights + 4 x layers x hidden x length operations a token; a training step is three passes, and one more where the teacher
runs. Every row counts as long as `max_length`, although batches are padded to their longest row, and every student as large as
its base, so the number is an upper one, at the assumed rate.

Disk is what stays under results/: the bases, and of each model the weights of its stage, of its recovery, of its folder and of
its ONNX file, and a quarter more where an int8 file is written, all as large as the base. work/ needs what a training run saves
besides: weights and two moments of each.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from espalier.config import Config, parse
from espalier.config.benchmarks.xglue import XGLUE
from espalier.config.chains import runs_on
from espalier.config.training import Plan

RATE = 40e12
"""Operations a second of one GPU in bf16: assumed, an eighth of an A100's peak, for batches of 32 short rows."""
WEIGHTS, LAYERS, HIDDEN = 84_934_656, 12, 768
"""Weights of the matrices of both bases' encoders, and their shape."""
BASE_GB = {"google-bert/bert-base-uncased": 0.44, "FacebookAI/xlm-roberta-base": 1.11}
"""Weights in fp32."""
GLUE_ROWS = {
    "cola": (8_551, 1_043),
    "sst2": (67_349, 872),
    "mrpc": (3_668, 408),
    "stsb": (5_749, 1_500),
    "qqp": (363_846, 40_430),
    "mnli": (392_702, 19_647),
    "qnli": (104_743, 5_463),
    "rte": (2_490, 277),
    "squad": (87_599, 10_570),
}
"""Training and evaluation rows of the official data sets; windows of SQuAD are a few more than its questions."""


@dataclass(frozen=True)
class Cost:
    """Sums over a study."""

    hours: float
    gigabytes: float
    jobs: int
    """Training jobs."""


def rows_of(config: Config, task: str) -> tuple[int, int]:
    """Training and evaluation rows of a task."""
    block = config.tasks[task]
    if task in XGLUE:
        counts = XGLUE[task]["counts"]
        return counts["train"], sum(counts[name] for name in block.evaluation_sets)
    return GLUE_ROWS.get(task, (block.rows or 0, block.evaluation_rows or 0))


def cost_of(config: Config) -> Cost:
    """Hours of one GPU, gigabytes and training jobs of a whole study."""
    operations, gigabytes, jobs = 0.0, 0.0, 0
    int8 = any(name.endswith("int8") for name in config.deploy.formats)
    for base in config.bases.values():
        size = BASE_GB[base.id]
        gigabytes += size
        for task, block in config.tasks.items():
            train, evaluated = rows_of(config, task)
            row = block.max_length * (2 * WEIGHTS + 4 * block.max_length * HIDDEN * LAYERS)
            passes, models = 0.0, 1
            if block.rules.labelled:
                teacher = config.teacher_for(task)
                often = teacher.epochs / teacher.evaluate_every if teacher.evaluate_every else 1.0
                passes += 3 * teacher.epochs * train + (often + 1) * evaluated
                jobs += len(config.seeds)
            for name in config.plans:
                if runs_on(config, name, task):
                    plan = config.plan_for(name, task)
                    passes += _passes(plan, train, evaluated)
                    models += len(plan.path) * (4 if plan.recover.epochs else 3) / 3
                    jobs += len(config.seeds) * len(plan.path) * (2 if plan.recover.epochs else 1)
            operations += len(config.seeds) * passes * row
            gigabytes += len(config.seeds) * models * size * (3.25 if int8 else 3.0)
    return Cost(operations / RATE / 3600, gigabytes, jobs)


def _passes(plan: Plan, train: int, evaluated: int) -> float:
    """Forward passes of all targets of a plan, in rows; a backward pass is two."""
    passes = 0.0
    for stage in range(len(plan.path)):
        first = not (stage and plan.chain)
        epochs = sum(plan.parts(first_stage=first)) + plan.recover.epochs
        often = epochs / plan.evaluate_every if plan.evaluate_every else 1.0
        passes += (4 if plan.distils else 3) * epochs * train + (often + 1) * evaluated
    return passes


def sentence(cost: Cost) -> str:
    """The cost in words, as the studies' pages have it."""
    hours = f"{cost.hours:,.0f}" if cost.hours < 100 else f"{round(cost.hours, -1):,.0f}"
    return (
        f"Expected, not measured: up to {hours} GPU hours in {cost.jobs:,} training jobs at an assumed "
        f"{RATE / 1e12:.0f} TFLOP/s, and {cost.gigabytes:,.0f} GB of results (`python -m benchmarks.preset_cost`)."
    )


def main(files: list[str]) -> None:
    """Print the costs of studies."""
    for file in files:
        print(f"{file}: {sentence(cost_of(parse(yaml.safe_load(Path(file).read_text()))))}")


if __name__ == "__main__":
    main(sys.argv[1:])
