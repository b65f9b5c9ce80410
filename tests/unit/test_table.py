"""table: columns, order, values and means, on a small invented project."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from espalier.results.places import Place, place_of
from espalier.results.summary import groups
from espalier.results.table import COLUMNS, read_results
from espalier.runtime.errors import UserError
from espalier.stages.results import table

PLANS = {"dense": "dense", "magnitude": "magnitude", "sdp-cc": "sdp"}
BEFORE = {f"tiny/{plan}/97.5": f"tiny/{plan}/50" for plan in ("magnitude", "sdp-cc")}
SPEC = json.dumps({"project": "p", "methods": PLANS, "before": BEFORE})
SCORES = {
    "teacher": {"0": 0.9},
    "dense": {"0": 0.89},
    "magnitude": {"50": 0.85, "97.5": 0.4},
    "sdp-cc": {"50": 0.88, "97.5": 0.6},
}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pd.DataFrame(content).to_parquet(path, index=False)
    else:
        path.write_text(json.dumps(content))


def linear(score: float) -> dict[str, Any]:
    times = {"1": {"median": 0.5, "p95": 0.6}, "32": {"median": 4.0, "p95": 4.4}}
    scores = {"set": "validation", "sets": {"validation": {"accuracy": score}}}
    return {"params_total": 700, "size_mib": 0.0123, "latency_ms": times, **scores}


def record(stage: str, seed: int, seconds: float) -> dict[str, Any]:
    return {
        "stage": stage,
        "spec": {},
        "spec_sha256": "a" * 64,
        "code_sha256": "b" * 64,
        "seed": seed,
        "inputs": {"results/p/base/model.safetensors": "c" * 64},
        "versions": {"python": "3.11.7", "torch": "2.11.0"},
        "device": "cpu",
        "precision": "bf16",
        "threads": 2,
        "train_seconds": seconds,
        "samples_per_second": 1000 / seconds,
        "steps": 40,
        "resumed_at": [],
        "selected": {"checkpoint": "last", "set": None, "step": 40},
        "git_commit": "d" * 40,
        "finished": "2026-01-01T00:00:00+00:00",
    }


def cost(sparsity: float) -> dict[str, Any]:
    return {
        "params_total": 1000,
        "params_encoder": 600,
        "params_nonzero": 1000 - int(600 * sparsity),
        "sparsity_encoder": sparsity,
        "sparsity_total": 0.6 * sparsity,
        "size_mib": 86.123456789,
        "macs": 123456789012,
        "length": 128,
        "device": "cpu",
        "precision": "fp32",
        "threads": 2,
        "latency_ms": {"1": {"median": 10.0, "q25": 9.0, "q75": 11.0}},
        "dense_latency_ms": {"1": {"median": 10.2, "q25": 9.0, "q75": 11.0}},
        "speedup": {"1": 1.02},
        "onnx": {
            "latency_ms": {"1": {"median": 5.0, "q25": 4.0, "q75": 6.0}},
            "dense_latency_ms": {"1": {"median": 5.2, "q25": 4.0, "q75": 6.0}},
            "speedup": {"1": 1.04},
            "size_mib": 86.0,
        },
    }


def history(terms: list[str], start: float) -> list[dict[str, Any]]:
    rows = [
        {"step": step, "epoch": step / 20, "loss": 1.0} | {f"loss/{term}": start / (1 + step) for term in terms}
        for step in range(0, 40, 10)
    ]
    return [*rows, {"step": 40, "epoch": 2.0, "validation/accuracy": 0.5, "validation/loss": 0.7}]


def project(
    folder: Path, seeds: tuple[int, ...] = (1, 10, 2), recovered: bool = True, task: str = "tiny", scores: Any = SCORES
) -> Path:
    """A results tree of one base and one task; recovery of every student but the dense one."""
    root = folder / "results" / "p"
    write(
        root / "prepared" / task / "task.json",
        {"name": task, "kind": "classification", "classes": ["a", "b"], "majority": {"validation": 0.55}},
    )
    for seed in seeds:
        for plan, targets in scores.items():
            for percent, score in targets.items():
                student = root / "base" / task / f"seed{seed}" / plan / percent
                sets = {"validation": {"rows": 100, "loss": 0.5, "accuracy": score + seed / 1000}}
                score_file = {"score": score + seed / 1000, "metric": "accuracy", "set": "validation", "sets": sets}
                write(student / "scores.json", score_file)
                write(student / "cost.json", cost(float(percent) / 100))
                write(student / "run.json", record("finetune" if plan == "teacher" else "compress", seed, 100.0))
                write(student / "history.parquet", history(["task", plan], float(seed)))
                if recovered and percent != "0":
                    write(student / "recovered" / "run.json", record("recover", seed, 7.0))
                    write(student / "recovered" / "history.parquet", history(["task"], 0.5))
    return root


def found(root: Path, name: str) -> list[Path]:
    return sorted(root.rglob(name), reverse=True)


def make_table(root: Path, spec: str = SPEC) -> list[dict[str, str]]:
    paths = {"scores": found(root, "scores.json"), "costs": found(root, "cost.json"), "records": found(root, "run.json")}
    table.run(spec, **paths, linear=found(root, "linear.json"), table=root / "table.csv", metrics=root / "metrics.json")
    with (root / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def three_seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    root = project(tmp_path_factory.mktemp("three"))
    return root, make_table(root)


def test_columns_are_those_of_the_architecture(three_seeds):
    _, rows = three_seeds
    text = (
        "base, task, plan, method, seed, target, stage, start, sparsity_encoder, sparsity_total, sparsity_relative, "
        "params_total, params_encoder, params_nonzero, size_mib, macs, metric, score, teacher_score, updates, latency_b1_ms, "
        "latency_b32_ms, speedup_b1, speedup_b32, onnx_latency_b1_ms, onnx_latency_b32_ms, onnx_speedup_b1, "
        "onnx_speedup_b32, train_seconds, samples_per_second, unlabelled_rows"
    )
    assert list(rows[0]) == list(COLUMNS) == text.split(", ")


def test_rows_are_sorted_with_the_teacher_first_and_seeds_as_numbers(three_seeds):
    _, rows = three_seeds
    order = [(row["plan"], row["target"], row["seed"]) for row in rows]
    plans = [("teacher", "0.0"), ("dense", "0.0"), ("magnitude", "0.5"), ("magnitude", "0.975"), ("sdp-cc", "0.5")]
    assert order == [(*plan, seed) for plan in [*plans, ("sdp-cc", "0.975")] for seed in ("1", "2", "10")]


def test_values_of_one_student(three_seeds):
    _, rows = three_seeds
    row = next(row for row in rows if (row["plan"], row["target"], row["seed"]) == ("sdp-cc", "0.975", "2"))
    assert (row["method"], row["metric"]) == ("sdp", "accuracy")
    assert (row["score"], row["teacher_score"]) == ("0.602", "0.902")
    assert (row["sparsity_encoder"], row["sparsity_total"], row["params_nonzero"]) == ("0.975", "0.585", "415")
    assert (row["size_mib"], row["macs"]) == ("86.1235", "123456789012")
    assert (row["latency_b1_ms"], row["speedup_b1"]) == ("10.0", "1.02")
    assert (row["onnx_latency_b1_ms"], row["onnx_speedup_b1"]) == ("5.0", "1.04")
    assert {row[f"{name}_b32{unit}"] for name, unit in (("latency", "_ms"), ("speedup", ""))} == {""}
    assert {row[f"onnx_{name}_b32{unit}"] for name, unit in (("latency", "_ms"), ("speedup", ""))} == {""}
    assert row["samples_per_second"] == "10.0"


@pytest.mark.parametrize(
    ("plan", "target", "seconds"),
    [("teacher", "0.0", 100.0), ("dense", "0.0", 100.0), ("sdp-cc", "0.5", 107.0), ("sdp-cc", "0.975", 207.0)],
)
def test_train_seconds_count_the_path_and_the_own_recovery(three_seeds, plan, target, seconds):
    _, rows = three_seeds
    assert {float(row["train_seconds"]) for row in rows if (row["plan"], row["target"]) == (plan, target)} == {seconds}


@pytest.mark.parametrize(
    ("plan", "target", "updates"),
    [("teacher", "0.0", "40"), ("dense", "0.0", "40"), ("sdp-cc", "0.5", "80"), ("sdp-cc", "0.975", "120")],
)
def test_updates_are_those_of_all_training_that_led_to_a_student_the_teacher_s_left_out(three_seeds, plan, target, updates):
    _, rows = three_seeds
    assert {row["updates"] for row in rows if (row["plan"], row["target"]) == (plan, target)} == {updates}


def test_a_plan_without_a_chain_counts_each_target_by_itself(tmp_path):
    root = project(tmp_path, seeds=(7,))
    rows = make_table(root, json.dumps({"project": "p", "methods": PLANS, "before": {"tiny/sdp-cc/97.5": "tiny/sdp-cc/50"}}))
    counted = {(row["plan"], row["stage"]): (row["updates"], float(row["train_seconds"])) for row in rows}
    assert counted["magnitude", "97.5"] == counted["magnitude", "50"] == ("80", 107.0), "its own stage and recovery"
    assert counted["sdp-cc", "97.5"] == ("120", 207.0)


def test_metrics_are_means_over_seeds(three_seeds):
    root, _ = three_seeds
    leaf = json.loads((root / "metrics.json").read_text())["base"]["tiny"]["sdp-cc"]["97.5"]
    assert leaf["score"] == {"mean": 0.604333, "sd": 0.00493288, "n": 3}
    assert leaf["train_seconds"] == {"mean": 207, "sd": 0.0, "n": 3}
    assert leaf["updates"] == {"mean": 120, "sd": 0.0, "n": 3}
    assert leaf["macs"] == {"mean": 123456789012, "sd": 0.0, "n": 3}
    assert "latency_b32_ms" not in leaf


def test_one_seed_has_no_spread_and_a_plan_may_have_no_recovery(tmp_path):
    root = project(tmp_path, seeds=(7,), recovered=False)
    rows = make_table(root)
    assert [float(row["train_seconds"]) for row in rows if row["plan"] == "sdp-cc"] == [100.0, 200.0]
    assert json.loads((root / "metrics.json").read_text())["base"]["tiny"]["teacher"]["0"]["score"] == {
        "mean": 0.907,
        "sd": None,
        "n": 1,
    }


def test_names_that_look_like_numbers_stay_names(tmp_path):
    root = project(tmp_path, seeds=(7,), task="007")
    make_table(root)
    assert list(json.loads((root / "metrics.json").read_text())["base"]) == ["007"]


def test_a_plan_that_started_from_another_s_student(tmp_path):
    """cofi goes on from what sdp-cc reached at 50 %; each of magnitude's students starts from that of the same target."""
    starts = {f"tiny/dense/{percent}": "tiny/sdp-cc/50" for percent in ("80", "90")}
    starts |= {f"tiny/magnitude/{percent}": f"tiny/sdp-cc/{percent}" for percent in ("50", "97.5")}
    before = starts | {"tiny/dense/90": "tiny/dense/80", "tiny/sdp-cc/97.5": "tiny/sdp-cc/50"}
    scores = SCORES | {"dense": {"80": 0.7, "90": 0.6}}
    root = project(tmp_path, seeds=(7,), scores=scores)
    spec = json.dumps({"project": "p", "methods": PLANS, "starts": starts, "before": before})
    found = {(row["plan"], row["stage"]): row for row in make_table(root, spec)}
    relative = {key: (row["start"], float(row["sparsity_relative"])) for key, row in found.items()}
    assert relative["dense", "80"] == ("tiny/sdp-cc/50", pytest.approx(0.6))  # 1 - 0.2 / 0.5
    assert relative["dense", "90"] == ("tiny/sdp-cc/50", pytest.approx(0.8))
    assert relative["magnitude", "97.5"] == ("tiny/sdp-cc/97.5", 0.0)
    assert relative["sdp-cc", "97.5"] == ("", 0.975) and relative["teacher", "0"] == ("", 0.0)
    seconds = {key: float(row["train_seconds"]) for key, row in found.items()}
    assert seconds["dense", "90"] == 100.0 + 2 * 100.0 + 7.0, "the start, two stages, the own recovery"
    assert seconds["magnitude", "50"] == 207.0 and seconds["magnitude", "97.5"] == 307.0, "its own stage after two of sdp-cc"
    updates = {key: row["updates"] for key, row in found.items()}
    assert updates["dense", "90"] == "160" and updates["magnitude", "97.5"] == "160"
    shown = {(group.plan, group.percent): group for group in groups(read_results(root / "table.csv"))}
    assert shown["dense", "80"].start == "tiny/sdp-cc/50" and shown["sdp-cc", "50"].start is None


