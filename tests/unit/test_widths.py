"""Widths: what belongs together, sizes that meet a target, cutting in place, and the model to keep."""

import copy
from itertools import pairwise

import pytest
import torch
import transformers
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM

from espalier.models.modeling_espalier import find
from espalier.pruning.parts import HIDDEN
from espalier.pruning.widths import Sizes, Widths, axes_of, between, choose, exported, final_sizes, narrowed, writers
from espalier.runtime.errors import UserError
from tests import tiny

VARIANTS = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert")
REFUSED = ("electra, projected", "deberta-v2", "modernbert")


def language_model(variant="bert", seed=0):
    """Three layers of four heads of 8, 24 units, hidden 32; large random weights, the decoder tied."""
    encoder = tiny.encoder(variant)
    config = copy.deepcopy(encoder.config)
    torch.manual_seed(seed)
    return tiny.randomised(getattr(transformers, type(encoder).__name__.replace("SequenceClassification", "MaskedLM"))(config))


@pytest.fixture(params=VARIANTS)
def variant(request):
    return request.param


def random_choice(widths, goal, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = {name: torch.rand(int(mask.sum()), generator=generator) for name, mask in widths.kept.items()}
    return choose(scores, goal, across_layers=False)


GOAL = Sizes(20, 4, 5, (15, 15, 15))


def test_every_group_has_its_members():
    axes = axes_of(language_model())
    layer = "bert.encoder.layer.1."
    assert axes["bert.embeddings.word_embeddings.weight"] == {1: HIDDEN}
    assert axes["bert.embeddings.LayerNorm.bias"] == {0: HIDDEN}
    assert axes[f"{layer}attention.self.query.weight"] == {0: "layer.1.qk", 1: HIDDEN}
    assert axes[f"{layer}attention.self.key.bias"] == {0: "layer.1.qk"}
    assert axes[f"{layer}attention.self.value.weight"] == {0: "layer.1.vo", 1: HIDDEN}
    assert axes[f"{layer}attention.output.dense.weight"] == {0: HIDDEN, 1: "layer.1.vo"}
    assert axes[f"{layer}intermediate.dense.weight"] == {0: "layer.1.ffn", 1: HIDDEN}
    assert axes[f"{layer}output.dense.weight"] == {0: HIDDEN, 1: "layer.1.ffn"}
    assert axes[f"{layer}output.dense.bias"] == {0: HIDDEN}
    assert axes["cls.predictions.transform.dense.weight"] == {0: HIDDEN, 1: HIDDEN}
    assert "cls.predictions.bias" not in axes


def test_writers_leave_out_what_reads_and_what_normalises():
    model = language_model()
    found = writers(model, axes_of(model))
    assert found["bert.embeddings.word_embeddings.weight"] == {1: HIDDEN}
    assert found["bert.encoder.layer.0.output.dense.weight"] == {0: HIDDEN}
    assert found["bert.encoder.layer.0.attention.self.query.bias"] == {0: "layer.0.qk"}
    assert not [name for name in found if "LayerNorm" in name or name.startswith("cls.")]


def test_layers_that_a_ranking_over_all_has_thinned_keep_a_unit():
    start = Sizes(276, 12, 23, (1500, 1400, 1300, 1200, 885, 3))
    sizes = final_sizes(start, start.matrices * 0.5, 8)
    assert sizes.units[-1] in (1, 2) and all(units % 8 == 0 for units in sizes.units[:-1])
    assert abs(sizes.matrices / start.matrices - 0.5) < 0.01


@pytest.mark.parametrize("variant", REFUSED)
def test_other_families_are_refused_by_name(variant):
    with pytest.raises(UserError, match=rf"{variant.split(',')[0]}.*supported.*distilbert"):
        axes_of(tiny.encoder(variant))


@pytest.mark.parametrize(
    ("hidden", "head_dim", "millions"), [(576, 48, 65.7), (252, 21, 17.0), (240, 20, 15.8), (228, 19, 14.6)]
)
def test_the_totals_of_the_paper_s_models(hidden, head_dim, millions):
    """Specification, section 4: HomoBERT-base, -small, -xsmall and -tiny, without pooler and head."""
    start = Sizes.of(BertConfig())
    sizes = final_sizes(start, start.matrices * (hidden / 768) ** 2)
    assert sizes == Sizes(hidden, 12, head_dim, (4 * hidden,) * 12)
    with torch.device("meta"):
        bert = transformers.BertModel(BertConfig(), add_pooling_layer=False)
        config = BertConfig(hidden_size=hidden, intermediate_size=4 * hidden)
        small = transformers.BertModel(config, add_pooling_layer=False)
    assert sum(each.numel() for each in small.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
    matrices = [sum(p.numel() for n, p in each.encoder.named_parameters() if p.dim() > 1) for each in (bert, small)]
    assert matrices == [start.matrices, sizes.matrices]


@pytest.mark.parametrize("sparsity", [0.1, 0.3, 0.5, 0.75, 0.9])
@pytest.mark.parametrize(
    "start", [Sizes(384, 12, 32, (1536,) * 6), Sizes(768, 12, 64, (3072,) * 12), Sizes(32, 4, 8, (64,) * 2)]
)
def test_final_sizes_hold_what_is_asked_for_by_nearly_one_fraction(start, sparsity):
    final = final_sizes(start, start.matrices * (1 - sparsity))
    unit = 2 * final.hidden * len(start.units)
    assert abs(final.matrices - start.matrices * (1 - sparsity)) <= unit / 2
    assert final.hidden == final.heads * final.head_dim and len(set(final.units)) == 1
    if start.head_dim > 8:
        fractions = [final.hidden / start.hidden, final.units[0] / start.units[0]]
        assert fractions == pytest.approx([(1 - sparsity) ** 0.5] * 2, rel=0.11)


def test_a_size_that_no_widths_have_is_refused():
    with pytest.raises(UserError, match=r"no widths leave 8 of the 16,384 weights .* lower sparsity"):
        final_sizes(Sizes(32, 4, 8, (64, 64)), 8.0)


def test_widths_on_the_way_fall_from_start_to_end():
    start = Sizes(32, 4, 8, (24, 24, 24))
    way = [between(start, GOAL, above / 10) for above in range(10, -1, -1)]
    assert way[0] == start and way[-1] == GOAL
    for one, two in pairwise(way):
        assert one.hidden >= two.hidden and one.head_dim >= two.head_dim and one.units >= two.units


def test_widths_on_the_way_are_multiples_but_the_last():
    start = Sizes(384, 12, 32, (1536,) * 6)
    final = final_sizes(start, start.matrices / 2, 8)
    assert final == Sizes(276, 12, 23, (1048,) * 6)
    way = [between(start, final, above / 100, 8) for above in range(100, -1, -1)]
    assert way[0] == start and way[-1] == final
    assert all(sizes.hidden % 8 == 0 or sizes.hidden == 276 for sizes in way)
    assert all(sizes.units[0] % 8 == 0 for sizes in way)
    assert all(one.hidden >= two.hidden and one.units >= two.units for one, two in pairwise(way))


def test_the_best_units_stay_and_heads_stay_alike():
    model = language_model()
    widths = Widths(model, {})
    scores = {name: torch.arange(len(mask)).float() for name, mask in widths.kept.items()}
    kept = choose(scores, GOAL, across_layers=False)
    assert kept[HIDDEN].nonzero().flatten().tolist() == list(range(12, 32))
    assert kept["layer.2.ffn"].nonzero().flatten().tolist() == list(range(9, 24))
    assert torch.equal(kept["layer.0.qk"].view(4, 8), (torch.arange(8) >= 3).expand(4, 8))


def test_across_layers_units_compete_and_each_layer_keeps_one():
    widths = Widths(language_model(), {})
    scores = {name: torch.rand(len(mask)) for name, mask in widths.kept.items()}
    scores["layer.0.ffn"] += 10.0
    scores["layer.1.ffn"] -= 10.0
    kept = choose(scores, GOAL, across_layers=True)
    counts = [int(kept[f"layer.{layer}.ffn"].sum()) for layer in range(3)]
    assert counts == [24, 1, 20] and sum(counts) == sum(GOAL.units)


def masked_reference(model, kept):
    """Logits and last hidden state with everything that is removed set to zero, and LayerNorms over what is kept."""
    model, axes = copy.deepcopy(model), axes_of(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            for axis, group in axes.get(name, {}).items():
                shape = [-1 if place == axis else 1 for place in range(parameter.dim())]
                parameter.mul_(kept[group].view(shape))
    left = kept[HIDDEN]

    def normalise(module, inputs, output):
        states = inputs[0][..., left]
        result = torch.zeros_like(output)
        result[..., left] = torch.nn.functional.layer_norm(
            states, states.shape[-1:], module.weight[left], module.bias[left], module.eps
        )
        return result

    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.register_forward_hook(normalise)
    return model


def test_masked_is_sliced_is_exported(variant):
    model, batch = language_model(variant), tiny.padded_batch()
    widths = Widths(model, {})
    kept = random_choice(widths, GOAL)
    reference = masked_reference(model, kept)
    with torch.no_grad():
        dense, masked = model(**batch).logits, reference(**batch).logits
        widths.cut(kept, None)
        sliced = model(**batch).logits
        small = exported(model, widths.now)
        alone = small(**batch).logits
    scale = float(dense.abs().max())
    assert (masked - sliced).abs().max() <= 1e-5 * scale and (sliced - alone).abs().max() <= 1e-5 * scale
    assert (dense - masked).abs().max() > 0.01 * scale
    assert type(small) is type(model) and Sizes.of(small.config) == widths.now == GOAL


def test_the_exported_model_opens_with_transformers_alone(variant, tmp_path):
    model = language_model(variant)
    widths = Widths(model, {})
    widths.cut(random_choice(widths, GOAL), None)
    exported(model, widths.now).save_pretrained(tmp_path)
    again, report = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    batch = tiny.padded_batch()
    torch.testing.assert_close(again.eval()(**batch).logits, model(**batch).logits, atol=1e-4, rtol=1e-4)


def test_cutting_twice_is_cutting_once():
    once, twice = language_model(), language_model()
    first, second = Widths(once, {}), Widths(twice, {})
    second.cut(random_choice(second, Sizes(28, 4, 6, (20, 20, 20))), None)
    second.cut(random_choice(second, GOAL, seed=1), None)
    first.reset_to(second.kept, None)
    assert first.now == second.now == GOAL
    assert all(torch.equal(one, two) for one, two in zip(once.parameters(), twice.parameters(), strict=True))


def test_moments_scores_and_projections_are_cut_along_and_training_goes_on():
    model, batch = language_model(), tiny.padded_batch()
    projection = torch.nn.Parameter(torch.eye(32))
    widths = Widths(model, {"projection.0.weight": projection})
    optimizer = torch.optim.AdamW([*model.parameters(), projection], lr=1e-3, fused=True)
    embeddings = model.get_input_embeddings().weight

    def step():
        states = model(**batch, output_hidden_states=True)
        (states.logits.square().mean() + (states.hidden_states[-1] @ projection).square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    before = {name: optimizer.state[p]["exp_avg_sq"].clone() for name, p in widths.parameters.items()}
    store = {name: p.detach().clone() for name, p in widths.parameters.items()}
    kept = random_choice(widths, GOAL)
    widths.cut(kept, optimizer, [store])
    for name, parameter in widths.parameters.items():
        axes = widths.axes.get(name, {})
        assert torch.equal(optimizer.state[parameter]["exp_avg_sq"], narrowed(before[name], axes, kept))
        assert torch.equal(store[name], parameter)
    assert projection.shape == (20, 32)
    assert model.get_input_embeddings().weight is embeddings is model.get_output_embeddings().weight
    weights = [p.detach().clone() for p in model.parameters()]
    step()
    assert not any(torch.equal(old, new) for old, new in zip(weights, model.parameters(), strict=True))


def test_the_scale_of_attention_stays_while_training_and_is_folded_at_the_end():
    model = language_model()
    widths = Widths(model, {})
    widths.cut(random_choice(widths, GOAL), None)
    attention = find(model.base_model, "encoder.layer.0.attention.self")
    assert attention.scaling == 8**-0.5 and attention.attention_head_size == 5
    small = find(exported(model, widths.now).base_model, "encoder.layer.0.attention.self")
    assert small.scaling == 5**-0.5
    torch.testing.assert_close(small.query.weight, attention.query.weight * (5 / 8) ** 0.5)
    assert torch.equal(small.key.weight, attention.key.weight)


def test_unequal_heads_are_refused():
    compact = BertConfig(num_hidden_layers=2, per_layer_config={"0": {"num_attention_heads": 3}}, head_dim=64)
    with pytest.raises(UserError, match="as many heads"):
        Sizes.of(compact)


def test_later_widths_come_from_the_model_itself():
    model = language_model()
    widths = Widths(model, {})
    widths.cut(random_choice(widths, GOAL), None)
    later = Widths(exported(model, widths.now), {})
    assert later.start == GOAL and isinstance(later.model, BertForMaskedLM)
