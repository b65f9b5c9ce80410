"""What holds for all inputs."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.data.batches import epoch_order
from espalier.kinds.base import soft_label_loss
from espalier.losses.terms import correlation_matrix, cross_correlation_loss
from espalier.pruning.masks import Pruner
from espalier.pruning.schedules import sparsity_steps
from espalier.pruning.scores import keep_highest, magnitude
from espalier.training.schedule import interval_bounds, learning_rate_factor
from tests import tiny

sparsity = st.floats(0.0, 0.98)
kinds = st.sampled_from(["uniform", "geometric", "cubic"])
seeds = st.integers(0, 2**20)


def states(seed, rows=6, hidden=4):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, hidden)))


@given(sparsity, sparsity, st.integers(1, 40), kinds)
def test_sparsity_rises_and_ends_exactly_on_target(first, second, steps, kind):
    before, target = sorted((first, second))
    levels = sparsity_steps(before, target, steps, kind)
    assert len(levels) == steps and levels[-1] == target
    assert all(later >= earlier - 1e-12 for earlier, later in zip([before, *levels], levels, strict=False))


@given(
    st.lists(st.floats(0.01, 5.0), min_size=1, max_size=6),
    st.integers(1, 50),
    st.floats(0.0, 1.0),
    st.sampled_from(["linear", "constant"]),
)
def test_the_learning_rate_is_a_factor(epochs, per_epoch, warmup, schedule):
    bounds = interval_bounds(epochs, per_epoch)
    factors = [learning_rate_factor(step, bounds, warmup, schedule) for step in range(bounds[-1])]
    assert all(0.0 < factor <= 1.0 for factor in factors)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60), st.data())
def test_removal_is_exact_and_never_takes_a_higher_score(values, data):
    scores = torch.tensor(values, dtype=torch.float32)
    removed = data.draw(st.integers(0, len(values)))
    kept = keep_highest(scores, removed)
    assert int((~kept).sum()) == removed
    if 0 < removed < len(values):
        assert scores[~kept].max() <= scores[kept].min()


@settings(max_examples=20)
@given(seeds, st.lists(sparsity, min_size=1, max_size=4), st.sampled_from(["layer", "global"]))
def test_masks_nest_whatever_the_scores(seed, levels, allocation):
    model = tiny.classifier(seed)
    optimizer = torch.optim.AdamW(model.parameters())
    pruner = Pruner(model, allocation=allocation, embeddings=False)
    generator = torch.Generator().manual_seed(seed)
    for level in sorted(levels):
        before = {name: mask.clone() for name, mask in pruner.masks.items()}
        pruner.remove(level, {name: torch.rand(w.shape, generator=generator) for name, w in pruner.weights.items()}, optimizer)
        assert not any((pruner.masks[name] & ~before[name]).any() for name in before)
        assert abs(pruner.sparsity - level) < 1e-3
    assert all((weight[~pruner.masks[name]] == 0).all() for name, weight in pruner.weights.items())
    assert magnitude(next(iter(pruner.weights.values()))).min() >= 0


@given(seeds, st.floats(0.25, 8.0))
def test_kl_is_not_negative_and_zero_on_equal_logits(seed, temperature):
    student, teacher = states(seed), states(seed + 1)
    assert soft_label_loss(student, teacher, temperature=temperature, kind="classification") >= -1e-6
    assert soft_label_loss(teacher, teacher + 3.0, temperature=temperature, kind="classification").abs() < 1e-5


@given(seeds, st.lists(st.floats(0.1, 10.0), min_size=4, max_size=4), st.lists(st.floats(-5.0, 5.0), min_size=4, max_size=4))
def test_cross_correlation_is_blind_to_scale_and_shift_of_features(seed, scale, shift):
    student, teacher = states(seed), states(seed + 1)
    loss = cross_correlation_loss(student, teacher, off_diagonal=0.005)
    changed = cross_correlation_loss(student * torch.tensor(scale) + torch.tensor(shift), teacher, off_diagonal=0.005)
    torch.testing.assert_close(loss, changed, atol=1e-4, rtol=1e-4)


@given(seeds)
def test_cross_correlation_is_symmetric_and_blind_to_the_order_of_rows(seed):
    student, teacher = states(seed), states(seed + 1)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(student)))
    matrix = correlation_matrix(student, teacher)
    torch.testing.assert_close(correlation_matrix(teacher, student), matrix.T)
    torch.testing.assert_close(correlation_matrix(student[order], teacher[order]), matrix, atol=1e-5, rtol=1e-5)
    assert matrix.abs().max() <= 1.0 + 1e-5
    loss = cross_correlation_loss(student, teacher, off_diagonal=0.005)
    torch.testing.assert_close(cross_correlation_loss(teacher, student, off_diagonal=0.005), loss)


@given(st.integers(1, 300), st.integers(1, 40), seeds, st.integers(0, 5))
def test_an_epoch_is_a_partition_into_full_batches(rows, size, seed, epoch):
    lengths = np.random.default_rng(seed).integers(3, 60, rows)
    batches = epoch_order(lengths, size, seed, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows))
    assert sum(len(batch) != size for batch in batches) <= 1
