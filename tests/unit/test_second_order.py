"""The algebra of ZipLM and SPDY: updates against closed forms, choices against brute force."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import torch

from espalier.pruning.second_order.levels import (
    BUCKETS,
    Options,
    best_levels,
    head_counts,
    searched_coefficients,
    unit_counts,
)
from espalier.pruning.second_order.removal import damped, refitted, removal_of, remove_part, scores_of_parts


def problem(parts: int, width: int, others: int = 0, seed: int = 0, rows: int = 5, samples: int = 200):
    """A random matrix, the inputs that it reads, and H = 2/n X X^T, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    columns = parts * width + others
    mixed = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    inputs = torch.randn(samples, columns, generator=generator, dtype=torch.float64) @ mixed + 0.5
    weight = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return weight, inputs, 2.0 / samples * inputs.T @ inputs


def least_squares(weight, inputs, kept):
    """The matrix over the kept columns that writes nearest to the whole one, by torch's own least squares."""
    result = torch.zeros_like(weight)
    result[:, kept] = torch.linalg.lstsq(inputs[:, kept], inputs @ weight.T).solution.T
    return result


def loss(weight, changed, hessian):
    return float(((weight - changed) @ hessian @ (weight - changed).T).trace())


def columns_of(parts, width, columns):
    """A mask without the columns of some parts."""
    kept = torch.ones(columns, dtype=torch.bool)
    for part in parts:
        kept[part * width : (part + 1) * width] = False
    return kept


