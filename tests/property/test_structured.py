"""What holds for all gates, masks and targets of structured pruning."""

import math
from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.losses.layer_matching import evenly_spaced, one_per_block, ordered, unrestricted
from espalier.models.encoder import count_weights
from espalier.models.modeling_espalier import Shape, shape_of
from espalier.pruning.budget import SizeBudget, land
from espalier.pruning.hard_concrete import deterministic, expected_removed, kept_probability, sample
from espalier.pruning.lagrangian import lagrangian, ramped
from espalier.pruning.parts import HIDDEN, full_masks, masks_of, within
from espalier.pruning.shrink import shrink
from tests import tiny

seeds = st.integers(0, 2**20)
fractions = st.floats(0.0, 1.0)
MODELS = {name: tiny.encoder(name) for name in ("bert", "deberta-v2, shared keys", "modernbert")}


def random_gates(shape, closed, seed):
    """Soft values of every gate, and decided ones of which about the fraction `closed` is 0; hidden dimensions never all."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {name: len(mask) for name, mask in full_masks(shape).items()} | dict.fromkeys(
        ("attention", "ffn"), len(shape.layers)
    )
    soft = {name: 0.1 + 0.89 * torch.rand(size, generator=generator) for name, size in sizes.items()}
    values = {name: value * (torch.rand(len(value), generator=generator) >= closed) for name, value in soft.items()}
    values[HIDDEN][0] = soft[HIDDEN][0]
    return values, soft


@settings(max_examples=25)
@given(st.sampled_from(sorted(MODELS)), fractions, seeds)
def test_expected_size_of_binary_masks_is_the_actual_one(name, closed, seed):
    model = MODELS[name]
    shape = shape_of(model.config)
    values, _ = random_gates(shape, closed, seed)
    masks, binary = masks_of(values, shape), {part: (value != 0).float() for part, value in values.items()}
    budget = SizeBudget.of(model, full_masks(shape), 0.5)
    dense, small = (count_weights(each) for each in (model, shrink(model, masks)))
    assert abs(float(budget.saved(binary)) - (1.0 - small / dense)) < 1e-5
    assert abs(float(budget.saved(masks)) - (1.0 - small / dense)) < 1e-5


@given(st.floats(-4.6, 4.6), seeds)
@settings(max_examples=15)
def test_the_share_of_zeros_is_the_formula_s(log_alpha, seed):
    draws = 100_000
    gates = sample(torch.full((draws,), log_alpha), torch.rand(draws, generator=torch.Generator().manual_seed(seed)))
    probability = 1.0 - float(kept_probability(torch.tensor(log_alpha)))
    assert abs(float((gates == 0).float().mean()) - probability) < 6.0 * math.sqrt(probability * (1.0 - probability) / draws)


@given(st.lists(st.floats(-4.6, 4.6), min_size=1, max_size=40))
def test_decided_gates_close_the_expected_number_of_the_lowest(values):
    log_alpha = torch.tensor(values)
    gates, removed = deterministic(log_alpha), expected_removed(log_alpha)
    assert int((gates == 0).sum()) == removed and gates.max() < 1.0
    if 0 < removed < len(values):
        assert log_alpha[gates == 0].max() <= log_alpha[gates != 0].min() + 1e-6


@given(fractions, fractions, st.integers(0, 60), st.integers(1, 90))
def test_the_target_never_falls_and_stays_between_its_ends(first, second, ramp_steps, steps):
    before, target = sorted((first, second))
    levels = [ramped(before, target, step, ramp_steps) for step in range(steps + ramp_steps)]
    assert all(later >= earlier - 1e-12 for earlier, later in pairwise(levels))
    assert all(before - 1e-12 <= level <= target + 1e-12 for level in levels)
    assert levels[ramp_steps:] == [target] * steps


@settings(max_examples=30)
@given(st.lists(st.floats(0.001, 0.9), min_size=1, max_size=12), st.sampled_from([-1.0, 1.0]))
def test_multipliers_move_the_right_way(deviations, sign):
    multipliers = torch.nn.Parameter(torch.tensor([0.3, 0.1]))
    optimizer = torch.optim.AdamW([multipliers], lr=0.01, weight_decay=0.0, maximize=True)
    for deviation in deviations:
        before = multipliers.detach().clone()
        lagrangian(torch.tensor(sign * deviation), *multipliers, "signed").backward()
        optimizer.step()
        optimizer.zero_grad()
        assert (multipliers[0] - before[0]) * sign > 0, "lambda 1 falls while too little is removed, rises while too much is"
        assert multipliers[1] > before[1], "lambda 2 never falls"


@given(seeds, st.integers(1, 8), st.integers(1, 12), st.lists(st.booleans(), min_size=12, max_size=12))
def test_ordered_matching_never_crosses(seed, count, layers, there):
    exists, teacher = there[:layers], evenly_spaced(layers, count)
    distances = torch.rand(len(teacher), layers, generator=torch.Generator().manual_seed(seed))
    pairs = ordered(distances, teacher, exists)
    students = [student for _, student in pairs]
    assert [layer for layer, _ in pairs] == (teacher if any(exists) else [])
    assert students == sorted(students) and all(exists[student] for student in students)
    repeated = {student for student in students if students.count(student) > 1}
    assert repeated <= {exists.index(True)} if any(exists) else not repeated, "only the lowest layer is taken twice"
    for layer, student in unrestricted(distances, teacher, exists):
        row = distances[teacher.index(layer)]
        assert row[student] == min(row[index] for index in range(layers) if exists[index])


@given(st.integers(1, 30), st.integers(1, 8), st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=8, max_size=8))
def test_chosen_teacher_layers_rise_and_end_at_the_last_block(layers, count, draws):
    fixed, drawn = evenly_spaced(layers, count), one_per_block(layers, count, draws)
    assert fixed[-1] == layers - 1 and len(fixed) == len(drawn) == min(count, layers)
    assert all(low < high for low, high in pairwise(fixed))
    assert all(below < chosen <= end for below, chosen, end in zip([-1, *fixed], drawn, fixed, strict=False))


SHAPE = Shape(12, 4, 12, ((3, 24), (3, 24), (3, 24)))


@settings(max_examples=60)
@given(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), st.floats(0.02, 0.98), seeds)
def test_landing_meets_the_target_to_a_part(closed, target, seed):
    values, soft = random_gates(SHAPE, closed, seed)
    dense = 12 * 3 * (16.0 * 3 + 2.0 * 24)
    budget = SizeBudget(target, SHAPE, dense, 16.0, 2.0)
    landed = land(values, soft, SHAPE, budget)
    units_left = any(name.endswith(".ffn") and mask.any() for name, mask in masks_of(landed, SHAPE).items())
    part = 12 * (2.0 if units_left else 16.0) / dense
    assert abs(float(budget.saved(masks_of(landed, SHAPE))) - target) <= part / 2 + 1e-5
    assert all(((value == 0) | (value == soft[name])).all() for name, value in landed.items())


@given(fractions, fractions, seeds)
def test_masks_of_a_later_stage_lie_within_those_of_the_one_before(first, second, seed):
    outer = masks_of(random_gates(SHAPE, first, seed)[0], SHAPE)
    generator = torch.Generator().manual_seed(seed)
    inner = {name: torch.rand(int(mask.sum()), generator=generator) >= second for name, mask in outer.items()}
    nested = within(outer, inner)
    for name, mask in nested.items():
        assert not (mask & ~outer[name]).any() and int(mask.sum()) == int(inner[name].sum())
        assert torch.equal(mask[outer[name]], inner[name])
