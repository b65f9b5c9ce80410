"""What a student may cost, and how gates are brought to it."""

import pytest
import torch
from transformers import ErnieConfig, ErnieForSequenceClassification

from espalier.models.encoder import count_weights
from espalier.models.modeling_espalier import Shape, shape_of
from espalier.pruning.budget import LatencyBudget, SizeBudget, check_reach, close_until, land
from espalier.pruning.latency import Curve, LatencyTable, LatencyTarget
from espalier.pruning.parts import HIDDEN, full_masks, heads_of, masks_of, units_of, within
from espalier.pruning.shrink import shrink
from espalier.runtime.errors import UserError
from tests import tiny

SHAPE = Shape(10, 4, 10, ((2, 6), (2, 6)))
BUDGET = SizeBudget(0.5, SHAPE, 10.0 * (16 * 4 + 2 * 12), 16.0, 2.0)
UNIT, HEAD = 20 / BUDGET.dense, 160 / BUDGET.dense


def masks_without(shape, closed):
    masks = full_masks(shape)
    for name, indices in closed.items():
        masks[name][list(indices)] = False
    return masks


CUTS = {
    "nothing": {},
    "some of all": {heads_of(0): [1], units_of(1): range(9), HIDDEN: [0, 7]},
    "first attention": {heads_of(0): range(4)},
    "every attention": {heads_of(i): range(4) for i in range(3)},
    "every ffn": {units_of(i): range(24) for i in range(3)},
}


@pytest.mark.parametrize("cut", list(CUTS))
@pytest.mark.parametrize("variant", list(tiny.VARIANTS))
def test_savings_are_counted_from_the_model_that_the_path_began_with(variant, cut):
    model = tiny.encoder(variant)
    outer = masks_without(shape_of(model.config), CUTS[cut])
    once = shrink(model, outer)
    budget = SizeBudget.of(once, outer, 0.9)
    assert budget.dense == count_weights(model) and budget.target == 0.9
    assert float(budget.saved({})) == pytest.approx(1.0 - count_weights(once) / count_weights(model), abs=1e-6)
    inner = masks_without(shape_of(once.config), {HIDDEN: [3], heads_of(1): [0][: shape_of(once.config).layers[1][0]]})
    twice = shrink(model, within(outer, inner))
    assert float(budget.saved(inner)) == pytest.approx(1.0 - count_weights(twice) / count_weights(model), abs=1e-6)


def gates(closed, soft=None):
    """Gates that are open at their soft value, in ascending order within each vector, and what is closed."""
    sizes = {"attention": 2, "ffn": 2, HIDDEN: 10} | {heads_of(i): 2 for i in range(2)} | {units_of(i): 6 for i in range(2)}
    soft = {name: torch.linspace(0.3, 0.9, size) for name, size in sizes.items()} | (soft or {})
    values = {name: value.clone() for name, value in soft.items()}
    for name, indices in closed.items():
        values[name][list(indices)] = 0.0
    return values, soft


def kept(values):
    return {name: (value != 0).tolist() for name, value in values.items()}


def test_the_softest_units_of_all_layers_close_first():
    values, soft = gates({})
    soft[units_of(1)] += 0.05
    landed = land(values, soft, SHAPE, SizeBudget(3 * UNIT, SHAPE, *_costs()))
    assert [kept(landed)[units_of(i)].index(True) for i in range(2)] == [2, 1]
    assert all(all(flags) for name, flags in kept(landed).items() if "ffn" not in name)
    assert float(landed[units_of(0)][2]) == float(soft[units_of(0)][2]), "what is open has its soft value"


def _costs():
    return BUDGET.dense, BUDGET.head_weights, BUDGET.unit_weights


@pytest.mark.parametrize("units_closed", range(12))
def test_a_model_that_is_near_its_target_meets_it_to_half_a_unit(units_closed):
    closed = {units_of(0): range(min(units_closed, 6)), units_of(1): range(max(units_closed - 6, 0))}
    for target in (0.04, 0.11, 0.2):
        budget = SizeBudget(target, SHAPE, *_costs())
        landed = land(*gates(closed), SHAPE, budget)
        assert abs(float(budget.saved(masks_of(landed, SHAPE))) - target) <= UNIT / 2 + 1e-6


def test_heads_close_once_all_units_are_gone():
    budget = SizeBudget(12 * UNIT + HEAD, SHAPE, *_costs())
    landed = land(*gates({}), SHAPE, budget)
    assert not any(any(kept(landed)[units_of(i)]) for i in range(2))
    assert sum(map(sum, (kept(landed)[heads_of(i)] for i in range(2)))) == 3