@pytest.mark.parametrize(("parts", "width", "others"), [(12, 1, 0), (12, 1, 1), (5, 4, 0), (5, 4, 1), (40, 1, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_updates_are_the_closed_form_of_least_squares(parts, width, others, seed):
    weight, inputs, hessian = problem(parts, width, others, seed)
    changed, inverse = weight.clone(), torch.linalg.inv(hessian)
    order = torch.randperm(parts, generator=torch.Generator().manual_seed(seed)).tolist()[: parts - 1]
    for number, part in enumerate(order, start=1):
        remove_part(changed, inverse, slice(part * width, (part + 1) * width))
        kept = columns_of(order[:number], width, weight.shape[1])
        expected = least_squares(weight, inputs, kept)
        torch.testing.assert_close(changed, expected, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(refitted(weight, hessian, kept), expected, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(inverse[kept][:, kept], torch.linalg.inv(hessian[kept][:, kept]), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize(("parts", "width", "others"), [(7, 1, 1), (5, 3, 1), (6, 2, 0)])
def test_a_score_is_what_the_loss_grows_by(parts, width, others):
    weight, inputs, hessian = problem(parts, width, others)
    inverse = torch.linalg.inv(hessian)
    columns = parts * width
    blocks = torch.stack([inverse[s, s] for s in (slice(p * width, (p + 1) * width) for p in range(parts))])
    scores = scores_of_parts(weight[:, :columns].reshape(len(weight), parts, width), blocks)
    for part in range(parts):
        without = least_squares(weight, inputs, columns_of([part], width, weight.shape[1]))
        assert float(scores[part]) == pytest.approx(loss(weight, without, hessian), rel=1e-8)


@pytest.mark.parametrize(("parts", "width", "others"), [(6, 1, 1), (4, 3, 0), (30, 1, 1)])
def test_parts_go_one_by_one_by_the_least_cost_and_errors_are_those_of_the_refit(parts, width, others):
    weight, _, hessian = problem(parts, width, others, seed=4)
    removal = removal_of(weight, hessian, parts, width)
    assert sorted(removal.order.tolist()) == list(range(parts))
    whole = loss(weight, torch.zeros_like(weight), hessian)

    for count in range(parts):
        gone = removal.order[:count].tolist()
        error = loss(weight, refitted(weight, hessian, columns_of(gone, width, weight.shape[1])), hessian) / whole
        assert float(removal.errors[count]) == pytest.approx(error, abs=1e-8)

        # Of all parts that are left the next one costs least.
        left = [part for part in range(parts) if part not in gone]
        costs = {
            part: loss(weight, refitted(weight, hessian, columns_of([*gone, part], width, weight.shape[1])), hessian)
            for part in left
        }
        assert min(costs, key=costs.get) == int(removal.order[count])
    assert removal.errors[0] == 0.0 and removal.errors[-1] == 1.0 and (removal.errors.diff() >= 0.0).all()


def test_what_is_removed_is_learnt_from_correlations():
    """A column that is the sum of two others goes for nothing; without its correlations it would be the most expensive one."""
    weight, inputs, _ = problem(4, 1)
    inputs[:, 2] = inputs[:, 0] + inputs[:, 1] + 1e-4 * torch.randn(len(inputs), dtype=torch.float64)
    weight[:, 2] *= 100.0
    removal = removal_of(weight, 2.0 / len(inputs) * inputs.T @ inputs, 4, 1)
    assert int(removal.order[0]) in (0, 1, 2) and float(removal.errors[1]) < 1e-6


def test_only_a_hessian_without_an_inverse_is_damped():
    _, inputs, hessian = problem(6, 1)
    assert damped(hessian) is hessian
    inputs[:, 3] = inputs[:, 1]
    flat = 2.0 / len(inputs) * inputs.T @ inputs
    added = damped(flat) - flat
    torch.testing.assert_close(added, 0.01 * flat.diagonal().mean() * torch.eye(6, dtype=torch.float64))
    assert torch.equal(damped(torch.zeros(3, 3, dtype=torch.float64)), torch.eye(3, dtype=torch.float64))
    assert torch.isfinite(
        removal_of(torch.ones(2, 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64), 3, 1).errors
    ).all()


def test_a_sublayer_that_reads_nothing_loses_nothing():
    zero = torch.zeros(4, 4, dtype=torch.float64)
    removal = removal_of(torch.ones(2, 4, dtype=torch.float64), damped(zero), 4, 1)
    assert torch.isfinite(removal.errors).all()


def test_levels_of_a_sublayer():
    assert head_counts(3) == [3, 2, 1, 0]
    assert unit_counts(10) == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    wide = unit_counts(1536)
    assert wide[:4] == [1536, 1384, 1248, 1120] and wide[-1] == 0 and 0.01 * 1536 <= wide[-2] <= 0.012 * 1536
    assert all(count % 8 == 0 for count in wide if count > 64) and wide == sorted(set(wide), reverse=True)
    assert unit_counts(1) == [1, 0]


def table(seed: int, sublayers: int = 4, levels: int = 4) -> list[Options]:
    """Costs are whole numbers of buckets, so that rounding plays no part."""
    generator = np.random.default_rng(seed)
    options = []
    for _ in range(sublayers):
        costs = np.sort(generator.integers(1, BUCKETS // 2, levels - 1))[::-1]
        errors = np.sort(generator.random(levels - 1))
        options.append(Options(np.arange(levels)[::-1], np.append(costs, 0).astype(float), np.append(0.0, errors)))
    return options


def brute_force(options, coefficients, allowed):
    """The least weighted error of all combinations that are cheap enough."""
    best = np.inf
    for levels in product(*(range(len(option.sizes)) for option in options)):
        if sum(option.costs[level] for option, level in zip(options, levels, strict=True)) <= allowed:
            best = min(best, sum(c * o.errors[i] for c, o, i in zip(coefficients, options, levels, strict=True)))
    return best


@pytest.mark.parametrize("seed", range(20))
def test_the_dynamic_programme_is_as_good_as_brute_force(seed):
    options, coefficients = table(seed), np.random.default_rng(100 + seed).random(4).tolist()
    levels = best_levels(options, coefficients, float(BUCKETS))
    reached = sum(c * o.errors[i] for c, o, i in zip(coefficients, options, levels, strict=True))
    assert reached == pytest.approx(brute_force(options, coefficients, BUCKETS), abs=1e-12)
    assert sum(option.costs[level] for option, level in zip(options, levels, strict=True)) <= BUCKETS


@pytest.mark.parametrize("allowed", [0.0, 3.7, 11.3, 1e6])
def test_costs_that_are_no_whole_buckets_are_never_exceeded(allowed):
    options = [option._replace(costs=option.costs / 777.7) for option in table(3)]
    levels = best_levels(options, [1.0] * 4, allowed)
    cost = sum(option.costs[level] for option, level in zip(options, levels, strict=True))
    assert cost <= allowed
    if allowed == 0.0:
        assert all(option.sizes[level] == 0 for option, level in zip(options, levels, strict=True))
    if allowed == 1e6:
        assert levels == [0] * 4


def test_a_budget_below_the_cheapest_choice_has_no_answer():
    options = [option._replace(costs=option.costs + 10.0) for option in table(1)]
    assert best_levels(options, [1.0] * 4, 39.0) is None
    assert best_levels(options, [1.0] * 4, 40.0) is not None


def test_coefficients_are_found_where_the_loss_asks_for_them():
    """A made-up model in which the second sublayer alone matters."""
    tried = []

    def loss_of(coefficients):
        tried.append(coefficients)
        return float((coefficients - torch.tensor([0.0, 1.0, 0.0])).abs().sum())

    draw = {"random": 10, "mutations": 60, "share": 0.3}
    best, least = searched_coefficients(loss_of, 3, torch.Generator().manual_seed(0), **draw)
    assert len(tried) == 71 and torch.equal(tried[0], torch.ones(3, dtype=torch.float64))
    assert least == min(map(loss_of, list(tried))) and loss_of(best) == least < 0.35
    again, _ = searched_coefficients(loss_of, 3, torch.Generator().manual_seed(0), **draw)
    assert torch.equal(best, again)


def test_the_greedy_order_is_near_the_best_subset():
    """Of six columns three: the greedy choice loses at most twice what the best of all twenty loses."""
    weight, _, hessian = problem(6, 1, seed=8)
    removal = removal_of(weight, hessian, 6, 1)
    losses = {
        gone: loss(weight, refitted(weight, hessian, columns_of(gone, 1, 6)), hessian) for gone in combinations(range(6), 3)
    }
    greedy = losses[tuple(sorted(removal.order[:3].tolist()))]
    assert min(losses.values()) <= greedy <= 2.0 * min(losses.values())
