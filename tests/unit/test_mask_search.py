"""Searches of masks against all masks there are, and rearrangement against all masks of as many parts."""

from itertools import combinations, product

import pytest
import torch

from espalier.pruning.calibrated.fisher import rearranged
from espalier.pruning.calibrated.mask_search import best_parts, fastest_parts, straightened
from espalier.pruning.latency import Curve, LatencyTable

NAMES = {"layer.0.heads": 3, "layer.0.ffn": 4, "layer.1.heads": 3, "layer.1.ffn": 4}


def importances(seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(size, generator=generator) ** 3 for name, size in NAMES.items()}


EVERY = torch.tensor(list(product((False, True), repeat=sum(NAMES.values()))))
"""A row for each mask there is, the parts in the order of NAMES."""
COUNTS = torch.stack([part.sum(dim=1) for part in EVERY.split(list(NAMES.values()), dim=1)], dim=1).double()
"""Number of parts that each mask keeps under each name."""
HEADS, UNITS = COUNTS[:, ::2].sum(dim=1), COUNTS[:, 1::2].sum(dim=1)


def kept(importance):
    """What each mask keeps."""
    return EVERY.double() @ torch.cat([importance[name] for name in NAMES]).double()


def row_of(masks):
    return int((torch.cat([masks[name] for name in NAMES]) == EVERY).all(dim=1).nonzero())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("head", "unit"), [(3.0, 1.0), (1.0, 1.0), (2.5, 0.7), (0.3, 1.0)])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_the_search_under_a_size_is_brute_force(seed, head, unit, share):
    importance = importances(seed)
    allowed = HEADS * head + UNITS * unit <= share * (6 * head + 8 * unit) + 1e-6
    found = best_parts(importance, head, unit, share * (6 * head + 8 * unit))
    assert allowed[row_of(found.masks)]
    best = float(kept(importance)[allowed].max())
    assert float(kept(importance)[row_of(found.masks)]) == pytest.approx(best) == pytest.approx(found.importance)


def test_parts_that_cost_nothing_all_stay():
    found = best_parts(importances(0), 1.0, 0.0, 2.0)
    assert all(mask.all() for name, mask in found.masks.items() if name.endswith("ffn"))
    assert sum(int(mask.sum()) for name, mask in found.masks.items() if name.endswith("heads")) == 2


def milliseconds(line, counts):
    return torch.where(counts == 0, 0.0, line.first_ms + line.slope_ms * (counts - line.free).clamp(min=0.0))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("target", [1.0, 2.5, 4.0, 6.0, 8.0, 20.0])
def test_the_search_under_a_latency_is_brute_force(seed, target):
    """Over all masks whose closed sublayers are the weakest ones: others the search does not look at."""
    curves = Curve((0, 1, 2, 3), (0.0, 1.0, 1.0, 1.5)), Curve((0, 1, 2, 4), (0.0, 0.6, 1.2, 2.4))
    table, importance = LatencyTable(2, *curves, rest_ms=0.9), importances(seed)
    total, allowed = torch.full_like(HEADS, table.rest_ms), torch.ones(len(EVERY), dtype=torch.bool)
    for kind, curve in enumerate(curves):
        strengths = [float(importance[name].sum()) for name in list(NAMES)[kind::2]]
        weak, strong = COUNTS[:, kind::2][:, sorted(range(2), key=strengths.__getitem__)].T
        total += sum(milliseconds(straightened(curve), counts) for counts in (weak, strong))
        allowed &= (strong > 0) | (weak == 0)
    allowed &= total <= target + 1e-9

    found = fastest_parts(importance, table, target)
    assert allowed[row_of(found.masks)]
    assert float(kept(importance)[row_of(found.masks)]) == pytest.approx(float(kept(importance)[allowed].max()))


def test_times_become_a_level_and_a_line():
    assert straightened(Curve((0, 1, 2, 3, 4), (0.0, 1.0, 1.0, 1.5, 2.0))) == (2, 1.0, 0.5)
    free, first, slope = straightened(Curve((0, 10, 20), (0.0, 1.0, 2.0)))
    assert (free, first, slope) == pytest.approx((10, 1.0, 0.1))
    assert straightened(Curve((0, 8), (0.0, 3.0))) == (8, 3.0, 0.0)


def together(mask, gradients):
    return float(gradients[:, ~mask].double().sum(dim=1).square().sum())


@pytest.mark.parametrize("seed", range(5))
def test_a_rearranged_mask_keeps_as_many_parts_and_never_removes_more_together(seed):
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(5, 9, generator=generator)
    mask = torch.arange(9) % 2 == 0
    found = rearranged(mask, gradients)
    assert found.sum() == mask.sum() and together(found, gradients) <= together(mask, gradients) + 1e-9
    masks = [torch.isin(torch.arange(9), torch.tensor(chosen)) for chosen in combinations(range(9), 5)]
    assert together(found, gradients) < sorted(together(other, gradients) for other in masks)[len(masks) // 4]


def test_the_swap_of_a_single_removed_part_is_brute_force():
    gradients = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(8) != 3
    best = min(together(torch.arange(8) != part, gradients) for part in range(8))
    assert together(rearranged(mask, gradients), gradients) == pytest.approx(best)


def test_parts_whose_effects_cancel_are_removed_together():
    gradients = torch.tensor([[1.0, -1.0, 0.8, 3.0], [2.0, -2.0, 0.1, 3.0]])
    mask = torch.tensor([False, True, False, True])
    assert rearranged(mask, gradients).tolist() == [False, False, True, True]
