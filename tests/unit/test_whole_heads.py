"""Families whose layers keep all of their heads or none, because all share one table with a column for each head: mpnet."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from espalier.config.methods.structured import SmallDensePlan
from espalier.evaluation.sublayer_times import measure_table
from espalier.methods.base import Stage
from espalier.methods.small_dense import SmallDense
from espalier.models.classes import as_stock
from espalier.models.compact_config import compact_config
from espalier.models.files import open_student, write_compact
from espalier.models.modeling_espalier import Shape, find, shape_of, whole_heads
from espalier.models.onnx import write_onnx
from espalier.pruning.budget import SizeBudget
from espalier.pruning.fold import folded
from espalier.pruning.gates import attach
from espalier.pruning.parts import HIDDEN, full_masks, masked_shape, masks_of, units_of
from espalier.pruning.shrink import shrink
from espalier.runtime.errors import UserError
from tests import tiny

CASES = {
    "units": {units_of(0): [3], units_of(1): range(5, 20)},
    "no units": {units_of(1): range(24), units_of(2): range(24)},
    "attention sublayers": {"attention": [0, 2]},
    "a whole layer": {"attention": [1], "ffn": [1]},
    "every layer": {"attention": range(3), "ffn": range(3)},
    "hidden dimensions": {HIDDEN: [0, 9, 31]},
    "everything together": {HIDDEN: [3, 9], units_of(0): range(7), "attention": [1], "ffn": [2]},
}
BIAS = "encoder.relative_attention_bias"


@pytest.fixture(params=list(tiny.WHOLE_HEADS))
def model(request):
    return tiny.encoder(request.param)


def closed(shape, case, soft=1.0):
    values = {name: torch.full((len(mask),), soft) for name, mask in full_masks(shape).items() if not name.endswith(".heads")}
    values |= {kind: torch.full((len(shape.layers),), soft) for kind in ("attention", "ffn")}
    for name, places in CASES[case].items():
        values[name][list(places)] = 0.0
    return values


@pytest.mark.parametrize("case", list(CASES))
def test_sliced_is_gated_forward_and_backward(double, model, case):
    shape, batch = shape_of(model.config), tiny.padded_batch()
    values = closed(shape, case)
    gated, small = copy.deepcopy(model), shrink(model, masks_of(values, shape))
    state = attach(gated, lambda: values)
    dense, masked, sliced = (each(**batch).logits for each in (model, gated, small))
    assert (masked - sliced).abs().max() <= 1e-9 * dense.abs().max()
    assert (sliced - dense).abs().max() > 0.01 * dense.abs().max(), "the case changes nothing"
    assert shape_of(small.config) == masked_shape(shape, masks_of(values, shape))
    assert {chosen.count for (kind, _), chosen in state.computed.items() if kind == "attention"} == {4}

    for each in (masked, sliced):
        each.square().sum().backward()
    wide, narrow = (find(each.base_model, BIAS).weight.grad for each in (gated, small))
    if narrow is not None:
        torch.testing.assert_close(wide, narrow, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("case", list(CASES))
def test_folding_is_exact(double, model, case):
    values, gated = closed(shape_of(model.config), case, soft=0.7), copy.deepcopy(model)
    attach(gated, lambda: values)
    with torch.no_grad():
        small = folded(model, values)(**tiny.padded_batch()).logits
        assert (small - gated(**tiny.padded_batch()).logits).abs().max() <= 1e-9 * small.abs().max().clamp(min=1.0)


def test_a_compact_model_is_written_opened_and_exported(model, tmp_path):
    shape = shape_of(model.config)
    small = shrink(model, masks_of(closed(shape, "everything together"), shape)).eval()
    files = [tmp_path / name for name in ("config.json", "model.safetensors", "modeling_espalier.py")]
    write_compact(small, *files)
    again = open_student(files[:2], "classification").eval()
    with torch.no_grad():
        assert torch.equal(small(**tiny.padded_batch()).logits, again(**tiny.padded_batch()).logits)
    assert find(again.base_model, BIAS).weight.shape == (32, 4)
    write_onnx(again, tmp_path / "model.onnx")
    opened = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(opened).__name__ == "CompactMPNetForSequenceClassification"


def test_layers_that_are_gone_leave_a_stock_model(model):
    shape = shape_of(model.config)
    small = shrink(model, masks_of(closed(shape, "a whole layer"), shape)).eval()
    stock = as_stock(small).eval()
    assert type(stock) is type(model) and stock.config.num_hidden_layers == 2
    torch.testing.assert_close(stock(**tiny.padded_batch()).logits, small(**tiny.padded_batch()).logits)


def test_a_layer_that_has_lost_some_heads_is_refused(model):
    shape = shape_of(model.config)
    assert whole_heads(model.config) == 4 and whole_heads(tiny.encoder("bert").config) == 0
    narrow = shape._replace(layers=((3, 24), *shape.layers[1:]))
    with pytest.raises(ValueError, match=f"layers of MPNet models share {BIAS}, so each keeps its 4 heads or none"):
        compact_config(model.config, narrow)


def test_sizes_are_counted_with_attention_and_without(model):
    whole = full_masks(shape_of(model.config))
    budget = SizeBudget.of(model, whole, 0.5)
    assert budget.dense == 3 * (4 * 32 * 32 + 2 * 32 * 24)
    gone = {kind: torch.zeros(3) for kind in ("attention",)}
    small = shrink(model, masks_of(gone, shape_of(model.config)))
    assert SizeBudget.of(small, masks_of(gone, shape_of(model.config)), 0.5).dense == budget.dense


def test_a_table_of_latencies_knows_all_heads_and_none(model):
    table = measure_table(model.config, 1, 8, torch.device("cpu"))
    assert table["attention"]["sizes"] == (0, 4) and len(table["ffn"]["sizes"]) > 2


@pytest.mark.parametrize(
    ("settings", "target", "layers"), [({}, 0.2, ((4, 6), (4, 6), (4, 7))), ({"kind": "layers"}, 0.35, None)]
)
def test_a_small_dense_student_keeps_its_heads(model, settings, target, layers):
    plan = SmallDensePlan.model_validate({"method": "small-dense", "path": [target], **settings})
    method = SmallDense(plan, Stage("classification", 0, 0.0, target, (4,), {}))
    small = method.cut(model, None)
    method.begin(small, None)
    assert method.sparsity == pytest.approx(target, abs=0.01)
    found = shape_of(small.config).layers
    assert {heads for heads, _ in found} <= {0, 4}
    assert sorted(found) == list(layers or [(0, 0), (4, 22), (4, 22)])


def test_a_small_dense_student_that_is_all_heads_is_out_of_reach(model):
    plan = SmallDensePlan.model_validate({"method": "small-dense", "path": [0.9]})
    with pytest.raises(UserError, match=r"target 90 % is out of reach of method small-dense: 3 layers keep all of their heads"):
        SmallDense(plan, Stage("classification", 0, 0.0, 0.9, (4,), {})).cut(model, None)


def test_equal_layers_keep_heads_and_hidden_dimensions(model):
    plan = SmallDensePlan.model_validate({"method": "small-dense", "path": [0.2], "layers": "equal"})
    small = SmallDense(plan, Stage("classification", 0, 0.0, 0.2, (4,), {})).cut(model, None)
    assert shape_of(small.config) == Shape(32, 8, 32, ((4, shape_of(small.config).layers[0][1]),) * 3)
