"""Latency: expected times by hand and their gradients, and a table that is really measured."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
import torch
from transformers import GPT2Config

from espalier.evaluation import sublayer_times as timing
from espalier.evaluation.sublayer_times import ffn_widths, measure_table, rising
from espalier.pruning.latency import Curve, LatencyTable, expected_latency, read_latency_table
from espalier.runtime.errors import UserError
from espalier.stages.models import latency
from tests import tiny

TABLE = LatencyTable(
    layers=2, attention=Curve((0, 1, 4), (0.0, 2.0, 5.0)), ffn=Curve((0, 8, 64), (0.0, 4.0, 18.0)), rest_ms=3.0
)


def counts(*values: float) -> torch.Tensor:
    return torch.tensor(values, requires_grad=True)


def test_a_curve_goes_through_its_points_and_straight_between_them():
    sizes = torch.tensor([0.0, 0.5, 1.0, 2.5, 4.0])
    assert TABLE.attention.at(sizes).tolist() == pytest.approx([0.0, 1.0, 2.0, 3.5, 5.0])


def test_the_dense_model_takes_all_of_its_parts():
    whole, ones = counts(4.0, 4.0), torch.ones(2)
    assert expected_latency(TABLE, whole, counts(64.0, 64.0), ones, ones).item() == TABLE.dense_ms == 3.0 + 2 * (5.0 + 18.0)


def test_without_any_sublayer_the_rest_stays():
    nothing, zeros = counts(0.0, 0.0), torch.zeros(2)
    assert expected_latency(TABLE, nothing, nothing, torch.ones(2), torch.ones(2)).item() == 3.0
    assert expected_latency(TABLE, counts(4.0, 4.0), counts(64.0, 64.0), zeros, zeros).item() == 3.0


def test_expected_latency_and_its_gradients_by_hand():
    heads, units = counts(2.5, 0.5), counts(36.0, 4.0)
    attention, ffn = (torch.tensor(values, requires_grad=True) for values in ([1.0, 0.5], [0.25, 1.0]))
    expected = expected_latency(TABLE, heads, units, attention, ffn)
    assert expected.item() == pytest.approx(3.0 + 1.0 * 3.5 + 0.5 * 1.0 + 0.25 * 11.0 + 1.0 * 2.0)
    expected.backward()
    assert heads.grad.tolist() == pytest.approx([1.0 * 1.0, 0.5 * 2.0])  # gate x slope
    assert units.grad.tolist() == pytest.approx([0.25 * 0.25, 1.0 * 0.5])
    assert attention.grad.tolist() == pytest.approx([3.5, 1.0])  # the sublayer's time
    assert ffn.grad.tolist() == pytest.approx([11.0, 2.0])


def test_times_that_rise_stay_and_noise_is_levelled():
    assert rising([1.0, 2.0, 5.0]) == [1.0, 2.0, 5.0]
    assert rising([-0.5, 1.0, 3.0, 2.0, 4.0]) == [0.0, 1.0, 2.5, 2.5, 4.0]


@pytest.mark.parametrize(("units", "widths"), [(1536, 11), (3072, 11), (64, 8), (20, 3), (8, 1), (5, 1)])
def test_widths_are_multiples_of_8_and_the_whole(units, widths):
    found = ffn_widths(units)
    assert len(found) == widths
    assert found == sorted(found) and found[-1] == units
    assert all(width % 8 == 0 for width in found[:-1])


def test_a_table_is_measured_written_and_read(tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "MOST", 3)
    tiny.config().save_pretrained(tmp_path)
    spec = json.dumps({"device": "cpu", "batch_size": 2, "length": 16})
    latency.run(spec, config=tmp_path / "config.json", table=tmp_path / "b2-l16.json")
    content = json.loads((tmp_path / "b2-l16.json").read_text())
    assert (content["batch_size"], content["length"], content["device"]) == (2, 16, "cpu")
    assert content["threads"] == torch.get_num_threads()
    assert content["versions"]["torch"] == torch.__version__
    table = read_latency_table(tmp_path / "b2-l16.json")
    assert (table.layers, table.attention.sizes, table.ffn.sizes[-1]) == (2, (0, 1, 2, 3, 4), 64)
    for curve in (table.attention, table.ffn):
        assert curve.times_ms[0] == 0.0
        assert all(later >= earlier for earlier, later in pairwise(curve.times_ms))
    assert 0.0 < table.rest_ms < table.dense_ms


def test_the_table_adds_up_to_the_dense_model_s_own_time(monkeypatch):
    times = {(0, 0): 10.0, (4, 64): 100.0} | {(n, 0): 10.0 + 4.0 * n for n in range(1, 5)}
    monkeypatch.setattr(timing, "_times_ms", lambda models, *_: {layer: times.get(layer, 10.0 + layer[1]) for layer in models})
    content = measure_table(tiny.config(), 2, 16, torch.device("cpu"))
    table = LatencyTable(2, Curve(**content["attention"]), Curve(**content["ffn"]), content["rest_ms"])
    assert content["scale"] == pytest.approx(100.0 / (10.0 + 16.0 + 64.0))
    assert math.isclose(table.dense_ms, 100.0)
    assert table.attention.times_ms == pytest.approx([content["scale"] * 2.0 * n for n in range(5)])


def test_a_family_that_cannot_be_sliced_is_refused():
    with pytest.raises(UserError, match="model type 'gpt2' cannot be pruned structurally; supported: bert"):
        measure_table(GPT2Config(), 2, 16, torch.device("cpu"))
