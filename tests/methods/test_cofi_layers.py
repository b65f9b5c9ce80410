"""CoFi's layer distillation: the transform, the term, and who learns from whom."""

import pytest
import torch

from espalier.models.modeling_espalier import shape_of
from espalier.pruning.parts import HIDDEN, full_masks
from tests import tiny
from tests.methods.conftest import begun


def test_the_transform_begins_as_the_identity(harness):
    _, method = begun(harness)
    assert torch.equal(method.transform.weight, torch.eye(32)) and not method.transform.bias.any()


def test_in_a_later_stage_the_transform_begins_as_the_selection_of_what_is_kept(harness):
    masks = full_masks(shape_of(tiny.config()))
    masks[HIDDEN][[1, 5]] = False
    _, method = begun(harness, student=tiny.classifier(1, hidden_size=30, num_attention_heads=3), masks=masks)
    narrow = torch.randn(30, generator=torch.Generator().manual_seed(0))
    wide = method.transform(narrow)
    assert torch.equal(wide[masks[HIDDEN]], narrow) and not wide[~masks[HIDDEN]].any()


def states(depth, seed, width=32):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(4, 5, width, generator=generator) for _ in range(depth))


@pytest.mark.parametrize("padding", [False, True])
def test_the_layer_term_is_the_sum_of_mean_squared_differences_of_matched_layers(harness, padding):
    _, method = begun(harness, matching="fixed")
    with torch.no_grad():
        method.transform.weight.mul_(0.5)
        method.transform.bias.fill_(0.1)
    student, teacher = states(2, 0), states(2, 1)
    real = torch.tensor([[1, 1, 1, 0, 0]] * 3 + [[1, 1, 1, 1, 1]])
    loss = method._layer_loss(student, teacher, real if padding else None)
    squares = [(0.5 * own + 0.1 - other).square() for own, other in zip(student, teacher, strict=True)]
    expected = sum(each[real.bool()].mean() if padding else each.mean() for each in squares)
    assert method.pairs == [(0, 0), (1, 1)]
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(("depth", "layers"), [(2, [0, 1]), (6, [1, 2, 4, 5]), (12, [2, 5, 8, 11])])
@pytest.mark.parametrize("matching", ["ordered", "unrestricted", "fixed"])
def test_teacher_layers_are_chosen_at_every_depth(harness, depth, layers, matching):
    small = {"num_hidden_layers": depth, "intermediate_size": 8}
    _, method = begun(harness, student=tiny.classifier(1, **small), matching=matching)
    same = states(depth, 0)
    method._layer_loss(same, same, None)
    assert method.pairs == [(layer, layer) for layer in layers], "each finds its own copy"


def test_random_matching_draws_other_teacher_layers_in_every_step(harness):
    _, method = begun(harness, student=tiny.classifier(1, num_hidden_layers=12, intermediate_size=8), matching="random")
    same, seen = states(12, 0), set()
    for step in range(4, 12):
        method.before_step(step)
        method._layer_loss(same, same, None)
        assert [layer // 3 for layer, _ in method.pairs] == [0, 1, 2, 3]
        assert all(own == layer for layer, own in method.pairs)
        seen.add(tuple(method.pairs))
    assert len(seen) > 1


@pytest.mark.parametrize(
    ("matching", "gone", "there"),
    [
        ("ordered", {("ffn", 0)}, [True, True]),
        ("ordered", {("attention", 1)}, [True, True]),
        ("ordered", {("ffn", 0), ("attention", 0)}, [False, True]),
        ("unrestricted", {("ffn", 0)}, [False, True]),
        ("unrestricted", {("attention", 0)}, [True, True]),
        ("fixed", {("ffn", 1)}, [True, False]),
        ("random", {("ffn", 1), ("attention", 1)}, [True, False]),
    ],
)
def test_ordered_matching_asks_for_either_sublayer_and_the_others_for_an_ffn(harness, matching, gone, there):
    _, method = begun(harness, matching=matching)
    method.state.present |= dict.fromkeys(gone, False)
    assert method._existing() == there
    _, public = begun(harness, matching=matching, match_gone=True)
    public.state.present |= dict.fromkeys(gone, False)
    assert public._existing() == [True, True]


def test_where_no_layer_is_left_there_is_no_layer_term(harness):
    _, method = begun(harness)
    method.state.present |= {(kind, i): False for kind in ("attention", "ffn") for i in range(2)}
    loss = method._layer_loss(states(2, 0), states(2, 1), None)
    assert float(loss.detach()) == 0.0 and method.pairs == []
