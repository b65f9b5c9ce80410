"""Write a model in every format, score each in its own runtime on every evaluation set, and time it beside the dense model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from espalier.config.deployment.formats import FORMATS, Format
from espalier.config.deployment.specs import DeploySpec
from espalier.deployment.conversion import write_format
from espalier.deployment.files import served_files
from espalier.deployment.rows import model_vocabulary, rows_for, single_rows
from espalier.deployment.runtimes import TokenArrays, need_packages, open_format
from espalier.deployment.scoring import scored
from espalier.deployment.timing import Batches, Runners, own_batches, times_of
from espalier.evaluation.cost import size_mib
from espalier.evaluation.predict import with_mean
from espalier.kinds.base import task_kind
from espalier.runtime.files import read_json, write_json

CALIBRATION_ROWS = 300
"""Training rows on which the ranges of activations are measured; NNCF's own number."""
TIMED_ROWS = 512
"""Evaluation rows, drawn at random, that are timed as they are."""


def run(
    spec: str,
    *,
    model: list[Path],
    dense: list[Path],
    rows: list[Path],
    scores: Path,
    predictions: Path,
    deployment: Path,
    converted: list[Path],
) -> None:
    """Write the formats of a model's folder, and a JSON file with scores, agreement, sizes and latencies of each.

    Args:
        spec: a `DeploySpec` as JSON.
        model: all files of the folder, config.json among them.
        dense: all files of the dense model's folder, in the same formats; empty where the model is the dense one.
        rows: training and evaluation rows of the task, in words; packed ones for text.
        scores: scores.json of the model in PyTorch and fp32, to compare with.
        predictions: predictions.parquet of the same.
        deployment: where the JSON file goes.
        converted: the files that are written into the model's folder.
    """
    wanted = DeploySpec.model_validate_json(spec)
    for format in wanted.formats:
        need_packages(format)

    folder, (train, evaluation) = _folder_of(model), rows
    _convert(wanted, folder, train)

    reference = read_json(scores)
    result = _scores(wanted, folder, evaluation, reference, pd.read_parquet(predictions))
    times = _times(wanted, folder, _folder_of(dense) if dense else None, evaluation)
    formats = {format: result[format] | _sizes(folder, format) | times[format] for format in wanted.formats}

    conditions = {"device": "cpu", "threads": torch.get_num_threads(), "repeats": wanted.measure.repeats}
    known = {name: reference[name] for name in ("score", "metric", "set")}
    write_json(deployment, {**known, **conditions, "length": wanted.measure.length, "formats": formats})


def _convert(wanted: DeploySpec, folder: Path, train: Path) -> None:
    """Write all formats into the folder; training rows are read only where a format is calibrated on them."""
    calibration: list[TokenArrays] = []
    if any(FORMATS[format].calibrated for format in wanted.formats):
        calibration = single_rows(rows_for(folder, wanted.rows, train, CALIBRATION_ROWS), CALIBRATION_ROWS)

    for format in wanted.formats:
        write_format(folder, format, calibration, wanted.embeddings, wanted.weight_bits)


def _folder_of(files: list[Path]) -> Path:
    """The folder of a model, some of whose files lie in folders of their own."""
    return next(file.parent for file in files if file.name == "config.json")


def _scores(
    wanted: DeploySpec, folder: Path, evaluation: Path, reference: dict[str, Any], predictions: pd.DataFrame
) -> dict[Format, dict[str, Any]]:
    """Scores of every format, what it loses against fp32 in PyTorch, and how often both predict the same."""
    kind, rows = wanted.rows.kind, rows_for(folder, wanted.rows, evaluation)

    result = {}
    for format in wanted.formats:
        alone, own = scored(open_format(folder, format, kind), kind, rows, wanted.metrics)
        sets = with_mean(alone, reference.get("mean"))
        score = sets[reference["set"]][reference["metric"]]
        agreement = task_kind(kind).agreement(own, predictions)
        result[format] = {"score": score, "drop": reference["score"] - score, "agreement": agreement, "sets": sets}
    return result


def _sizes(folder: Path, format: Format) -> dict[str, float]:
    """MiB of the weights, and of all files that one needs who serves the model in this format."""
    weights = sum(size_mib(folder / name) for name in FORMATS[format].weights)
    return {"size_mib": weights, "total_mib": sum(size_mib(path) for path in served_files(folder, format))}


def _times(wanted: DeploySpec, folder: Path, dense: Path | None, evaluation: Path) -> dict[Format, dict[str, Any]]:
    """Latencies of every format, beside the dense model's in PyTorch and in the same format."""

    def model(of: Path, formats: tuple[Format, ...]) -> tuple[Runners, Batches]:
        rows = rows_for(of, wanted.rows, evaluation, TIMED_ROWS)
        batches = own_batches(rows, model_vocabulary(of), wanted.measure.batch_sizes, wanted.measure.length)
        return {format: open_format(of, format, wanted.rows.kind) for format in formats}, batches

    # PyTorch is what all are compared with, be it wanted or not
    with_torch: tuple[Format, ...] = tuple(dict.fromkeys(("torch", *wanted.formats)))
    if dense is None:
        return times_of(model(folder, with_torch), None, wanted.measure.repeats)
    return times_of(model(folder, wanted.formats), model(dense, with_torch), wanted.measure.repeats)
