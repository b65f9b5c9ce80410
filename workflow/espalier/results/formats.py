"""One row for each model, folder and format: the table that choices are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from espalier.config.project import LINEAR, TEACHER, Measure
from espalier.results.places import Place, files_by_place, place_of, read_fields
from espalier.runtime.errors import UserError
from espalier.runtime.files import digits

FormatRow = dict[str, Any]
"""A row of deploy.csv; its keys are `format_columns`."""
FORMAT_NAMES = ("base", "task", "plan", "percent", "folder", "format", "metric", "set", "passed")
"""Columns of text."""
LINEAR_FORMAT = "scikit-learn"
"""What stands for a format in the row of a linear model."""
_SAID = (
    *("base", "task", "plan", "seed", "percent", "folder", "format", "score", "metric", "set"),
    *("drop", "agreement", "passed", "size_mib", "total_mib", "encoder_sparsity"),
)
_TIMED = {"ms": "median", "p95": "p95"}
"""First part of a column's name → the number that it holds of a latency."""
_RATIOS = ("speedup", "same_runtime_speedup")


def timed_batches(measure: Measure) -> list[str]:
    """The kinds of batches that are timed, as columns name them: batch size, and length or `rows`."""
    return [f"b{size}_l{length}" for size in measure.batch_sizes for length in (measure.length, "rows")]


def batch_words(kind: str) -> str:
    """A kind of batch in words: `b32_lrows` → `batch 32, own rows`; `b1_l64` → `batch 1, 64 tokens`."""
    batch, length = kind.split("_")
    return f"batch {batch[1:]}, {'own rows' if length == 'lrows' else f'{length[1:]} tokens'}"


def format_columns(measure: Measure) -> list[str]:
    """Columns of deploy.csv, in order."""
    return [*_SAID, *(f"{name}_{kind}" for kind in timed_batches(measure) for name in (*_TIMED, *_RATIOS))]


def gather_formats(
    deployments: Sequence[Path], costs: Sequence[Path], linear: Sequence[Path], max_drop: float, measure: Measure
) -> list[FormatRow]:
    """Rows of all models in all formats, and of linear models behind the teachers of their task, in table order.

    Args:
        deployments: what `deploy` wrote, named by folders: …/{percent}/deploy/{folder}.json.
        costs: cost.json of every model.
        linear: linear.json of every task that has one, in a folder with the task's name.
        max_drop: largest loss of score with which a format passes.
        measure: what was timed.

    Raises:
        UserError: the cost of a model is missing.
    """
    sparsity = {place: read_fields(path, ("sparsity_encoder",)) for place, path in files_by_place(costs).items()}
    needed = ("metric", "set", "formats")
    contents = [(place_of(path.parent), path.stem, read_fields(path, needed)) for path in deployments]

    rows: list[FormatRow] = []
    for place, folder, content in sorted(contents, key=lambda item: (item[0].order, item[1])):
        if place not in sparsity:
            raise UserError(f"{place}: its cost.json was not given")
        said = _named(place, folder) | {"metric": content["metric"], "set": content["set"]}
        said["encoder_sparsity"] = digits(sparsity[place]["sparsity_encoder"])
        rows += [said | {"format": name} | _numbers(values, max_drop) for name, values in content["formats"].items()]

    complete = [dict.fromkeys(format_columns(measure)) | row for row in rows]
    return _with_linear(complete, {path.parent.name: read_fields(path, _OF_LINEAR) for path in linear}, measure)


def _named(place: Place, folder: str) -> FormatRow:
    return {**place._asdict(), "folder": folder}


def _numbers(values: Mapping[str, Any], max_drop: float) -> FormatRow:
    """The columns of one format."""
    row: FormatRow = {key: digits(values[key]) for key in ("score", "drop", "agreement", "size_mib", "total_mib")}
    row["passed"] = "yes" if passes(values["drop"], max_drop) else "no"

    for kind, times in values["latency_ms"].items():
        row |= {f"{column}_{kind}": digits(times[name]) for column, name in _TIMED.items()}
        row |= {f"{column}_{kind}": digits(values[column][kind]) for column in _RATIOS}
    return row


def passes(drop: float, max_drop: float) -> bool:
    """Whether a format loses no more than it may; differences of scores carry rounding errors of some 1e-16."""
    return round(drop, 9) <= max_drop


_OF_LINEAR = ("size_mib", "latency_ms", "set", "sets")


def _with_linear(rows: list[FormatRow], models: Mapping[str, Mapping[str, Any]], measure: Measure) -> list[FormatRow]:
    """The rows, and behind the teachers of each base and task the task's linear model."""
    joined: list[FormatRow] = []
    for base, task in dict.fromkeys((row["base"], row["task"]) for row in rows):
        own = [row for row in rows if (row["base"], row["task"]) == (base, task)]
        teachers = [row for row in own if row["plan"] == TEACHER]
        joined += teachers
        if task in models:
            joined.append(dict.fromkeys(format_columns(measure)) | _linear(models[task], teachers))
        joined += [row for row in own if row["plan"] != TEACHER]
    return joined


def _linear(model: Mapping[str, Any], teachers: Sequence[FormatRow]) -> FormatRow:
    """The row of a linear model. It depends on no seed, has no other format to be compared with, and reads whole texts."""
    first = teachers[0]
    row = {key: first[key] for key in ("base", "task", "seed", "metric", "set")}
    row |= {"plan": LINEAR, "percent": "0", "format": LINEAR_FORMAT, "passed": "yes"}
    row["score"] = digits(model["sets"][first["set"]][first["metric"]])
    row["size_mib"] = row["total_mib"] = digits(model["size_mib"])

    for size, times in model["latency_ms"].items():
        kind = f"b{size}_lrows"
        row |= {f"{column}_{kind}": digits(times[name]) for column, name in _TIMED.items()}
        # what the dense model takes in PyTorch, the denominator of its own speed-ups: any of its rows has both
        if eager := [teacher[f"ms_{kind}"] * teacher[f"speedup_{kind}"] for teacher in teachers]:
            row[f"speedup_{kind}"] = digits(fmean(eager) / times["median"])
    return row


def read_formats(path: Path) -> pd.DataFrame:
    """deploy.csv; names stay text, even names such as `1` or `nan`, which pandas would read as numbers or as missing.

    Columns of text have an empty text where nothing stands, other columns not-a-number.
    """
    table = pd.read_csv(path, dtype=dict.fromkeys(FORMAT_NAMES, str), keep_default_na=False, na_values=[""])
    return table.fillna(dict.fromkeys(FORMAT_NAMES, ""))
