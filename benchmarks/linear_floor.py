"""What a linear model makes of a prepared task: `python -m benchmarks.linear_floor results/demo/prepared/docs-order/task.json`.

Trains on the task's training rows, which are those that the teacher is trained on, and prints its scores on each
evaluation set beside the most frequent class's (classification) or the training mean's (regression). Prints; asserts
nothing.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from espalier.evaluation import linear, metrics
from espalier.runtime.files import read_json

METRICS = {"classification": ("accuracy", "macro-f1", "matthews"), "regression": ("spearman", "pearson")}


def texts_of(table: dict[str, list]) -> list[tuple[str, ...]]:
    """Rows of the columns text_a and, for pairs, text_b."""
    return list(zip(*(table[name] for name in ("text_a", "text_b") if name in table), strict=True))


def measure(task: Path) -> list[str]:
    """Lines to print: the model, then each evaluation set and metric."""
    described = read_json(task)
    kind = described["kind"]
    if kind not in METRICS:
        raise SystemExit(f"{task}: a task of kind {kind} has no linear floor; those of kind {', '.join(METRICS)} have one")
    train = pq.read_table(task.with_name("train.parquet")).to_pydict()
    evaluation = pq.read_table(task.with_name("evaluation.parquet")).to_pydict()
    began = time.perf_counter()
    model = linear.fit(texts_of(train), train["label"], kind)
    predictions = model.predict(texts_of(evaluation))
    seconds = time.perf_counter() - began

    labels, sets = np.array(evaluation["label"]), np.array(evaluation["set"])
    constant = max(set(train["label"]), key=train["label"].count) if kind == "classification" else np.mean(train["label"])
    lines = [f"{described['name']}: {len(train['label']):,} training rows, C {model.inverse_strength:g}, {seconds:.0f} s"]
    for name in described["sets"]:
        own = sets == name
        for metric in METRICS[kind]:
            floor = metrics.score(metric, labels[own], predictions[own])
            simplest = metrics.score(metric, labels[own], np.full(own.sum(), constant))
            lines.append(f"  {name}, {own.sum():,} rows: {metric} {floor:.3f}; without reading the text {simplest:.3f}")
    return lines


def main(paths: list[str]) -> None:
    """Print the floor of each prepared task."""
    if not paths:
        raise SystemExit("usage: python -m benchmarks.linear_floor results/PROJECT/prepared/TASK/task.json ...")
    for path in paths:
        print("\n".join(measure(Path(path))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
