"""Fit a linear model on words and characters to a task's rows, score it, and time it from text to answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from espalier.config.data import MEAN
from espalier.config.job_specs import LinearSpec
from espalier.evaluation.cost import latencies_ms
from espalier.evaluation.linear import LinearModel, PreparedRows
from espalier.evaluation.predict import with_mean
from espalier.runtime.files import write_json


def run(spec: str, *, train: Path, evaluation: Path, task: Path, linear: Path) -> None:
    """Write linear.json: scores on every evaluation set, the size of a file with the model, and latencies.

    `set` is the evaluation set that gives the score of the task. The model itself is not written: it is a rival to compare
    with. Its latency is that of whole texts, those of the evaluation rows in their order, while an encoder is timed from token
    ids on.
    """
    wanted = LinearSpec.model_validate_json(spec)
    rows = PreparedRows.read(task, train, evaluation)
    model = rows.fit()

    latency: dict[str, dict[str, float]] = {}
    for size in wanted.batch_sizes:
        latency |= latencies_ms({str(size): _caller(model, rows, size)}, wanted.repeats)

    write_json(
        linear,
        {
            "inverse_strength": model.inverse_strength,
            "params_total": model.parameters,
            "size_mib": model.stored_bytes / 2**20,
            "repeats": wanted.repeats,
            "latency_ms": latency,
            "set": MEAN if rows.card.get("mean") else rows.card["sets"][0],
            "sets": with_mean(rows.scores(model), rows.card.get("mean")),
        },
    )


def _caller(model: LinearModel, rows: PreparedRows, size: int) -> Callable[[], object]:
    """A function that answers the next so many rows with each call."""
    batches = rows.batches(size)
    return lambda: model.predict(next(batches))
