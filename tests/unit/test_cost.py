import copy
import time

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from espalier.config.project import Measure
from espalier.evaluation import cost as costs
from espalier.evaluation.cost import (
    DTYPES,
    Candidate,
    cost_of,
    eager_runner,
    full_batch,
    latencies_ms,
    macs,
    parameter_counts,
    sparsities,
    timed_precision,
)
from espalier.models.compact_config import compact_config
from espalier.models.encoder import prunable_weights
from espalier.models.files import write_model
from espalier.models.modeling_espalier import Shape
from espalier.models.onnx import write_onnx
from tests import tiny

SETTINGS = Measure(batch_sizes=(1, 4), length=16, repeats=3)
CPU = torch.device("cpu")


def compact(shape):
    return AutoModelForSequenceClassification.from_config(compact_config(tiny.config(num_labels=3), shape))


@pytest.fixture(scope="module")
def candidate(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("model"), tiny.classifier()
    write_model(model, folder / "config.json", folder / "model.safetensors")
    write_onnx(model, folder / "model.onnx")
    return Candidate(model, folder / "model.safetensors", folder / "model.onnx")


def test_counts_of_a_tiny_bert():
    model = tiny.classifier()
    counts = parameter_counts(model)
    assert counts["params_encoder"] == 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert counts["params_total"] == sum(parameter.numel() for parameter in model.parameters())
    assert counts["params_encoder_nonzero"] == counts["params_encoder"]


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_on_a_gpu_models_are_timed_in_half_precision(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert timed_precision(torch.device("cuda")) == precision and timed_precision(torch.device("cpu")) == "fp32"

    model = tiny.classifier()
    run = eager_runner(model, torch.device("cpu"), precision)
    assert run(full_batch(model, 2, 8)).logits.dtype == DTYPES[precision]


def test_counts_of_a_compact_bert():
    counts = parameter_counts(compact(Shape(30, 8, 32, ((3, 0), (0, 5)))))
    assert counts["params_encoder"] == counts["params_encoder_nonzero"] == 4 * 30 * 24 + 2 * 30 * 5


def test_an_encoder_of_which_nothing_is_left():
    model = compact(Shape(30, 8, 32, ((0, 0), (0, 0))))
    assert parameter_counts(model)["params_encoder"] == macs(model, 10) == 0


def test_sparsity_is_measured_against_the_dense_model():
    dense = tiny.classifier()
    student = copy.deepcopy(dense)
    with torch.no_grad():
        for weight in prunable_weights(student).values():
            weight[: len(weight) // 2] = 0.0
    found = sparsities(parameter_counts(student), parameter_counts(dense))
    assert found["sparsity_encoder"] == pytest.approx(0.5)
    assert 0.2 < found["sparsity_total"] < 0.5


def test_multiply_accumulates_by_hand():
    length = 10
    assert macs(tiny.classifier(), length) == 2 * (length * (4 * 32 * 32 + 2 * 32 * 64) + 2 * length * length * 32)


def test_multiply_accumulates_of_a_compact_model_by_hand():
    length = 10
    left = compact(Shape(30, 8, 32, ((3, 0), (1, 5))))
    assert macs(left, length) == length * (4 * 30 * 24 + 4 * 30 * 8 + 2 * 30 * 5) + 2 * length * length * (24 + 8)


def test_every_batch_size_is_timed_for_both_models_in_both_runtimes(candidate):
    cost = cost_of(candidate, candidate._replace(model=tiny.classifier()), SETTINGS, CPU)
    assert (cost["length"], cost["repeats"], cost["threads"]) == (16, 3, torch.get_num_threads())
    for runtime in (cost, cost["onnx"]):
        assert runtime["latency_ms"].keys() == runtime["dense_latency_ms"].keys() == runtime["speedup"].keys() == {"1", "4"}
        for times in (*runtime["latency_ms"].values(), *runtime["dense_latency_ms"].values()):
            assert 0 < times["q25"] <= times["median"] <= times["q75"]
        medians = (runtime["dense_latency_ms"]["4"]["median"], runtime["latency_ms"]["4"]["median"])
        assert runtime["speedup"]["4"] == pytest.approx(medians[0] / medians[1])
    for got, path in ((cost["size_mib"], candidate.weights), (cost["onnx"]["size_mib"], candidate.onnx)):
        assert got == pytest.approx(path.stat().st_size / 2**20)


def test_onnx_rows_stay_empty_where_onnxruntime_cannot_compute(candidate, monkeypatch):
    monkeypatch.setattr(costs, "onnx_runner", lambda path, device: None)
    cost = cost_of(candidate, candidate, SETTINGS, CPU)
    assert cost["speedup"].keys() == {"1", "4"}
    assert cost["onnx"]["latency_ms"] == cost["onnx"]["dense_latency_ms"] == cost["onnx"]["speedup"] == {}


def test_timed_rows_have_no_padding():
    inputs = full_batch(tiny.classifier(), 4, 16)
    assert inputs["input_ids"].shape == (4, 16) and bool(inputs["attention_mask"].all())
    assert inputs["input_ids"].unique().numel() > 10


@pytest.mark.parametrize(("seconds", "warm"), [(0.0, costs.WARMUP), (0.15, 1)])
def test_models_take_turns_and_long_passes_warm_up_once(monkeypatch, seconds, warm):
    monkeypatch.setattr(costs, "WARMUP_SECONDS", 0.1)
    monkeypatch.setattr(costs, "TIMED_SECONDS", 0.0)
    calls = []

    def runner(name):
        return lambda: (calls.append(name), time.sleep(seconds))

    times = latencies_ms({"student": runner("student"), "dense": runner("dense")}, repeats=3)
    assert calls == ["student", "dense"] * (warm + 3)
    assert times.keys() == {"student", "dense"} and times["dense"]["median"] >= 1000 * seconds


def clock(monkeypatch, seconds):
    """A clock that moves on by the next of these numbers between the two readings around a call."""
    moves, now = iter(seconds), [0.0, 0]

    def read():
        now[1] += 1
        if now[1] % 2 == 0:
            now[0] += next(moves)
        return now[0]

    monkeypatch.setattr(costs, "_warm_up", lambda runners: None)
    monkeypatch.setattr(costs.time, "perf_counter", read)


def test_passes_that_all_take_the_same_time_are_not_repeated(monkeypatch):
    clock(monkeypatch, [0.005] * 6)
    assert latencies_ms({"student": int, "dense": int}, repeats=3)["student"] == {
        **dict.fromkeys(("median", "q25", "q75", "p95"), pytest.approx(5.0)),
        "passes": 3,
    }


def test_uneven_passes_are_repeated_until_their_median_is_certain(monkeypatch):
    """Interquartile range 20 % of the median: 1.253 x 0.2 / 1.349 / sqrt(n) is at most 0.005 from n = 1381 on."""
    monkeypatch.setattr(costs, "TIMED_SECONDS", 1e9)
    clock(monkeypatch, [0.005] + [0.0045, 0.0055] * 5000)
    passes = latencies_ms({"student": int}, repeats=3)["student"]["passes"]
    assert 1381 <= passes <= 1383


def test_long_passes_are_repeated_until_their_time_is_up(monkeypatch):
    monkeypatch.setattr(costs, "TIMED_SECONDS", 2.0)
    clock(monkeypatch, [0.2, 0.1, 0.3] * 10)
    times = latencies_ms({"student": int, "dense": int}, repeats=3)
    assert times["student"]["passes"] == times["dense"]["passes"] == 5
