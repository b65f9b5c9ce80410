"""deploy.csv: one row for each model, folder and format, the guard, the linear model's row; its sections in card and report."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from espalier.config.deployment.specs import GatherSpec
from espalier.config.project import Measure
from espalier.report.card import render
from espalier.results.formats import batch_words, format_columns, passes, read_formats
from espalier.runtime.errors import UserError
from espalier.stages.results import gather
from tests.unit.test_card import FACTS, SPEC, rows

MEASURE = Measure(batch_sizes=(1, 32), length=64, repeats=3)
KINDS = ("b1_l64", "b1_lrows", "b32_l64", "b32_lrows")
BEGIN = (
    *("base", "task", "plan", "seed", "percent", "folder", "format", "score", "metric", "set", "drop", "agreement", "passed"),
    *("size_mib", "total_mib", "encoder_sparsity"),
)


def timed(score: float, drop: float, ms: float) -> dict:
    """What `deploy` says of one format; the dense model takes 8 ms in PyTorch and 4 ms in the same format."""
    return {
        **{"score": score, "drop": drop, "agreement": 0.99, "sets": {}, "size_mib": 5.0, "total_mib": 6.0},
        "latency_ms": {kind: {"median": ms, "p95": 2 * ms} for kind in KINDS},
        "speedup": dict.fromkeys(KINDS, 8.0 / ms),
        "same_runtime_speedup": dict.fromkeys(KINDS, 4.0 / ms),
    }


def write(path: Path, content: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def study(root: Path, worst: float = 0.02) -> dict[str, list[Path]]:
    """Two seeds of a teacher and a student; with the second seed, the student's int8 loses `worst`."""
    files: dict[str, list[Path]] = {"deployments": [], "costs": []}
    for seed in (1, 2):
        for plan, percent, sparsity in (("teacher", "0", 0.0), ("cofi", "60", 0.6)):
            place = root / f"base/task/seed{seed}/{plan}/{percent}"
            drop = worst if (seed, plan) == (2, "cofi") else 0.002
            formats = {"torch": timed(0.9, 0.0, 8.0), "onnx-int8": timed(0.9 - drop, drop, 2.0)}
            content = {"metric": "accuracy", "set": "validation", "formats": formats}
            files["deployments"].append(write(place / "deploy/compact.json", content))
            files["costs"].append(write(place / "cost.json", {"sparsity_encoder": sparsity}))
    times = {str(size): {"median": 0.5, "p95": 0.75} for size in (1, 32)}
    linear = {"size_mib": 1.5, "latency_ms": times, "set": "validation", "sets": {"validation": {"accuracy": 0.7}}}
    return files | {"linear": [write(root / "prepared/task/linear.json", linear)]}


def gathered(root: Path, max_drop: float = 0.01, **changes) -> pd.DataFrame:
    spec = GatherSpec(max_drop=max_drop, measure=MEASURE).model_dump_json()
    gather.run(spec, **{**study(root), **changes}, table=root / "deploy.csv")
    return read_formats(root / "deploy.csv")


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> pd.DataFrame:
    return gathered(tmp_path_factory.mktemp("study"))


def test_columns_are_those_that_choices_are_made_from(table):
    timing = ("ms_", "p95_", "speedup_", "same_runtime_speedup_")
    expected = [*BEGIN, *(name + kind for kind in KINDS for name in timing)]
    assert list(table.columns) == expected == format_columns(MEASURE)


def test_a_row_a_model_and_format_teachers_first_then_the_linear_model(table):
    keys = list(zip(table["plan"], table["seed"], table["format"], strict=True))
    assert keys == [
        *[("teacher", seed, name) for seed in (1, 2) for name in ("torch", "onnx-int8")],
        ("linear", 1, "scikit-learn"),
        *[("cofi", seed, name) for seed in (1, 2) for name in ("torch", "onnx-int8")],
    ]
    row = table.iloc[-1]
    assert (row["base"], row["task"], row["percent"], row["folder"]) == ("base", "task", "60", "compact")
    assert row["encoder_sparsity"] == 0.6 and row["ms_b32_lrows"] == 2.0 and row["p95_b32_lrows"] == 4.0
    assert row["speedup_b1_l64"] == 4.0 and row["same_runtime_speedup_b1_l64"] == 2.0


def test_a_format_that_loses_too_much_is_marked(table, tmp_path):
    marks = table.set_index(["plan", "seed", "format"])["passed"]
    assert marks["cofi", 2, "onnx-int8"] == "no"
    assert (marks.drop(("cofi", 2, "onnx-int8")) == "yes").all()
    assert (gathered(tmp_path, max_drop=0.02)["passed"] == "yes").all()


@pytest.mark.parametrize(("drop", "passed"), [(0.6 - 0.59, True), (-0.3, True), (0.0, True), (0.0101, False)])
def test_the_guard_knows_rounding_errors(drop, passed):
    assert 0.6 - 0.59 > 0.01 and passes(drop, 0.01) == passed


def test_the_linear_model_is_compared_with_the_dense_one_in_pytorch_on_own_rows(table):
    row = table[table["plan"] == "linear"].iloc[0]
    assert (row["score"], row["size_mib"], row["total_mib"], row["passed"]) == (0.7, 1.5, 1.5, "yes")
    assert row["ms_b1_lrows"] == 0.5 and row["p95_b1_lrows"] == 0.75 and row["speedup_b1_lrows"] == 8.0 / 0.5
    assert row[["drop", "agreement", "ms_b1_l64", "same_runtime_speedup_b1_lrows"]].isna().all() and row["folder"] == ""


def test_a_study_without_linear_models_has_no_such_row(tmp_path):
    assert "linear" not in set(gathered(tmp_path, linear=[])["plan"])


def test_a_missing_cost_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"base/task/seed2/teacher/0: its cost.json was not given"):
        gathered(tmp_path, costs=study(tmp_path)["costs"][:1])


def test_batches_in_words():
    assert batch_words("b32_lrows") == "batch 32, own rows" and batch_words("b1_l64") == "batch 1, 64 tokens"


def test_the_card_lists_every_format_and_says_which_failed(tmp_path):
    content = json.loads(study(tmp_path)["deployments"][-1].read_text())
    text = render(SPEC, FACTS._replace(deployment=content))
    header, *lines = rows(text, "Formats")
    assert header[:7] == ["format", "file", "MiB", "matthews", "loses", "agrees", "passes"]
    assert header[7:] == [f"{batch_words(kind)}, ms" for kind in KINDS]
    assert [line[0] for line in lines] == ["torch", "onnx-int8"] and [line[6] for line in lines] == ["yes", "no, it failed"]
    assert lines[1][1:6] == ["`onnx/model_int8.onnx`", "6.0", "0.8800", "0.0200", "0.9900"] and lines[1][7] == "2.00"
    assert "## Formats" not in render(SPEC, FACTS)
    allowed = render(SPEC.model_copy(update={"max_drop": 0.05}), FACTS._replace(deployment=content))
    assert [line[6] for line in rows(allowed, "Formats")[1:]] == ["yes", "yes"]
