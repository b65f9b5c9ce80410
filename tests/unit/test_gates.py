"""Gates inside a running model: soft ones, their folding into the weights, padding, and what the formulas say."""

import copy

import pytest
import torch

from espalier.models.modeling_espalier import shape_of
from espalier.pruning import gates
from espalier.pruning.fold import folded
from espalier.pruning.gates import attach, open_layer_norm, sublayer_gate
from espalier.pruning.parts import HIDDEN, full_masks, heads_of, units_of
from tests import tiny


def soft_gates(shape, closed=()):
    """Gates between 0.4 and 1 on everything; of each name in `closed` some are 0."""
    generator = torch.Generator().manual_seed(3)
    sizes = {name: len(mask) for name, mask in full_masks(shape).items()} | dict.fromkeys(
        ("attention", "ffn"), len(shape.layers)
    )
    values = {name: 0.4 + 0.6 * torch.rand(size, generator=generator) for name, size in sizes.items()}
    for name in closed:
        values[name][1:3] = 0.0
    return values


def gated(model, values):
    found = copy.deepcopy(model)
    return found, attach(found, lambda: values)


CLOSED = [(), (HIDDEN,), (heads_of(1), units_of(0), HIDDEN), ("attention", heads_of(0)), ("ffn", HIDDEN)]


@pytest.mark.parametrize("closed", CLOSED, ids=lambda names: ", ".join(names) or "nothing")
def test_folding_is_exact(double, variant, closed):
    model = tiny.encoder(variant)
    values = soft_gates(shape_of(model.config), closed)
    batch = tiny.padded_batch()
    with torch.no_grad():
        dense, masked = model(**batch).logits, gated(model, values)[0](**batch).logits
        small = folded(model, values)(**batch, output_hidden_states=True)
    assert (small.logits - masked).abs().max() <= 1e-9 * dense.abs().max()
    assert (masked - dense).abs().max() > 0.01 * dense.abs().max()


def test_closed_parts_are_left_out_and_every_gradient_is_that_of_the_whole_model(double, variant, monkeypatch):
    batch, found = tiny.padded_batch(), {}
    for worth in (gates.WORTH, -1.0):  # at -1 everything is computed, and gates alone say what counts
        monkeypatch.setattr(gates, "WORTH", worth)
        model = tiny.encoder(variant)
        values = soft_gates(shape_of(model.config), ("attention", heads_of(0), HIDDEN))
        values[units_of(0)][3:] = 0.0
        values = {name: value.requires_grad_() for name, value in values.items()}
        model, state = gated(model, values)
        logits = model(**batch).logits
        logits.square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        gradients |= {name: value.grad * (value != 0) for name, value in values.items()}  # a closed gate's goes nowhere
        found[worth] = (state, [logits, *gradients.values()])

    (state, sliced), (_, whole) = found.values()
    heads, units = shape_of(model.config).layers[0]
    assert (state.computed["attention", 0].count, state.computed["ffn", 0].count) == (heads - 2, 16 if units > 17 else units)
    assert state.computed["attention", 1].count == 1, "a closed sublayer"
    for narrow, wide in zip(sliced, whole, strict=True):
        assert (narrow is None) == (wide is None)
        if narrow is not None:
            torch.testing.assert_close(narrow, wide, atol=1e-10, rtol=1e-9)