@pytest.mark.parametrize(
    ("closed", "back"),
    [
        ({"ffn": [0, 1]}, ("ffn", 1)),
        ({"attention": [0, 1]}, ("attention", 1)),
        ({heads_of(0): [0, 1], heads_of(1): [0]}, (heads_of(0), 1)),
        ({HIDDEN: range(6)}, (HIDDEN, 5)),
    ],
)
def test_what_was_nearest_to_staying_comes_back_where_too_much_is_gone(closed, back):
    values, soft = gates(closed)
    budget = SizeBudget(float(BUDGET.saved(masks_of(values, SHAPE))) - UNIT, SHAPE, *_costs())
    landed = land(values, soft, SHAPE, budget)
    opened = {(name, i) for name in closed for i in closed[name] if landed[name][i] != 0}
    assert opened == {back}
    assert abs(float(budget.saved(masks_of(landed, SHAPE))) - budget.target) <= HEAD


def test_only_gates_that_exist_are_touched():
    values, soft = gates({})
    for kinds in ((heads_of(0), heads_of(1)), (units_of(0), units_of(1))):
        chosen = {name: values[name] for name in kinds}
        landed = land(chosen, {name: soft[name] for name in kinds}, SHAPE, SizeBudget(0.1, SHAPE, *_costs()))
        assert landed.keys() == chosen.keys()
        assert abs(float(BUDGET.saved(masks_of(landed, SHAPE))) - 0.1) <= (HEAD if kinds[0].endswith("heads") else UNIT) / 2


def test_parts_close_in_the_order_given_until_the_saving_is_nearest():
    values = {name: mask.float() for name, mask in full_masks(SHAPE).items()}
    order = [(heads_of(0), 1), (units_of(1), 3), (heads_of(1), 0)]
    for target, closed in ((0.0, 0), (HEAD * 0.6, 1), (HEAD + UNIT * 0.6, 2), (0.9, 3)):
        result = close_until(values, values, order, SHAPE, BUDGET, target)
        assert [(name, index) for name, index in order if result[name][index] == 0] == order[:closed]


KINDS = {
    "all": ("attention", "ffn", HIDDEN, heads_of(0), heads_of(1), units_of(0), units_of(1)),
    "no sublayers": (HIDDEN, heads_of(0), heads_of(1), units_of(0), units_of(1)),
    "units": (units_of(0), units_of(1)),
    "heads and units": (heads_of(0), heads_of(1), units_of(0), units_of(1)),
    "units and hidden": (HIDDEN, units_of(0), units_of(1)),
    "units and attention": ("attention", units_of(0), units_of(1)),
}


@pytest.mark.parametrize("kinds", list(KINDS))
@pytest.mark.parametrize("seed", range(12))
def test_where_any_units_are_left_the_target_is_met_to_half_a_unit(kinds, seed):
    """From any decision, far too small or far too large: larger parts as a whole, units for the remainder."""
    shape = Shape(16, 4, 16, ((4, 40), (4, 40)))
    dense = 16.0 * (16 * 8 + 2 * 80)
    generator = torch.Generator().manual_seed(seed)
    sizes = {"attention": 2, "ffn": 2, HIDDEN: 16} | {heads_of(i): 4 for i in range(2)} | {units_of(i): 40 for i in range(2)}
    soft = {name: torch.rand(sizes[name], generator=generator) for name in KINDS[kinds]}
    threshold = torch.rand((), generator=generator)
    values = {name: torch.where(value > threshold, value, 0.0) for name, value in soft.items()}
    for target in (0.1, 0.3, 0.5, 0.63, 0.8, 0.9, 0.95):
        budget = SizeBudget(target, shape, dense, 16.0, 2.0)
        if float(budget.saved({name: torch.zeros_like(value) for name, value in soft.items()})) < target:
            continue
        masks = masks_of(land(values, soft, shape, budget), shape)
        unit = 2.0 * int(masks[HIDDEN].sum()) / dense
        units = sum(int(masks[units_of(i)].sum()) for i in range(2))
        missed = abs(float(budget.saved(masks)) - target)
        assert missed <= unit / 2 + 1e-6 or units == 0, (target, missed / unit, units)


def test_hidden_dimensions_close_where_nothing_smaller_is_left_to_close():
    """Heads alone are 73 % of the weights; the rest of the way goes through the width, and heads make up the remainder."""
    values, soft = gates({})
    chosen = {name: values[name] for name in (HIDDEN, heads_of(0), heads_of(1))}
    budget = SizeBudget(0.9, SHAPE, *_costs())
    landed = land(chosen, {name: soft[name] for name in chosen}, SHAPE, budget)
    masks = masks_of(landed, SHAPE)
    assert 0 < int(masks[HIDDEN].sum()) < 10
    assert abs(float(budget.saved(masks)) - 0.9) <= 16 * int(masks[HIDDEN].sum()) / (2 * BUDGET.dense) + 1e-6


