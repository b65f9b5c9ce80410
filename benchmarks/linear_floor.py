"""What a linear model makes of a prepared task: `python -m benchmarks.linear_floor results/demo/prepared/docs-order/task.json`.

Trains on the task's training rows, which are those that the teacher is trained on, and prints its scores on each evaluation
set. Prints; asserts nothing.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from espalier.evaluation.linear import PreparedRows
from espalier.runtime.errors import UserError


def lines_of(task: Path) -> list[str]:
    """Lines to print: the model, then each evaluation set and metric."""
    began = time.perf_counter()
    try:
        rows = PreparedRows.read(task, task.with_name("train.parquet"), task.with_name("evaluation.parquet"))
    except UserError as error:
        raise SystemExit(str(error)) from None

    model = rows.fit()
    found = rows.scores(model)
    lines = [f"{task}: C {model.inverse_strength:g}, {time.perf_counter() - began:.0f} s"]
    for name, scores in found.items():
        lines += [f"  {name}: {metric} {score:.3f}" for metric, score in scores.items()]
    return lines


def main(paths: list[str]) -> None:
    """Print the floor of each prepared task."""
    if not paths:
        raise SystemExit("usage: python -m benchmarks.linear_floor results/PROJECT/prepared/TASK/task.json ...")
    for path in paths:
        print("\n".join(lines_of(Path(path))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
