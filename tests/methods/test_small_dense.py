"""The small student of equal size, beyond the matrix."""

import pytest
import torch

from espalier.models.encoder import count_weights
from espalier.models.modeling_espalier import shape_of
from espalier.pruning.parts import full_masks, heads_of, units_of
from tests import tiny


def plan(target=0.6, **settings):
    return {"method": "small-dense", "path": [target], "epochs": 1.0, **settings}


def deep(layers):
    return tiny.classifier(1, num_hidden_layers=layers)


@pytest.mark.parametrize("kind", ["sliced", "layers"])
@pytest.mark.parametrize("target", [0.05, 0.5, 0.61, 0.8, 0.95])
def test_the_size_is_met_to_half_a_unit_before_training_begins(harness, kind, target):
    loop = harness.loop(plan(target, kind=kind), student=deep(5))
    assert abs(1.0 - count_weights(loop.student) / count_weights(deep(5)) - target) <= 32 / count_weights(deep(5)) + 1e-6
    assert shape_of(loop.student.config).hidden == 32, "the residual stream stays whole"


@pytest.mark.parametrize("target", [0.3, 0.61, 0.9])
def test_sliced_layers_differ_by_one_part_at_most(harness, target):
    layers = shape_of(harness.loop(plan(target), student=deep(5)).student.config).layers
    for sizes in zip(*layers, strict=True):
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("target", "kept"), [(0.5, [1, 3, 5]), (0.55, [1, 3, 5]), (0.7, [2, 5]), (0.9, [5])])
def test_kept_layers_are_evenly_spaced_and_as_few_as_can_hold_the_size(harness, target, kept):
    layers = shape_of(harness.loop(plan(target, kind="layers"), student=deep(6)).student.config).layers
    assert [index for index, sizes in enumerate(layers) if sizes != (0, 0)] == kept


def test_what_is_kept_is_drawn_anew_for_each_seed_and_has_the_dense_weights(harness):
    first, other = (harness.loop(plan(), seed=seed) for seed in (0, 1))
    assert any(not torch.equal(mask, other.method.kept[name]) for name, mask in first.method.kept.items())
    rows = first.method.kept[units_of(1)]
    dense, small = tiny.classifier(1), first.student
    assert torch.equal(
        small.bert.encoder.layer[1].intermediate.dense.bias, dense.bert.encoder.layer[1].intermediate.dense.bias[rows]
    )


@pytest.mark.parametrize("sizes", [{0: 1, 1: 4}, {0: 4, 1: 1}])
def test_what_a_narrow_layer_cannot_hold_goes_to_the_others(harness, sizes):
    method = harness.loop(plan()).method
    for _ in range(6):  # in whatever order the layers are drawn
        chosen = {name: torch.zeros_like(mask) for name, mask in full_masks(shape_of(tiny.config())).items()}
        method._spread(chosen, heads_of, 4, sizes)
        assert [int(chosen[heads_of(i)].sum()) for i in range(2)] == [min(size, 3) for size in sizes.values()]


def test_loss_weights_are_alpha_and_its_rest(harness):
    method = harness.loop(plan(alpha=0.3)).method
    assert method.loss_weights == pytest.approx({"task": 0.7, "kld": 0.3})
