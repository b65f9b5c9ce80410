"""Which model is best under limits, what giving way buys, and which models no other beats: on tables made by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from espalier.results.choosing import (
    Limit,
    MeasuredBatch,
    best,
    dense_score,
    measured_timings,
    over_seeds,
    pareto,
    read_choices,
)
from espalier.runtime.errors import UserError

TIMING = MeasuredBatch(1, "rows")
MS = TIMING.column
ROWS = [
    # plan, percent, format, score, total MiB, milliseconds, passed
    ("teacher", "0", "torch", 0.90, 90.0, 40.0, "yes"),
    ("teacher", "0", "onnx-int8", 0.895, 23.0, 12.0, "yes"),
    ("linear", "0", "scikit-learn", 0.60, 0.5, 0.1, "yes"),
    ("cofi", "60", "torch", 0.88, 60.0, 20.0, "yes"),
    ("cofi", "60", "onnx-int8", 0.85, 15.0, 5.0, "no"),
    ("cofi", "80", "onnx-int8", 0.86, 12.0, 3.0, "yes"),
    ("cofi", "95", "onnx-int8", 0.80, 10.0, 1.0, "yes"),
    ("tiny", "0", "onnx", 0.80, 17.0, 1.5, "yes"),
]


def table(rows: list[tuple] = ROWS, seed: int = 1, **changes: Any) -> pd.DataFrame:
    """deploy.csv as `read_choices` gives it."""
    names = ("plan", "percent", "format", "score", "total_mib", MS, "passed")
    frame = pd.DataFrame(rows, columns=names)
    fixed = {"base": "minilm", "task": "mine", "folder": "compact", "metric": "accuracy", "set": "validation", "seed": seed}
    frame = frame.assign(**fixed, drop=0.0, agreement=1.0, size_mib=frame["total_mib"] - 1.0, encoder_sparsity=0.5)
    frame.loc[frame["plan"] == "linear", "folder"] = ""
    return frame.assign(**changes)


def named(model: pd.Series | None) -> str:
    return "none" if model is None else f"{model['plan']} {model['percent']} {model['format']}"


def asked(*limits: Limit, aim: str = "score", rows: pd.DataFrame | None = None):
    return best(over_seeds(table() if rows is None else rows), limits, aim, TIMING)


@pytest.mark.parametrize(
    ("limits", "aim", "first", "second"),
    [
        ([], "score", "teacher 0 torch", "teacher 0 onnx-int8"),
        ([Limit("total_mib", 20.0)], "score", "cofi 80 onnx-int8", "cofi 95 onnx-int8"),
        ([Limit("total_mib", 10.0)], "score", "cofi 95 onnx-int8", "none"),
        ([Limit("score", 0.80)], "size", "cofi 95 onnx-int8", "cofi 80 onnx-int8"),
        ([Limit("score", 0.85)], "latency", "cofi 80 onnx-int8", "teacher 0 onnx-int8"),
        ([Limit(MS, 2.0)], "score", "cofi 95 onnx-int8", "tiny 0 onnx"),
        ([Limit(MS, 4.0), Limit("total_mib", 11.0)], "score", "cofi 95 onnx-int8", "none"),
    ],
)
def test_the_best_model_keeps_all_limits_and_the_smaller_of_equals_counts(limits, aim, first, second):
    choice = asked(*limits, aim=aim)
    assert (named(choice.best), named(choice.runner_up)) == (first, second)


def test_what_failed_its_guard_and_what_is_no_file_is_never_offered():
    everything = table().assign(score=0.1)
    everything.loc[everything["passed"] == "no", "score"] = 0.99
    everything.loc[everything["plan"] == "linear", "score"] = 0.98
    assert named(asked(rows=everything).best) not in ("cofi 60 onnx-int8", "linear 0 scikit-learn")
    only = over_seeds(table([row for row in ROWS if row[-1] == "no" or row[0] == "linear"]))
    choice = best(only, [Limit("total_mib", 50.0)], "score", TIMING)
    assert choice.best is None and choice.closest is None and not choice.failed


def test_giving_way_on_a_limit_says_how_much_buys_how_much():
    steps = asked(Limit("total_mib", 10.0)).steps
    assert [(named(step.model), round(step.given, 6), round(step.gained, 6)) for step in steps] == [
        ("cofi 80 onnx-int8", 2.0, 0.06),
        ("teacher 0 onnx-int8", 13.0, 0.095),
    ]
    # with two limits, a step gives way on one of them and keeps the other
    steps = asked(Limit("total_mib", 10.0), Limit(MS, 3.0)).steps
    assert [(step.limit.column, named(step.model)) for step in steps] == [("total_mib", "cofi 80 onnx-int8")]
    # a lower score buys size
    (step,) = asked(Limit("score", 0.86), aim="size").steps
    assert (named(step.model), round(step.given, 6), round(step.gained, 6)) == ("cofi 95 onnx-int8", 0.06, 2.0)


def test_where_nothing_fits_the_closest_model_and_the_limits_it_fails_are_told():
    choice = asked(Limit("total_mib", 8.0), Limit("score", 0.79))
    assert choice.best is None and named(choice.closest) == "cofi 95 onnx-int8"
    assert [(limit.column, excess) for limit, excess in choice.failed] == [("total_mib", 2.0)]
    # 0.80 instead of 0.85 is a smaller part of the bound than 12 MiB instead of 10
    choice = asked(Limit("total_mib", 10.0), Limit("score", 0.85))
    assert named(choice.closest) == "cofi 95 onnx-int8"
    assert [(limit.column, round(excess, 6)) for limit, excess in choice.failed] == [("score", 0.05)]


def test_seeds_are_averaged_and_one_that_fails_takes_the_format_away():
    second = table(seed=2).assign(score=table()["score"] - 0.02)
    both = over_seeds(pd.concat([second, table()]))
    chosen = best(both, [Limit("total_mib", 20.0)], "score", TIMING).best
    assert (chosen["score"], chosen["seeds"], chosen["seed"]) == (pytest.approx(0.85), 2, 1)
    second.loc[(second["plan"] == "cofi") & (second["percent"] == "80"), "passed"] = "no"
    chosen = best(over_seeds(pd.concat([second, table()])), [Limit("total_mib", 20.0)], "score", TIMING).best
    assert named(chosen) == "cofi 95 onnx-int8"


def test_a_model_that_was_not_timed_keeps_no_limit_on_time_and_may_still_be_the_best_in_score():
    rows = table()
    rows.loc[rows["plan"] == "teacher", MS] = float("nan")
    assert named(asked(rows=rows).best) == "teacher 0 torch"
    assert named(asked(Limit(MS, 1000.0), rows=rows).best) == "cofi 60 torch"
    assert named(asked(aim="latency", rows=rows).best) == "cofi 95 onnx-int8"


def test_the_front_rises_and_nothing_beats_its_models():
    models = over_seeds(table())
    front = pareto(models, "total_mib")
    assert [named(row) for _, row in front.iterrows()] == [
        "linear 0 scikit-learn",
        "cofi 95 onnx-int8",
        "cofi 80 onnx-int8",
        "teacher 0 onnx-int8",
        "teacher 0 torch",
    ]
    assert named(pareto(models, MS).iloc[2]) == "cofi 80 onnx-int8"
    for cost in ("total_mib", MS):
        front, passed = pareto(models, cost), models[models["passed"] == "yes"]
        assert front[cost].is_monotonic_increasing and front["score"].is_monotonic_increasing
        for _, row in passed.iterrows():
            beaten = (front[cost] <= row[cost]) & (front["score"] >= row["score"])
            assert beaten.any(), f"{named(row)} is beaten by nobody and not on the front"


def test_the_dense_score_is_that_of_pytorch_whatever_formats_there_are():
    assert dense_score(over_seeds(table())) == 0.90
    int8 = table(ROWS[1:]).assign(drop=[0.005, *[0.0] * 6])
    assert dense_score(over_seeds(int8)) == pytest.approx(0.90)
    assert dense_score(over_seeds(table(ROWS[2:]))) is None


def test_latencies_that_were_measured_are_read_from_the_columns():
    rows = table().assign(ms_b32_l128=1.0, p95_b32_l128=1.0, ms_b8_l64=float("nan"))
    assert measured_timings(rows) == [TIMING, MeasuredBatch(32, "128")]
    assert str(MeasuredBatch(32, "128")) == "batch 32, 128 tokens a row"


def test_a_study_without_the_table_is_told_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match="a run of the study with `deploy: formats` writes it"):
        read_choices(tmp_path / "deploy.csv")
