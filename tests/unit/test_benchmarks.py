"""The benchmarks measure what they say: both sides compute the same, stages are summed up right, the page is the file's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import bench, gpu
from benchmarks.speed import equality, growth, page, stages
from benchmarks.speed.aims import Aim
from benchmarks.speed.machine import matmul_peak, peak_memory
from benchmarks.speed.ramp import standing
from benchmarks.speed.references import REFERENCES, CofiReference
from benchmarks.speed.rows import lengths_like, padding, rows_of, seed_for, words_of
from benchmarks.speed.runs import QUICK, TINY, Scale
from benchmarks.speed.stopwatch import Stopwatch
from espalier.data.batches import epoch_order
from espalier.pruning.hard_concrete import kept_probability
from espalier.runtime.files import read_json

pytestmark = pytest.mark.slow

SCALE = Scale(TINY, batch=8)


@pytest.mark.parametrize("method", sorted(REFERENCES))
def test_reference_and_ours_compute_the_same(method: str, tmp_path: Path) -> None:
    numbers = equality.compared(method, SCALE, tmp_path)
    assert numbers["loss_difference"] <= 1e-5
    assert numbers["gradient_difference"] <= 1e-4
    assert numbers["ours"] > 0.1


def test_a_reference_with_another_loss_ends_the_benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(CofiReference, "layer_weight", 0.901)
    with pytest.raises(SystemExit, match="cofi: ours and the reference do not compute the same"):
        equality.check(SCALE, tmp_path)


@pytest.mark.parametrize("task", ["rte", "cola"])
def test_a_few_batches_stand_for_an_epoch(task: str) -> None:
    tokens = padding(task, 32, 4)
    assert rows_of("rte") == 2490
    assert tokens["ours_measured"] == pytest.approx(tokens["ours"], rel=0.04)
    assert tokens["reference_measured"] == pytest.approx(tokens["reference"], rel=0.04)
    assert tokens["real"] < tokens["ours"] < 0.6 * tokens["reference"]


def test_the_second_epoch_begins_with_the_batch_that_warmed_up() -> None:
    lengths = lengths_like("cola", 32)
    first, second = (epoch_order(lengths, 8, seed_for(lengths, 8), epoch)[0] for epoch in (0, 1))
    assert lengths[first].max() == lengths[second].max()


def test_random_words_have_the_lengths_asked_for() -> None:
    rows = words_of([3, 5], vocabulary=50, classes=2)
    assert rows.lengths.tolist() == [3, 5]
    assert rows.ids.min() >= 5 and rows.ids.max() < 50


def test_gates_stand_where_they_are_asked_to() -> None:
    student = SCALE.model("classification", 1)
    points = standing(student, None, (0.0, 0.5, 0.8))
    open_ones = [sum(kept_probability(vector).sum().item() for vector in points[point].values()) for point in points]
    assert list(points) == [0.0, 0.5, 0.8]
    assert open_ones == sorted(open_ones, reverse=True)
    # Hidden dimensions are pulled harder than units.
    kept = {name: kept_probability(points[0.8][name]).mean().item() for name in ("hidden", "layer.0.ffn")}
    assert kept["hidden"] > kept["layer.0.ffn"]


def test_a_whole_stage_is_the_sum_over_its_steps() -> None:
    before = {"step_seconds": 2.0, "reference_step_seconds": 4.0}
    times = {
        point: {"step_seconds": ours, "reference_step_seconds": 4.0} for point, ours in ((0.0, 2.0), (0.4, 1.0), (0.8, 1.0))
    }
    whole = stages.whole_stage(before, times, 0.8)
    # 4 epochs at 2; 20 on the ramp, half of it at a mean of 1.5 and half at 1; 76 at 1.
    assert whole["step_seconds"] == pytest.approx((4 * 2.0 + 20 * 1.25 + 76 * 1.0) / 100)
    assert whole["ratio"] == pytest.approx(4.0 / 1.09)


def test_a_whole_path_has_no_pre_pruning_after_its_first_stage() -> None:
    before = {"step_seconds": 3.0, "reference_step_seconds": 3.0}
    times = {point: {"step_seconds": 2.0, "reference_step_seconds": 3.0} for point in (0.0, 0.6)}
    later = [{point: {"step_seconds": 1.0, "reference_step_seconds": 3.0} for point in (0.6, 0.8)}]
    path = stages.whole_path(before, times, later, (0.6, 0.8))
    first, second = 4 * 3.0 + 96 * 2.0, 96 * 1.0
    assert path["step_seconds"] == pytest.approx((first + second) / (100 + 96))
    assert path["of_first_stages"] == pytest.approx((first + second) / (2 * first))
    assert path["reference_step_seconds"] == pytest.approx(3.0)


def test_parts_of_a_step_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 3.0, 7.0])
    monkeypatch.setattr("benchmarks.speed.stopwatch.time.perf_counter", lambda: next(times))
    watch = Stopwatch(torch.device("cpu"))
    watch.begin("method")
    watch.begin("forward")
    watch.end()
    watch.end()
    assert dict(watch.seconds) == {"method": 1.0 + 4.0, "forward": 2.0}


def test_the_exponent_is_the_slope_of_the_logarithms() -> None:
    assert growth.exponent([1, 2, 4], [3.0, 12.0, 48.0]) == pytest.approx(2.0)


def test_an_aim_is_met_on_its_side() -> None:
    values = [("at least", 3.5, True), ("at least", 3.4, False), ("at most", 3.5, True), ("at most", 3.6, False)]
    for sense, value, met in values:
        assert Aim("name", "what", value, 3.5, sense).met is met
    assert Aim("name", "what", None, 3.5, "at least").met is None


def test_the_machine_is_measured() -> None:
    assert 1e8 < matmul_peak([(64, 64, 64)], torch.float32, "cpu") < 1e14
    taken = peak_memory(lambda: np.ones(2**23))
    assert taken is None or 60 <= taken <= 80


def test_a_quick_run_holds_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = {"jobs": 1000, "processor_seconds": 1.0, "memory_mib": 1}
    start = {"stage_without_model_seconds": 1.0, "stage_that_trains_seconds": 3.0, "planning": [planned, planned]}
    monkeypatch.setattr("benchmarks.speed.start.measured", lambda jobs, folder: start)
    found = bench.content(quick=True)
    ratios = [aim["value"] for aim in found["aims"] if "over the reference's" in aim["what"] and aim["value"] is not None]
    assert len(ratios) >= 9 and min(ratios) > 0.05
    assert found["quick"] and found["cofi"]["rte"]["fp32"]["whole_stage"]["method"] == "integrated over 4 points"
    for split in found["split"].values():
        assert sum(split["shares"].values()) == pytest.approx(1.0, abs=1e-3)


def test_the_page_is_written_from_the_committed_file() -> None:
    # Both come from one run of `make bench`: neither stands without the other.
    assert page.PAGE.exists() == page.RESULTS.exists()
    if not page.RESULTS.exists():
        pytest.skip("make bench has not been run")
    committed = read_json(page.RESULTS)
    assert not committed["quick"]
    assert page.PAGE.read_text() == page.text_of()


def test_what_is_measured_on_a_gpu_runs_on_a_cpu() -> None:
    found = gpu.content(QUICK, processes=2, backend="aot_eager")
    assert all(numbers["near"] for numbers in found["precisions"].values())
    assert found["processes"]["backend"] == "gloo" and found["processes"]["equal"]
    assert found["compile"]["compiled"]["loss"] == pytest.approx(found["compile"]["eager"]["loss"], rel=1e-4)
    assert set(found["speeds"]) == set(found["memory"]) == set(REFERENCES)


def test_without_a_gpu_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="sees no GPU"):
        gpu.main()
    assert not gpu.RESULTS.exists() or read_json(gpu.RESULTS)["machine"]["gpu"]
