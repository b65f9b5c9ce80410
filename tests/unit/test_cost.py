import copy

import pytest
import torch

from espalier.core.cost import cost_of, macs, parameter_counts, sparsities
from espalier.core.masks import prunable_weights
from espalier.core.models import write_model
from tests import tiny


def test_counts_of_a_tiny_bert():
    model = tiny.classifier()
    counts = parameter_counts(model)
    assert counts["params_encoder"] == 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert counts["params_total"] == sum(parameter.numel() for parameter in model.parameters())
    assert counts["params_encoder_nonzero"] == counts["params_encoder"]


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


def test_every_batch_size_is_timed_for_both_models(tmp_path):
    model = tiny.classifier()
    write_model(model, tmp_path / "config.json", tmp_path / "model.safetensors")
    cost = cost_of(
        model,
        tiny.classifier(),
        tmp_path / "model.safetensors",
        batch_sizes=[1, 4],
        length=16,
        repeats=3,
        device=torch.device("cpu"),
    )
    assert cost["latency_ms"].keys() == cost["dense_latency_ms"].keys() == cost["speedup"].keys() == {"1", "4"}
    for times in (*cost["latency_ms"].values(), *cost["dense_latency_ms"].values()):
        assert 0 < times["q25"] <= times["median"] <= times["q75"]
    assert cost["speedup"]["1"] == pytest.approx(cost["dense_latency_ms"]["1"]["median"] / cost["latency_ms"]["1"]["median"])
    assert cost["size_mib"] == pytest.approx((tmp_path / "model.safetensors").stat().st_size / 2**20)