def test_sublayers_without_gates_inside_close_as_a_whole_at_last():
    values, soft = gates({})
    chosen = {name: values[name] for name in ("ffn", heads_of(0), heads_of(1))}
    budget = SizeBudget(0.8, SHAPE, *_costs())
    masks = masks_of(land(chosen, {name: soft[name] for name in chosen}, SHAPE, budget), SHAPE)
    assert abs(float(budget.saved(masks)) - 0.8) <= HEAD / 2
    assert sum(int(masks[units_of(i)].sum()) for i in range(2)) in (0, 6)


def test_a_head_at_the_limit_of_a_ranking_is_whole_and_units_make_up_the_remainder():
    """As the method `heads` ranks: heads and units mixed."""
    values = {name: mask.float() for name, mask in full_masks(SHAPE).items()}
    order = [(units_of(0), 0), (heads_of(0), 1), (units_of(1), 3), (units_of(1), 4), (heads_of(1), 0), (units_of(0), 5)]
    for target in (2.2 * UNIT, HEAD + 1.1 * UNIT, HEAD - 0.2 * UNIT, 2 * HEAD + 3.4 * UNIT):
        result = close_until(values, values, order, SHAPE, BUDGET, target)
        assert abs(float(BUDGET.saved(masks_of(result, SHAPE))) - target) <= UNIT / 2 + 1e-6


TABLE = LatencyTable(2, Curve((0, 1, 2), (0.0, 3.0, 4.0)), Curve((0, 3, 6), (0.0, 2.0, 8.0)), rest_ms=1.0)
"""The dense model takes 25 ms."""


@pytest.mark.parametrize(
    ("part", "milliseconds"),
    [
        ({}, 25.0),
        ({heads_of(0): torch.tensor([1.0, 0.0])}, 24.0),
        ({heads_of(0): torch.tensor([0.5, 1.0])}, 24.5),
        ({units_of(1): torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])}, 19.0),
        ({"attention": torch.tensor([0.5, 1.0])}, 23.0),
        ({"ffn": torch.tensor([0.0, 1.0]), units_of(0): torch.ones(6)}, 17.0),
    ],
)
def test_expected_latency_is_read_from_the_table(part, milliseconds):
    budget = LatencyBudget(LatencyTarget(TABLE, 10.0), SHAPE)
    assert budget.target == pytest.approx(0.6)
    assert 25.0 * (1.0 - float(budget.saved(part))) == pytest.approx(milliseconds)


def test_expected_latency_has_gradients_for_every_gate():
    gates = {
        name: torch.full((len(mask),), 0.8, requires_grad=True) for name, mask in full_masks(SHAPE).items() if name != HIDDEN
    }
    gates |= {kind: torch.full((2,), 0.7, requires_grad=True) for kind in ("attention", "ffn")}
    LatencyBudget(LatencyTarget(TABLE, 10.0), SHAPE).saved(gates).backward()
    assert all((each.grad < 0).all() for each in gates.values())


def test_landing_meets_a_latency_to_a_unit():
    values, soft = gates({})
    budget = LatencyBudget(LatencyTarget(TABLE, 14.0), SHAPE)
    del values[HIDDEN], soft[HIDDEN]
    landed = land(values, soft, SHAPE, budget)
    assert 25.0 * (1.0 - float(budget.saved(masks_of(landed, SHAPE)))) == pytest.approx(14.0, abs=2.0)


def test_an_unsupported_family_is_refused_in_words():
    config = ErnieConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=24)
    with pytest.raises(UserError, match=r"'ernie' cannot be pruned structurally; supported: bert, roberta"):
        SizeBudget.of(ErnieForSequenceClassification(config), {}, 0.5)


def test_a_target_beyond_what_may_go_is_refused():
    model = tiny.classifier()
    full = {name: mask.float() for name, mask in full_masks(shape_of(model.config)).items()}
    heads = {name: values for name, values in full.items() if name.endswith(".heads")}
    budget = lambda target: SizeBudget.of(model, full_masks(shape_of(model.config)), target)  # noqa: E731
    gone = sum(p.numel() for name, p in model.named_parameters() if ".attention." in name and p.dim() > 1)
    most = gone / count_weights(model)
    check_reach(budget(most), heads)
    with pytest.raises(UserError, match=rf"target 60 % is out of reach: the parts that may go are {100 * most:.4g} % of"):
        check_reach(budget(0.6), heads)
    check_reach(budget(0.99), full)
