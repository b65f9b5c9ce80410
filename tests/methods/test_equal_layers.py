"""Layers of one shape: what structured methods leave is a checkpoint of transformers' own class."""

from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from transformers import AutoModelForSequenceClassification

from espalier.config.methods import AnyPlan
from espalier.evaluation.predict import all_logits
from espalier.models.classes import as_stock
from espalier.models.encoder import count_weights
from espalier.models.modeling_espalier import Shape, shape_of
from espalier.pruning.budget import SizeBudget
from espalier.pruning.equal_layers import deviations, equal_shape, highest, on_the_way, with_narrow_head
from espalier.pruning.parts import full_masks, heads_of, sizes, units_of
from espalier.pruning.shrink import shrink
from espalier.runtime.errors import UserError
from tests import tiny
from tests.methods.conftest import GATES, Harness, begun

ALL = ("heads", "units", "hidden")
EQUAL = {
    "cofi": {"method": "cofi", **GATES, "layers": "equal"},
    "cofi, units alone": {"method": "cofi", **GATES, "path": [0.4], "layers": "equal", "gates": ["units", "ffn"]},
    "l0": {"method": "l0", **GATES, "path": [0.8], "layers": "equal"},
    "heads": {"method": "heads", "path": [0.4], "prune_steps": 3, "layers": "equal", "parts_to_prune": ["units"]},
    "small-dense": {"method": "small-dense", "path": [0.6], "epochs": 2.0, "layers": "equal"},
}


def budget_of(model, target: float) -> SizeBudget:
    return SizeBudget.of(model, full_masks(shape_of(model.config)), target)


@pytest.mark.parametrize("name", EQUAL)
@pytest.mark.parametrize("kind", ["classification", "regression", "span"])
def test_the_student_is_a_stock_checkpoint_of_the_target_s_size(tmp_path, name, kind):
    loop = Harness(tmp_path, kind).run(EQUAL[name])
    small = loop.method.shrink(loop.student).eval()
    stock = as_stock(small)
    assert stock is not None and stock.config.model_type == "bert"

    # one unit of every layer is the smallest step
    dense, hidden = count_weights(tiny.classifier()), small.config.hidden_size
    assert abs(1.0 - count_weights(stock) / dense - loop.method.stage.target) <= 2 * hidden / dense
    assert loop.method.sparsity == pytest.approx(1.0 - count_weights(stock) / dense)
    layers = shape_of(small.config).layers
    assert len({*layers}) == 1

    # transformers opens it by itself, and it gives what the gated student gave
    rows, accelerator = loop.rows, tiny.accelerator()
    gated = all_logits(loop.student, rows, accelerator)
    assert (gated - all_logits(stock, rows, accelerator)).abs().max() <= 1e-5 * max(1.0, float(gated.abs().max()))
    if kind == "classification":
        stock.save_pretrained(tmp_path / "stock")
        opened = AutoModelForSequenceClassification.from_pretrained(tmp_path / "stock")
        assert type(opened).__module__.startswith("transformers.")
        assert (gated - all_logits(opened, rows, accelerator)).abs().max() <= 1e-5 * max(1.0, float(gated.abs().max()))


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_every_family_has_a_stock_form(variant):
    model = tiny.encoder(variant)
    shape = equal_shape(budget_of(model, 0.7), ALL)
    narrow = with_narrow_head(model, shape.pooled)
    counts = sizes(shape)
    masks = {name: mask.clone() for name, mask in full_masks(shape_of(model.config)).items()}
    for place, (name, mask) in enumerate(masks.items()):
        chosen = torch.randperm(len(mask), generator=torch.Generator().manual_seed(place))
        mask[chosen[counts[name] :]] = False
    small = shrink(narrow, masks)
    stock = as_stock(small)
    assert stock is not None and stock.config.model_type == variant.split(",")[0]
    batch = tiny.padded_batch()
    with torch.inference_mode():
        assert torch.equal(stock(**batch).logits, small(**batch).logits)


def test_the_shape_shrinks_every_width_by_nearly_one_fraction():
    model = tiny.encoder("bert", hidden_size=64, num_attention_heads=8, intermediate_size=256)
    for target in (0.3, 0.6, 0.9, 0.95):
        budget = budget_of(model, target)
        shape = equal_shape(budget, ALL)
        (heads, units), *others = shape.layers
        assert not others or {*others} == {(heads, units)}
        assert shape.hidden == shape.pooled == heads * 8
        assert abs(heads / 8 - (1 - target) ** 0.5) <= 0.5 / 8 + 1e-9
        left = 3 * shape.hidden * (4 * 8 * heads + 2 * units)
        assert abs(1 - left / budget.dense - target) <= 3 * shape.hidden / budget.dense


def test_a_number_of_heads_that_leaves_no_room_for_units_is_passed_over():
    """sqrt(0.75) of 4 heads is nearest to 3, with hidden size 24; then 40 of 24 units would have to stay."""
    shape = equal_shape(budget_of(tiny.encoder("bert"), 0.25), ALL)
    assert shape == Shape(32, 8, 32, ((4, 2),) * 3)


