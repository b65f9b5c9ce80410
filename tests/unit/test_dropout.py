"""Dropout on a CPU: the right distribution, the right gradient, nothing left behind; attention equal to torch's."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from espalier.models.dropout import (
    IN_TRAINING,
    LEVELS,
    CheapDropout,
    attention_map,
    attention_with_dropout,
    draw_kept,
    dropout,
    with_cheap_dropout,
)
from espalier.models.modeling_espalier import find
from tests import tiny

CHI2_9, CHI2_1 = 29.6, 12.1
"""Quantiles of chi-squared that a right generator exceeds once in 2,000 draws; the seed is fixed."""


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.5])
def test_elements_and_pairs_of_neighbours_are_independent_and_have_the_probability(probability):
    torch.manual_seed(0)
    kept, _ = draw_kept((200, 1001), probability)
    flat = kept.flatten().double()
    part = 1.0 - round(probability * LEVELS) / LEVELS
    assert abs(part - (1.0 - probability)) < 1e-5

    # one number by lanes and blocks, then neighbours one, two, three and four apart
    for lane in range(4):
        own = flat[lane::4]
        assert (own.sum() - part * len(own)) ** 2 / (part * (1 - part) * len(own)) < CHI2_1
    for apart in range(1, 5):
        pairs = (2 * flat[:-apart] + flat[apart:]).long()[:: 2 * apart]
        counts = torch.bincount(pairs, minlength=4).double()
        ones, zeros = part, 1.0 - part
        expected = len(pairs) * torch.tensor([zeros * zeros, zeros * ones, ones * zeros, ones * ones]).double()
        assert ((counts - expected) ** 2 / expected).sum() < CHI2_9
    blocks = flat[:200000].view(10, -1).sum(dim=1)
    assert ((blocks - 2e4 * part) ** 2 / (2e4 * part * (1 - part))).sum() < CHI2_9


def test_expectation_and_gradient_mask():
    torch.manual_seed(1)
    states = torch.ones(333, 77, requires_grad=True)
    out = dropout(states, 0.1)
    out.backward(torch.full_like(out, 2.0))
    scale = LEVELS / (LEVELS - round(0.1 * LEVELS))
    assert out.detach().unique().tolist() == pytest.approx([0.0, scale])
    assert torch.equal(states.grad, 2.0 * out.detach())
    assert abs(float(out.detach().mean()) - 1.0) < 0.01


def test_ends_of_the_range_and_evaluation():
    states = torch.randn(8, 5, requires_grad=True)
    before = torch.get_rng_state()
    assert torch.equal(dropout(states, 0.0), states)
    module = nn.Sequential(nn.Dropout(0.5))
    module[0].__class__ = CheapDropout
    assert torch.equal(module.eval()(states), states)
    gone = dropout(states, 1.0)
    gone.sum().backward()
    assert not gone.any() and not states.grad.any()
    assert torch.equal(before, torch.get_rng_state()), "none of these draws"


def test_the_generator_is_torchs_own_so_that_a_resumed_run_goes_on():
    states = torch.randn(64, 33)
    torch.manual_seed(7)
    dropout(states, 0.1)
    saved = torch.get_rng_state()
    wanted = dropout(states, 0.1)
    torch.set_rng_state(saved)
    assert torch.equal(dropout(states, 0.1), wanted) and not torch.equal(dropout(states, 0.1), wanted)


def inputs(dtype, mask="padding"):
    torch.manual_seed(3)
    query, key, value = (torch.randn(3, 7, 2, 4, dtype=dtype).transpose(1, 2).requires_grad_() for _ in range(3))
    allowed = torch.ones(3, 1, 7, 7, dtype=torch.bool)
    allowed[1, :, :, 4:] = False
    if mask == "keyless":
        allowed[2, :, 5] = False
    return [query, key, value], None if mask is None else allowed


@pytest.mark.parametrize("mask", [None, "padding", "keyless"])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_attention_is_torchs_with_the_same_dropout_mask(dtype, close, mask, probability):
    states, allowed = inputs(dtype, mask)
    torch.manual_seed(5)
    context, own_map = attention_with_dropout(*states, allowed, 0.5, probability)
    by_context, by_map = torch.randn_like(context), torch.randn_like(own_map)
    own = torch.autograd.grad((context * by_context).sum() + (own_map * by_map).sum(), states)

    # torch's math path, and the mask that was drawn
    torch.manual_seed(5)
    kept, scale = draw_kept((3, 2, 7, 7), probability) if probability else (torch.ones(3, 2, 7, 7), 1.0)
    query, key, value = states
    eye = torch.eye(7, dtype=dtype).expand(3, 2, 7, 7)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        probabilities = F.scaled_dot_product_attention(query, key, eye, allowed, scale=0.5)
    wanted = (probabilities * kept.to(dtype) * scale) @ value
    theirs = torch.autograd.grad((wanted * by_context).sum() + (probabilities * by_map).sum(), states)

    torch.testing.assert_close(context, wanted, atol=close, rtol=0)
    torch.testing.assert_close(own_map, probabilities, atol=close, rtol=0)
    for mine, right in zip(own, theirs, strict=True):
        torch.testing.assert_close(mine, right, atol=close, rtol=0)


def test_attention_gradients_against_finite_differences():
    states, allowed = inputs(torch.float64)
    states = [state[:2, :, 2:5].detach().requires_grad_() for state in states]
    allowed = allowed[:2, :, 2:5, 2:5]

    def function(*arguments):
        torch.manual_seed(5)
        return attention_with_dropout(*arguments, allowed, 0.5, 0.25)

    assert torch.autograd.gradcheck(function, states)


def test_attention_in_bf16_under_autocast():
    states, allowed = inputs(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halves = [state.to(torch.bfloat16) for state in states]
        context, own_map = attention_with_dropout(*halves, allowed, 0.5, 0.25)
    assert context.dtype == own_map.dtype == torch.bfloat16
    context.float().sum().backward()
    torch.testing.assert_close(own_map.float(), attention_map(*states[:2], allowed, 0.5), atol=0.02, rtol=0)


@pytest.mark.parametrize("variant", tiny.EVERY)
def test_a_model_has_the_same_names_outputs_and_files(variant, tmp_path):
    model, batch = tiny.encoder(variant), tiny.padded_batch()
    model.eval()
    names, attention = list(model.state_dict()), model.config._attn_implementation
    wanted = model(**batch).logits
    model.save_pretrained(tmp_path / "before")
    with_cheap_dropout(model)
    with_cheap_dropout(model)
    model.save_pretrained(tmp_path / "after")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()

    assert list(model.state_dict()) == names and torch.equal(model(**batch).logits, wanted)
    assert not any(type(module) is nn.Dropout for module in model.modules())
    assert (model.config._attn_implementation == IN_TRAINING) == (attention == "sdpa")


@pytest.mark.parametrize("variant", tiny.EVERY)
def test_every_family_trains_with_it_and_pads_as_before(variant):
    model, batch = tiny.encoder(variant), tiny.padded_batch()
    with_cheap_dropout(model)
    model.train()
    torch.manual_seed(2)
    first = model(**batch).logits
    first.sum().backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())

    # what stands at padded places changes nothing
    other = {**batch, "input_ids": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, 5)}
    torch.manual_seed(2)
    torch.testing.assert_close(model(**other).logits, first, atol=1e-6, rtol=1e-5)


def test_attention_dropout_reaches_the_model(monkeypatch):
    model, batch = tiny.encoder("bert", attention_probs_dropout_prob=0.5, hidden_dropout_prob=0.0), tiny.padded_batch()
    with_cheap_dropout(model)
    assert find(model.base_model, "encoder.layer.0.attention.self").dropout.p == 0.5
    model.train()
    assert not torch.equal(model(**batch).logits, model(**batch).logits)