def test_hidden_states_of_gated_and_folded_models_are_the_same_on_what_is_kept(double):
    model = tiny.encoder("bert")
    values = soft_gates(shape_of(model.config), (HIDDEN,))
    kept, batch = values[HIDDEN] != 0, tiny.padded_batch()
    masked = gated(model, values)[0](**batch, output_hidden_states=True).hidden_states
    small = folded(model, values)(**batch, output_hidden_states=True).hidden_states
    for wide, narrow in zip(masked, small, strict=True):
        assert (wide[..., ~kept] == 0).all()
        torch.testing.assert_close(wide[..., kept], narrow, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("kinds", [("heads",), ("ffn",), ("attention",), (HIDDEN,), ()])
def test_gates_that_are_left_out_are_open(double, variant, kinds):
    model = tiny.encoder(variant)
    every = soft_gates(shape_of(model.config), (heads_of(0), units_of(0)))
    chosen = {name: value for name, value in every.items() if name.endswith(kinds or "nothing")}
    ones = {name: torch.ones_like(value) for name, value in every.items()}
    with torch.no_grad():
        subset = gated(model, chosen)[0](**tiny.padded_batch()).logits
        filled = gated(model, ones | chosen)[0](**tiny.padded_batch()).logits
        dense = model(**tiny.padded_batch()).logits
    torch.testing.assert_close(subset, filled, atol=1e-10, rtol=1e-9)
    assert bool(kinds) == bool((subset - dense).abs().max() > 1e-3)


def test_padding_is_not_attended_to(variant):
    model = tiny.encoder(variant)
    model, _ = gated(model, soft_gates(shape_of(model.config)))
    batch = tiny.padded_batch()
    other = torch.where(batch["attention_mask"].bool(), batch["input_ids"], 41)
    by_tokens = variant in ("roberta", "xlm-roberta", "camembert")  # these count positions by the tokens that are not padding
    positions = {"position_ids": torch.arange(17).repeat(3, 1) + 1} if by_tokens else {}
    with torch.no_grad():
        first = model(**batch, **positions).logits
        second = model(input_ids=other, attention_mask=batch["attention_mask"], **positions).logits
        short = model(
            input_ids=batch["input_ids"][1:2, :10], **{name: value[:1, :10] for name, value in positions.items()}
        ).logits
        seen = model(input_ids=other, **positions).logits
    size = first.abs().max()
    assert (first - second).abs().max() <= 1e-5 * size
    assert (first[1:2] - short).abs().max() <= 1e-5 * size
    assert (seen - first)[1].abs().max() > 1e-3 * size, "without its mask the padding counts"


def test_gates_are_read_anew_in_every_forward_pass_and_gradients_flow_to_them():
    model = tiny.encoder("bert")
    shape, seen = shape_of(model.config), []
    values = {name: value.requires_grad_() for name, value in soft_gates(shape).items()}
    attach(model, lambda: seen.append(1) or values)
    for _ in range(2):
        model(**tiny.padded_batch()).logits.sum().backward()
    assert len(seen) == 2
    assert all(value.grad is not None and (value.grad != 0).any() for value in values.values())


def test_a_closed_sublayer_is_an_identity_and_known_as_gone(double):
    model = tiny.encoder("bert")
    values = {heads_of(1): torch.zeros(4), "ffn": torch.tensor([1.0, 0.0, 1.0])}
    model, state = gated(model, values)
    hidden = model(**tiny.padded_batch(), output_hidden_states=True).hidden_states
    assert torch.equal(hidden[2], hidden[1])
    gone = {place for place, there in state.present.items() if not there}
    assert gone == {("attention", 1), ("ffn", 1)} and len(state.present) == 6


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, None),
        ({"ffn": torch.tensor([0.3, 0.5])}, 0.5),
        ({"layer.1.ffn": torch.tensor([0.0, 0.2])}, 1.0),
        ({"layer.1.ffn": torch.tensor([0.0, 0.0])}, 0.0),
        ({"ffn": torch.tensor([0.3, 0.5]), "layer.1.ffn": torch.tensor([0.0, 0.2])}, 0.5),
        ({"ffn": torch.tensor([0.3, 0.5]), "layer.1.ffn": torch.tensor([0.0, 0.0])}, 0.0),
    ],
)
def test_a_sublayer_s_gate_is_closed_where_all_that_it_holds_is(values, expected):
    gate = sublayer_gate(values, "ffn", 1)
    assert gate is None if expected is None else float(gate) == expected


def test_layer_norm_over_open_dimensions_is_layer_norm_of_the_narrow_vector(double):
    generator = torch.Generator().manual_seed(0)
    gate = torch.tensor([0.7, 0.0, 1.0, 0.2, 0.0])
    kept = gate != 0
    states = torch.randn(4, 3, 5, generator=generator) * 3 + 2
    weight, bias = torch.randn(5, generator=generator), torch.randn(5, generator=generator)
    states = states * kept
    narrow = torch.nn.functional.layer_norm(states[..., kept], (3,), weight[kept], bias[kept], 1e-5) * gate[kept]
    for shift, wanted in ((bias, narrow), (None, narrow - bias[kept] * gate[kept])):
        wide = open_layer_norm(states, gate, int(kept.sum()), weight, shift, 1e-5)
        torch.testing.assert_close(wide[..., kept], wanted)
        assert (wide[..., ~kept] == 0).all()


def test_models_with_parts_that_cannot_be_pruned_are_refused_before_training():
    with pytest.raises(ValueError, match=r"encoder\.conv"):
        attach(tiny.encoder("deberta-v2", conv_kernel_size=3, conv_act="gelu"), dict)
