"""Sliced models equal zero-masked ones, forward and backward, in every family; and the way back to stock classes."""

import copy

import pytest
import torch

from espalier.models.classes import as_stock
from espalier.models.modeling_espalier import shape_of
from espalier.pruning.gates import attach
from espalier.pruning.parts import HIDDEN, full_masks, heads_of, masked_shape, masks_of, units_of, within
from espalier.pruning.shrink import shrink
from tests import tiny

TOLERANCE = 1e-9
"""Of the logits' size, in double precision: a wrong number would be of their size, because all parameters are large."""
SOME = {heads_of(0): [1], units_of(1): range(5, 20), units_of(2): [23]}
CASES = {
    "some heads and units": SOME,
    "no heads": {heads_of(0): range(4), heads_of(2): range(4)},
    "no units": {units_of(1): range(24), units_of(2): range(24)},
    "layers without anything": {heads_of(i): range(4) for i in (0, 2)} | {units_of(i): range(24) for i in (0, 2)},
    "layers closed as a whole": {"attention": [1], "ffn": [0, 1]},
    "every layer gone": {"attention": range(3), "ffn": range(3)},
    "hidden dimensions": {HIDDEN: [0, 9, 31]},
    "everything together": {
        **SOME,
        HIDDEN: [3, 9, 20],
        heads_of(1): range(4),
        units_of(0): range(24),
        "ffn": [2],
        "attention": [2],
    },
}


def gates_of(shape, closed):
    """Gates of 1 on every part and sublayer, and of 0 on what is closed."""
    ones = {name: torch.ones(len(mask)) for name, mask in full_masks(shape).items()}
    ones |= {kind: torch.ones(len(shape.layers)) for kind in ("attention", "ffn")}
    for name, indices in closed.items():
        ones[name][list(indices)] = 0.0
    return ones


def backward(model):
    """Logits, after the gradients of a sum that weighs each of them differently."""
    logits = model(**tiny.padded_batch()).logits
    (logits * torch.linspace(-1.0, 2.0, logits.numel()).view_as(logits)).sum().backward()
    return logits.detach()


@pytest.mark.parametrize("case", list(CASES))
def test_sliced_is_zero_masked_forward_and_backward(double, variant, case):
    model = tiny.encoder(variant)
    shape = shape_of(model.config)
    values = gates_of(shape, CASES[case])
    masks = masks_of(values, shape)
    small = shrink(model, masks)
    dense = model(**tiny.padded_batch()).logits.detach()
    wanted = shrink(_masked_gradients(model, values), masks).state_dict()

    logits, size = backward(small), float(dense.abs().max())
    masked = _masked(model, values)(**tiny.padded_batch()).logits
    assert (logits - masked).abs().max() <= TOLERANCE * size
    assert (logits - dense).abs().max() > 0.01 * size, "the case changes nothing"
    assert shape_of(small.config) == masked_shape(shape, masks)
    for name, parameter in small.named_parameters():
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert (found - wanted[name]).abs().max() <= TOLERANCE * max(1.0, float(wanted[name].abs().max())), name


def _masked(model, values):
    gated = copy.deepcopy(model)
    attach(gated, lambda: values)
    return gated


def _masked_gradients(model, values):
    """The gradients of the zero-masked model, in a model without gates."""
    gated = _masked(model, values)
    backward(gated)
    found = copy.deepcopy(model)
    grads = {name: parameter.grad for name, parameter in gated.named_parameters()}
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            parameter.copy_(torch.zeros_like(parameter) if grads[name] is None else grads[name])
    return found


def test_in_single_precision_they_agree_to_1e_5_of_the_logits_size(variant):
    model = tiny.encoder(variant)
    shape = shape_of(model.config)
    values = gates_of(shape, CASES["everything together"])
    with torch.no_grad():
        masked = _masked(model, values)(**tiny.padded_batch()).logits
        sliced = shrink(model, masks_of(values, shape))(**tiny.padded_batch()).logits
    assert (masked - sliced).abs().max() <= 1e-5 * masked.abs().max()


def test_shrinking_twice_is_shrinking_once(variant):
    model = tiny.encoder(variant)
    shape = shape_of(model.config)
    outer = masks_of(gates_of(shape, {**SOME, HIDDEN: [3], "ffn": [0]}), shape)
    once = shrink(model, outer)
    inner = full_masks(shape_of(once.config))
    inner[heads_of(0)][0], inner[units_of(1)][2:5], inner[HIDDEN][[0, 30]], inner[heads_of(2)][:] = False, False, False, False
    twice, direct = shrink(once, inner), shrink(model, within(outer, inner))
    assert twice.config.to_dict() == direct.config.to_dict()
    state = direct.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in twice.state_dict().items())


def test_the_model_itself_is_left_alone():
    model = tiny.encoder("bert")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small = shrink(model, masks_of(gates_of(shape_of(model.config), SOME), shape_of(model.config)))
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("gone", [(), (1,)])
def test_uniform_models_come_back_in_the_stock_class(double, variant, gone):
    model = tiny.encoder(variant)
    shape = shape_of(model.config)
    closed = {units_of(i): range(14, 24) for i in range(3)} | {"attention": gone, "ffn": gone}
    compact = shrink(model, masks_of(gates_of(shape, closed), shape))
    stock = as_stock(compact)
    if "modernbert" in variant and gone:
        assert stock is None, "its layers depend on their place"
        return
    assert type(stock) is type(model) and len(shape_of(stock.config).layers) == 3 - len(gone)
    batch = tiny.padded_batch()
    torch.testing.assert_close(stock(**batch).logits, compact(**batch).logits, atol=1e-10, rtol=1e-10)


def test_other_models_have_no_stock_class():
    model = tiny.encoder("bert")
    assert as_stock(shrink(model, masks_of(gates_of(shape_of(model.config), SOME), shape_of(model.config)))) is None