def test_what_has_no_such_shape_is_refused_in_words():
    model = tiny.encoder("bert")
    with pytest.raises(
        UserError, match="target 90 % is out of reach with layers: equal, where units may go: from 4 heads and 24 FFN"
    ):
        equal_shape(budget_of(model, 0.9), ("units",))

    masks = full_masks(shape_of(model.config))
    masks["layer.0.heads"][0] = False
    small = shrink(model, masks)
    with pytest.raises(UserError, match=r"goes on from layers that are alike.*\(3, 24\), \(4, 24\), \(4, 24\)"):
        equal_shape(SizeBudget.of(small, masks, 0.5), ALL)


def test_the_way_leads_from_the_start_to_the_shape():
    start, end = Shape(32, 8, 32, ((4, 64),) * 2), Shape(16, 8, 16, ((2, 16),) * 2)
    names = ["hidden", heads_of(0), units_of(1)]
    for progress, expected in ((0.0, (32, 4, 64)), (0.5, (24, 3, 40)), (1.0, (16, 2, 16))):
        wanted = on_the_way(start, end, names, progress)
        assert tuple(float(kept.sum()) for kept in wanted.values()) == pytest.approx(expected)
    assert deviations(wanted, wanted).tolist() == [0.0, 0.0, 0.0]

    # more is kept than wanted: negative, as for sparsity
    assert deviations(on_the_way(start, end, names, 0.0), wanted).tolist() == pytest.approx([-0.5, -0.5, -0.75])


def test_the_highest_are_kept():
    assert highest(torch.tensor([0.1, 0.9, 0.5, 0.9]), 2).tolist() == [0.0, 1.0, 0.0, 1.0]
    assert highest(torch.tensor([0.5, 0.5, -torch.inf]), 1).tolist() == [1.0, 0.0, 0.0]


def test_every_vector_of_gates_has_a_constraint(harness):
    loop, _ = begun(harness, layers="equal")
    method = loop.method
    assert {*method.gates.names} == {
        "hidden",
        *(f"layer.{i}.{kind}" for i in (0, 1) for kind in ("heads", "ffn")),
    }
    assert method.multipliers.shape == (2, 5)

    # at the end of the ramp, gates that stay as open as all are driven down in every vector
    method.step = method.prune_from + method.ramp_steps
    method.multipliers.data[1] = 1.0
    method._lagrangian(method.step)["lagrangian"].backward()
    assert all((vector.grad > 0).all() for vector in method.gates.log_alpha)
    assert (method.multipliers.grad[0] < 0).all()


def test_training_itself_comes_near_the_shape(tmp_path):
    """Not only landing: expected numbers of each vector's open gates end where the shape wants them."""
    plan = {**EQUAL["cofi"], "pruning_epochs": 40.0, "sparsity_warmup_epochs": 10.0}
    loop = Harness(tmp_path).run(plan)
    method = loop.method
    probabilities, wanted = method.gates.probabilities(), method._wanted(method.stage.steps)
    assert float(deviations(probabilities, wanted).abs().max().detach()) < 0.15
    assert not method.misses_target


def test_the_parts_with_the_highest_gates_stay(harness):
    loop = harness.run(EQUAL["cofi"])
    masks, method = loop.method.end(), loop.method
    for name, soft in method.gates.soft().items():
        kept = masks[name]
        assert soft[kept].min() >= soft[~kept].max() if not kept.all() else True


def test_a_narrower_head_keeps_what_weighs_most():
    model = tiny.encoder("bert")
    with torch.no_grad():
        model.classifier.weight[:, [3, 17]] = 0.0
        model.bert.pooler.dense.weight[[9]] = 0.0
    small = with_narrow_head(model, 29)
    kept = [place for place in range(32) if place not in (3, 9, 17)]
    assert torch.equal(small.classifier.weight, model.classifier.weight[:, kept])
    batch = tiny.padded_batch()
    with torch.no_grad():
        # what pooled dimension 9 added was the same for every row
        model.classifier.weight[:, 9] = 0.0
        torch.testing.assert_close(small(**batch).logits, model(**batch).logits)


REFUSED = [
    ({"method": "cofi", "gates": ["heads", "units"]}, "needs gates of units, and of heads and hidden together or of neither"),
    ({"method": "l0", "gates": ["units", "hidden"]}, r"got gates: \['units', 'hidden'\]"),
    ({"method": "cofi", "gates": ["heads", "hidden"]}, "needs gates of units"),
    ({"method": "cofi", "exact_size": False}, "layers: equal needs exact_size: true"),
    ({"method": "cofi", "path": [{"speedup": 2.0}]}, "layers: equal cannot aim at speedup"),
    ({"method": "heads"}, r"layers: equal needs parts_to_prune: \[units\].*got \['heads', 'units'\]"),
    ({"method": "small-dense", "kind": "layers"}, "layers: equal needs kind: sliced; got layers"),
    ({"method": "magnitude"}, "Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("plan", "message"), REFUSED)
def test_settings_that_no_stock_checkpoint_can_have_are_refused(plan, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(AnyPlan).validate_python({"path": [0.5], **plan, "layers": "equal"})
