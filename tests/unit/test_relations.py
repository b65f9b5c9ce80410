"""Attention scores and embeddings of a forward pass: what is recorded, and that nothing else changes."""

import pytest
import torch

from espalier.losses.terms import relation_loss
from espalier.models.attention import RECORDED, head_average, recorded
from espalier.models.modeling_espalier import find
from espalier.runtime.errors import UserError
from tests import tiny

DISPATCHING = [name for name, (family, _) in tiny.VARIANTS.items() if family != "deberta-v2"]


@pytest.mark.parametrize("variant", DISPATCHING)
def test_outputs_are_the_same_to_the_last_bit_and_nothing_is_left_behind(variant):
    model, batch = tiny.encoder(variant), tiny.padded_batch()
    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        plain = model(**batch).logits
        with recorded(model) as found:
            assert torch.equal(plain, model(**batch).logits)
        assert torch.equal(plain, model(**batch).logits)
    assert len(found.attention) == 3 and {scores.shape for scores in found.attention} == {(3, 17, 17)}
    assert model.config._attn_implementation != RECORDED
    assert not any(hasattr(module, "relations") for module in model.modules())


def test_scores_are_the_mean_over_heads_before_the_softmax():
    model, batch = tiny.encoder("bert"), tiny.padded_batch()
    with torch.no_grad(), recorded(model) as found:
        states = model(**batch, output_hidden_states=True).hidden_states
    for index, scores in enumerate(found.attention):
        attention = find(model.base_model, f"encoder.layer.{index}.attention.self")
        query, key = (
            each(states[index]).detach().view(3, 17, 4, 8).transpose(1, 2) for each in (attention.query, attention.key)
        )
        by_hand = torch.stack([query[:, head] @ key[:, head].transpose(1, 2) * 8**-0.5 for head in range(4)]).mean(dim=0)
        torch.testing.assert_close(scores, by_hand, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variant", DISPATCHING)
@torch.no_grad()
def test_recording_maps_leaves_outputs_as_they_are(variant):
    model, batch = tiny.encoder(variant), tiny.padded_batch()
    model.set_attn_implementation("sdpa")
    plain = model(**batch).logits
    with recorded(model, "maps") as found:
        torch.testing.assert_close(model(**batch).logits, plain, atol=1e-4, rtol=1e-4)
    assert {maps.shape for maps in found.maps} == {(3, 4, 17, 17)} and not found.attention
    real = batch["attention_mask"].bool()
    for maps in found.maps:
        torch.testing.assert_close(maps.sum(dim=-1).transpose(1, 2)[real], torch.ones(int(real.sum()), 4))
        assert not maps[1, :, :10, 10:].any(), "padded keys have no share"


def test_maps_have_no_dropout_and_outputs_have():
    model, batch = tiny.encoder("bert", attention_probs_dropout_prob=0.5, hidden_dropout_prob=0.0), tiny.padded_batch()
    model.train()
    passes = []
    for _ in range(2):
        with recorded(model, "maps") as found:
            passes.append((model(**batch).logits, found.maps[0]))
    (first, own), (second, again) = passes
    assert torch.equal(own, again) and not torch.equal(first, second)


def test_head_average_of_one_head_is_its_scores():
    query, key = torch.randn(2, 1, 5, 3), torch.randn(2, 1, 5, 3)
    torch.testing.assert_close(head_average(query, key, 0.5), 0.5 * query[:, 0] @ key[:, 0].transpose(1, 2))


@pytest.mark.parametrize("kind", ["output", "table"])
def test_embeddings(kind):
    model, batch = tiny.encoder("bert"), tiny.padded_batch()
    with recorded(model, kind) as found:
        first = model(**batch, output_hidden_states=True).hidden_states[0]
    expected = first if kind == "output" else model.get_input_embeddings().weight[batch["input_ids"]]
    assert torch.equal(found.embedding, expected) and found.embedding.requires_grad


def test_an_error_leaves_the_model_as_it_was():
    model = tiny.encoder("bert")
    with pytest.raises(RuntimeError, match="stop"), recorded(model):
        raise RuntimeError("stop")
    assert model.config._attn_implementation == "sdpa"
    assert not any(hasattr(module, "relations") for module in model.modules())
    assert not model.base_model.embeddings._forward_hooks


@pytest.mark.parametrize(("variant", "attention"), [("deberta-v2", "eager"), ("bert", "eager")])
def test_what_cannot_be_recorded_is_refused(variant, attention):
    model = tiny.encoder(variant)
    model.set_attn_implementation(attention)
    with pytest.raises(UserError, match="cannot be recorded"), recorded(model):
        pass


@pytest.mark.parametrize("softmax", [False, True])
def test_padded_keys_and_queries_do_not_count(softmax):
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 2, 5, 5, generator=generator)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    value = relation_loss(student, teacher, mask, softmax=softmax)
    parts = []
    for row, length in enumerate((3, 5)):
        own, theirs = (each[row, :length, :length] for each in (student, teacher))
        own, theirs = (each.softmax(dim=-1) if softmax else each for each in (own, theirs))
        parts.append((own - theirs).square().flatten())
    assert float(value) == pytest.approx(float(torch.cat(parts).mean()), rel=1e-5)
    assert float(relation_loss(student, student, mask, softmax=softmax)) == 0.0
