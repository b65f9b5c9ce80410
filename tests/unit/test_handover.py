"""What a plan takes over from another's student: masks that fit, widths as parts, and what is gone."""

from __future__ import annotations

import pytest
import torch
from transformers import BertForSequenceClassification

from espalier.config.methods.pruning import DistilPlan
from espalier.config.methods.structured import CofiPlan
from espalier.models.encoder import count_weights, prunable_weights
from espalier.models.files import empty_model
from espalier.models.modeling_espalier import shape_of
from espalier.pruning.budget import SizeBudget
from espalier.pruning.handover import gone, taken_over
from espalier.pruning.masks import Pruner
from espalier.pruning.parts import full_masks, masks_of, original_shape, part_counts, within
from espalier.pruning.widths import Sizes
from tests import tiny

WIDTHS = Sizes(hidden=32, heads=4, head_dim=8, units=(64, 64))
NARROW = {"hidden_size": 16, "intermediate_size": 32}
"""Half of every width: heads of 4, a quarter of the matrices."""
DENSE = WIDTHS.matrices


def narrow() -> BertForSequenceClassification:
    return tiny.classifier(**NARROW)


def widths() -> dict[str, torch.Tensor]:
    """Masks that keep every other unit of every width, so half of each head."""
    return {name: torch.arange(size) % 2 == 0 for name, size in WIDTHS.groups().items()}


@pytest.fixture
def files(tmp_path):
    tiny.classifier().save_pretrained(tmp_path)
    return [tmp_path / "config.json", tmp_path / "model.safetensors"]


def test_masks_of_one_kind_are_taken_as_they_are():
    model = tiny.classifier()
    parts, single = full_masks(shape_of(model.config)), Pruner(model, allocation="layer", embeddings=False).masks
    assert taken_over(parts, "parts", model) is parts
    assert taken_over(single, "weights", model) is single
    assert taken_over(widths(), "widths", narrow())["hidden"].numel() == 32


def test_parts_and_widths_become_dimensions_of_heads():
    """A head that is gone has lost all of its dimensions, a narrowed one those that it lacks."""
    parts = full_masks(shape_of(tiny.classifier().config))
    parts["layer.1.heads"][2] = False
    rows = taken_over(parts, "rows", tiny.classifier())
    assert rows["layer.1.qk"].tolist() == rows["layer.1.vo"].tolist() == [True] * 16 + [False] * 8 + [True] * 8
    assert taken_over(rows, "rows", tiny.classifier()) is rows and taken_over(rows, "parts", tiny.classifier()) is None
    narrowed = taken_over(taken_over(widths(), "parts", narrow()), "rows", narrow())
    assert narrowed["layer.0.qk"].tolist() == ([True] * 4 + [False] * 4) * 4 and "head" not in narrowed
    assert taken_over(widths(), "rows", narrow())["layer.0.heads"].tolist() == [True] * 4


def test_masks_of_another_kind_say_nothing():
    model = tiny.classifier()
    parts, single = full_masks(shape_of(model.config)), Pruner(model, allocation="layer", embeddings=False).masks
    assert taken_over(parts, "weights", model) is taken_over(single, "parts", model) is None
    assert taken_over(widths(), "weights", narrow()) is taken_over({}, "parts", model) is None


def test_narrowed_widths_become_parts_of_the_base():
    parts, small = taken_over(widths(), "parts", narrow()), shape_of(narrow().config)
    assert parts["head"].tolist() == [True] * 4 + [False] * 4
    assert original_shape(parts, small.head_dim) == shape_of(tiny.config())
    assert part_counts(parts)["layers"][0] == {"heads": {"kept": 4, "total": 4}, "ffn": {"kept": 32, "total": 64}}
    assert part_counts(parts)["head"] == {"kept": 4, "total": 8}
    assert torch.equal(parts["hidden"], widths()["hidden"])


def test_a_budget_counts_against_the_base():
    """A quarter is left; one of its four heads is a fourth of a layer's attention, which has half of the weights there."""
    parts, model = taken_over(widths(), "parts", narrow()), narrow()
    budget = SizeBudget.of(model, parts, 0.8)
    assert budget.dense == DENSE and float(budget.saved({})) == 0.75
    closed = {"layer.0.heads": torch.tensor([1.0, 1.0, 1.0, 0.0])}
    head = 4 * 16 * 4
    assert float(budget.saved(closed)) == pytest.approx(1.0 - (DENSE / 4 - head) / DENSE)
    later = within(parts, masks_of(closed, budget.shape))
    assert later["layer.0.heads"].tolist() == [True, True, True, False] and torch.equal(later["head"], parts["head"])


def test_what_is_gone_counts_shapes_and_not_zeros(files):
    plan = DistilPlan(method="distil", path=(0.9,))
    model = tiny.classifier()
    for weight in prunable_weights(model).values():
        weight.data.zero_()
    assert gone(model, files, "classification", plan) == 0.0
    assert gone(narrow(), files, "classification", plan) == 0.75
    with_embeddings = plan.model_copy(update={"prune_embeddings": True})
    assert gone(narrow(), files, "classification", with_embeddings) == pytest.approx(
        1 - (DENSE / 4 + 64 * 16) / (DENSE + 64 * 32)
    )
    assert gone(narrow(), files, "classification", CofiPlan(method="cofi", path=(0.9,))) == 0.0


def test_a_model_without_weights_has_the_shapes(files):
    empty = empty_model(files, "classification")
    assert count_weights(empty) == DENSE
    assert all(parameter.is_meta for parameter in empty.parameters())


@pytest.mark.parametrize("allocation", ["layer", "global"])
def test_single_weights_are_removed_up_to_a_sparsity_of_the_base(allocation):
    model = narrow()
    pruner = Pruner(model, allocation=allocation, embeddings=False, gone=0.75)
    assert pruner.sparsity == 0.75
    optimizer = torch.optim.AdamW(model.parameters())
    for sparsity in (0.8, 0.95):
        pruner.remove(sparsity, {name: weight.abs() for name, weight in pruner.weights.items()}, optimizer)
        assert pruner.sparsity == pytest.approx(sparsity, abs=len(pruner.weights) / DENSE)
        left = sum(int(weight.count_nonzero()) for weight in prunable_weights(model).values())
        assert 1.0 - left / DENSE == pytest.approx(pruner.sparsity)