def test_a_linear_model_has_one_row_beside_the_students_of_all_seeds(tmp_path):
    root = project(tmp_path, seeds=(1, 3))
    write(root / "prepared/tiny/linear.json", linear(0.7))
    rows = make_table(root)
    [row] = [row for row in rows if row["plan"] == "linear"]
    assert [each["plan"] for each in rows].index("linear") == 4, "after two teachers and two of dense: the order of names"
    assert (row["base"], row["task"], row["method"], row["seed"], row["stage"]) == ("base", "tiny", "linear", "1", "0")
    assert (row["score"], row["teacher_score"], row["metric"]) == ("0.7", "0.902", "accuracy"), "0.902 is the mean of two seeds"
    assert (row["params_total"], row["size_mib"]) == ("700", "0.0123")
    # the teachers take 10 ms and 5 ms at batch 1, and were not timed at batch 32
    assert (row["latency_b1_ms"], row["speedup_b1"], row["latency_b32_ms"]) == ("0.5", "20.0", "")
    assert (row["onnx_latency_b1_ms"], row["onnx_speedup_b1"], row["onnx_latency_b32_ms"]) == ("0.5", "10.0", "")
    assert {row[name] for name in ("target", "sparsity_encoder", "macs", "updates", "train_seconds")} == {""}

    leaf = json.loads((root / "metrics.json").read_text())["base"]["tiny"]["linear"]["0"]
    assert leaf["score"] == {"mean": 0.7, "sd": None, "n": 1} and "macs" not in leaf
    [group] = [group for group in groups(read_results(root / "table.csv")) if group.plan == "linear"]
    assert group.is_rival and group.label == "linear" and group.means["gain"].mean == pytest.approx(-0.202)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("seed7/sdp-cc/50/cost.json", "base/tiny/seed7/sdp-cc/50: its cost.json was not given"),
        ("seed7/sdp-cc/50/run.json", "base/tiny/seed7/sdp-cc/50: its run.json was not given"),
        ("seed7/teacher/0/scores.json", "base/tiny/seed7/teacher/0: its scores.json was not given"),
    ],
)
def test_a_missing_file_is_named(tmp_path, name, message):
    root = project(tmp_path, seeds=(7,))
    (root / "base" / "tiny" / name).unlink()
    with pytest.raises(UserError, match=message):
        make_table(root)
    assert not (root / "table.csv").exists()


def test_a_plan_without_method_is_named(tmp_path):
    root = project(tmp_path, seeds=(7,))
    with pytest.raises(UserError, match="plan 'sdp-cc' has no method; known plans: dense, magnitude"):
        make_table(root, json.dumps({"project": "p", "methods": {"dense": "dense", "magnitude": "magnitude"}}))


def test_place_is_read_from_the_end_of_a_path():
    path = Path("/tmp/seed9/teacher/0/results/p/base/a-task/seed42/plan/97.5/recovered/run.json")
    assert place_of(path) == Place("base", "a-task", 42, "plan", "97.5")
    with pytest.raises(UserError, match="must end in base/task/seed<number>/plan/percent"):
        place_of(Path("results/p/base/task/42/plan/50/run.json"))
