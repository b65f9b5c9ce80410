"""Pruning inside heads against its equations, beyond the matrix: importance, order, schedule, sizes, and what is refused."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from espalier.config.methods import AnyPlan
from espalier.kinds.base import soft_label_loss
from espalier.models.encoder import count_weights
from espalier.models.forward import forward
from espalier.models.modeling_espalier import HeadRows, shape_of
from espalier.pruning.handover import taken_over
from espalier.pruning.inside_heads.choice import equal_order, free_order, kept_at, regularised
from espalier.pruning.inside_heads.rows import RowTable, full_row_masks
from espalier.pruning.parts import HIDDEN, full_masks, heads_of, masks_of, queries_of, units_of, values_of
from espalier.pruning.shrink import shrink
from espalier.pruning.widths import Sizes
from espalier.runtime.errors import UserError
from tests import tiny
from tests.methods import pieces
from tests.methods.conftest import GRAIN

PLAN = {"method": "grain", **GRAIN}


def plan_of(**settings):
    return TypeAdapter(AnyPlan).validate_python({**PLAN, **settings})


def table_of(model=None) -> RowTable:
    model = model or tiny.classifier(1)
    return RowTable.of(model, full_row_masks(shape_of(model.config)))


def gathered(harness, **settings):
    """Sums over a batch of 27 rows before the first step, its loop, and the batch; no dropout, in double precision."""
    loop = pieces.halted(
        harness.loop(
            {**PLAN, **pieces.BATCH, **settings}, student=harness.model(1, **pieces.STILL), teacher=harness.model(2).double()
        ),
        1,
    )
    loop.student.double()
    picked = pieces.picked(loop)
    loop._gradients(picked)
    return loop, loop._batch(picked, loop.step)


def test_importance_is_the_sum_of_weight_times_gradient_of_the_prediction_term_alone(harness):
    loop, batch = gathered(harness)
    method, student = loop.method, loop.student
    sums, lines = method.gathered.grad[:-1], method.gathered.grad[-1]
    assert lines == 27
    found = {name: own / lines for name, own in method.table.split(sums).items()}

    student.zero_grad()
    logits = forward(student, batch).logits
    soft_label_loss(logits, loop.teacher(batch).logits, temperature=8.0, kind="classification").backward()
    layer = student.bert.encoder.layer[1]
    query, key, value = (getattr(layer.attention.self, name).weight for name in ("query", "key", "value"))
    out, up, down = layer.attention.output.dense.weight, layer.intermediate.dense.weight, layer.output.dense.weight
    products = {id(weight): (weight * weight.grad).detach() for weight in (query, key, value, out, up, down)}
    for row in (0, 9, 31):
        expected = products[id(query)][row].sum() + products[id(key)][row].sum()
        assert float(found[queries_of(1)][row]) == pytest.approx(float(expected), rel=1e-4, abs=1e-8)
        expected = products[id(value)][row].sum() + products[id(out)][:, row].sum()
        assert float(found[values_of(1)][row]) == pytest.approx(float(expected), rel=1e-4, abs=1e-8)
        expected = products[id(up)][row].sum() + products[id(down)][:, row].sum()
        assert float(found[units_of(1)][row]) == pytest.approx(float(expected), rel=1e-4, abs=1e-8)


def test_without_separation_the_hidden_term_counts(harness):
    """The sums are then of the gradients that train the weights."""
    loop, _ = gathered(harness, separate_gradients=False)
    method = loop.method
    assert method.gathered.grad is None
    key = loop.student.bert.encoder.layer[0].attention.self.key.weight
    query = loop.student.bert.encoder.layer[0].attention.self.query.weight
    expected = float(((query * query.grad)[5].sum() + (key * key.grad)[5].sum()).abs())
    before = method.table.split(method.importance)[queries_of(0)][5].item()
    method.after_backward(loop.step)
    after = method.table.split(method.importance)[queries_of(0)][5].item()
    assert after == pytest.approx(0.8 * before + 0.2 * expected, rel=1e-4) and expected > 0


def test_importance_is_smoothed_from_absolute_values(harness):
    loop = harness.loop({**PLAN, "smoothing": 0.75})
    loop._begin()
    method = loop.method
    for sums in (8.0, -4.0):
        grad = torch.full_like(method.gathered, sums * 2)
        grad[-1] = 2.0
        method.gathered.grad = grad
        method._smooth()
    # 0.25 * 8 = 2; 0.75 * 2 + 0.25 * 4 = 2.5
    assert torch.allclose(method.importance, torch.full_like(method.importance, 2.5))
    assert method.gathered.grad is None


def test_structreg_weakens_what_is_left_of_thin_heads():
    table = table_of()
    kept = torch.ones(len(table.weights), dtype=torch.bool)
    # Head 2 of layer 1 loses all its queries and 4 of its 8 values: 4 of 16 dimensions are left.
    parts = table.split(kept)
    parts[queries_of(1)][16:24] = False
    parts[values_of(1)][16:20] = False
    scores = table.split(regularised(torch.full((len(kept),), 2.0), table, kept, 0.3))
    assert scores[values_of(1)][20:24].tolist() == pytest.approx([2 * math.tanh(0.25 / 0.3)] * 4)
    assert scores[values_of(1)][0].item() == pytest.approx(2 * math.tanh(1 / 0.3))
    assert scores[units_of(1)].unique().tolist() == [2.0]
    plain = torch.rand(len(kept), generator=torch.Generator().manual_seed(0))
    assert torch.equal(regularised(plain, table, kept, 0.0), plain), "0 leaves scores as they are"


def test_sparsity_rises_fast_first(harness):
    loop = harness.loop({**PLAN, "epochs": 5.0, "prune_start": 0.2, "prune_end": 0.7})
    loop._begin()
    method = loop.method
    assert (loop.method.stage.steps, method.first, method.last) == (20, 4, 14)
    # 0.6 (1 - (1 - p)^3) at p = 0, 0.5, 1
    assert [method._target(step) for step in (0, 4, 9, 14, 19)] == pytest.approx([0.0, 0.0, 0.6 * 0.875, 0.6, 0.6])


@pytest.mark.parametrize("heads", [2, 4, 8])
@pytest.mark.parametrize("head_rows", ["equal", "unequal"])
def test_what_is_gone_stays_gone_and_the_size_is_met(harness, heads, head_rows):
    student = tiny.classifier(1, num_attention_heads=heads)
    teacher = tiny.classifier(2, num_attention_heads=heads)
    loop = harness.loop({**PLAN, "path": [0.7], "head_rows": head_rows}, student=student, teacher=teacher)
    seen, method, before_step = [], loop.method, loop.method.before_step

    def watched(step):
        before_step(step)
        seen.append(method.kept.clone())
        for matrix in method.matrices:
            assert not matrix.weight[~matrix.along(method.masks).expand_as(matrix.weight)].any()

    method.before_step = watched
    loop.run()
    assert all(not (after & ~before).any() for before, after in pairwise(seen))
    assert bool(seen[method.first].all()) and not bool(seen[method.first + 1].all())
    assert method.sparsity == pytest.approx(0.7, abs=32 * 2 / 2 / method.table.dense + 1e-6)

    small, shape = method.shrink(loop.student), shape_of(method.shrink(loop.student).config)
    assert count_weights(small) == round((1 - method.sparsity) * method.table.dense), "the file has no zeros"
    if head_rows == "equal":
        assert all(rows is None or not rows.queries for rows in shape.rows) and shape.rows
        assert {count for count, _ in shape.layers} <= {0, heads}
    weights = loop.student.bert.encoder.layer[0].attention.self.query.weight
    gone = ~method.table.split(method.kept).get(queries_of(0))
    assert gone.any() and not weights[gone].any()


def test_the_lowest_score_a_weight_goes_first():
    table = table_of()
    scores = torch.rand(len(table.weights), generator=torch.Generator().manual_seed(0))
    kept = torch.ones_like(scores, dtype=torch.bool)
    kept[3] = False
    places = free_order(scores, table, kept)
    assert places[3] == -1
    best = [int(table.split(scores)[queries_of(layer)].argmax()) + 128 * layer for layer in range(2)]
    order = [row for row in places.argsort()[1:].tolist() if row not in best]
    assert scores[order].tolist() == sorted(scores[order].tolist()), "in BERT all have two weights a dimension"
    assert sorted(places[best].tolist()) > [max(places[order].tolist())] * 2, "no layer is left without queries"


def test_equal_heads_give_their_weakest_dimensions_together():
    table = table_of()
    scores = torch.full((len(table.weights),), 100.0)
    parts = table.split(scores)
    # In layer 0 each head's weakest dimension of queries is 1, 2, 3, 4, that of values 0, and they have the lowest scores.
    for head in range(4):
        parts[queries_of(0)][8 * head + head + 1] = 1.0
        parts[values_of(0)][8 * head] = 2.0
    parts[units_of(1)][7] = 1.0
    kept = torch.ones_like(scores, dtype=torch.bool)
    places = table.split(equal_order(scores, table, kept))
    # The unit has 0.5 a weight; the group has 4 (1 + 2) over 4 (2 + 2) weights: 0.75.
    assert places[units_of(1)][7] == 0
    assert [int(place) for place in (places[queries_of(0)] == 1).nonzero()] == [1, 10, 19, 28]
    assert [int(place) for place in (places[values_of(0)] == 1).nonzero()] == [0, 8, 16, 24]
    left = kept_at(equal_order(scores, table, kept), table, (2 + 16) * 32 / table.dense)
    assert [int(table.split(~left)[name].sum()) for name in (queries_of(0), values_of(0), units_of(1))] == [4, 4, 1]


def test_a_group_that_is_too_large_lets_later_units_go_in_its_place():
    table = table_of()
    scores = torch.full((len(table.weights),), 100.0)
    parts = table.split(scores)
    parts[queries_of(0)][:] = parts[values_of(0)][:] = 1.0
    parts[units_of(0)][:] = 10.0
    places = equal_order(scores, table, torch.ones_like(scores, dtype=torch.bool))
    left = kept_at(places, table, 40 * 32 / table.dense)
    # 40 weights a dimension: two groups of 16, and four units of 2.
    gone = {name: int(each.sum()) for name, each in table.split(~left).items() if each.any()}
    assert gone == {queries_of(0): 8, values_of(0): 8, units_of(0): 4}


def test_queries_go_with_the_last_value_of_their_head():
    table = table_of()
    kept = torch.ones(len(table.weights), dtype=torch.bool)
    parts = table.split(kept)
    parts[values_of(0)][8:16] = False
    settled = table.split(table.settled(kept))
    assert settled[queries_of(0)].tolist() == [True] * 8 + [False] * 8 + [True] * 16
    assert table.masks(table.settled(kept))[heads_of(0)].tolist() == [True, False, True, True]


def test_masks_over_parts_and_over_widths_are_taken_over(harness):
    """What another plan has removed counts, and inside what it has left more goes."""
    dense = tiny.classifier(1)
    parts = full_masks(shape_of(dense.config))
    parts[heads_of(0)][1] = parts[units_of(1)][5] = parts[HIDDEN][3] = False
    student = shrink(dense, parts)
    masks = taken_over(parts, "rows", student)
    assert masks[values_of(0)].tolist() == [True] * 8 + [False] * 8 + [True] * 16
    loop = harness.run(PLAN, student=student, masks=masks, before=0.1)
    assert loop.method.sparsity == pytest.approx(0.6, abs=1e-2)
    assert not (loop.method.end()[queries_of(0)] & ~masks[queries_of(0)]).any()
    assert count_weights(loop.method.shrink(loop.student)) == round((1 - loop.method.sparsity) * loop.method.table.dense)

    widths = {name: torch.arange(size) % 2 == 0 for name, size in Sizes(32, 4, 8, (64, 64)).groups().items()}
    narrow = tiny.classifier(hidden_size=16, intermediate_size=32)
    masks = taken_over(widths, "rows", narrow)
    table = RowTable.of(narrow, masks)
    assert table.saved(torch.ones(len(table.weights), dtype=torch.bool)) == pytest.approx(0.75)
    assert table.whole == 16


def test_what_cannot_be_is_refused(harness):
    for latency in ({"latency_ms": 5.0}, {"speedup": 2.0}):
        with pytest.raises(ValidationError, match=r"method grain cannot aim at .*; allowed: parameters, sparsity"):
            plan_of(path=[latency])
    with pytest.raises(ValidationError, match=r"prune_start 0\.5 must be below prune_end 0\.4"):
        plan_of(prune_start=0.5, prune_end=0.4)
    with pytest.raises(UserError, match="too short to prune in: 1 steps; needed: at least 3"):
        harness.run({**PLAN, "batch_size": 64, "epochs": 1.0})


def ragged():
    """A student whose heads differ, and the masks that have led to it."""
    dense = tiny.classifier(1)
    masks = full_row_masks(shape_of(dense.config))
    masks[queries_of(0)][:3] = masks[values_of(1)][9:11] = False
    return shrink(dense, masks), masks


def test_equal_does_not_go_on_from_unlike_heads_and_no_other_method_does(harness):
    student, masks = ragged()
    assert shape_of(student.config).rows[1] == HeadRows(8, ("11111111",) * 4, ("11111111", "11111100") + ("11111111",) * 2)
    with pytest.raises(
        UserError, match="those of layer 0 of the model to start from have 5, 8, 8, 8 dimensions of queries and 8"
    ):
        harness.run(PLAN, student=copy.deepcopy(student), masks=masks, before=0.05)
    loop = harness.run({**PLAN, "head_rows": "unequal"}, student=copy.deepcopy(student), masks=masks, before=0.05)
    assert loop.method.sparsity == pytest.approx(0.6, abs=2e-3)
    for method in ("obs", "heads", "cofi", "kprune", "small-dense"):
        plan = {"method": method, "path": [0.8], **({"epochs": 1.0} if method in ("obs", "small-dense") else {})}
        with pytest.raises(UserError, match="among structured methods only grain goes on from it"):
            harness.run(plan, student=copy.deepcopy(student), masks=masks, before=0.05, work=method)


def test_a_stage_without_removal_trains_what_is_left(harness):
    student, masks = ragged()
    loop = harness.loop({**PLAN, "head_rows": "unequal"}, student=student, masks=masks)
    loop.method.stage = replace(loop.method.stage, sparsity_before=0.0, target=0.0, bounds=(2,), removals={})
    loop.run()
    assert torch.equal(loop.method.end()[queries_of(0)], masks[queries_of(0)])
    assert loop.method.shrink(loop.student) is loop.student
    assert masks_of({}, shape_of(student.config)).keys() < masks.keys()
