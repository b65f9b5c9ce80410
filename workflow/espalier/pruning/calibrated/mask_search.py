"""The heads and FFN units with the largest importance that a budget allows.

Source: Kwon et al. 2022, arXiv 2204.09656, mask search; docs/methods/kwon.md §2.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from espalier.pruning.latency import Curve, LatencyTable
from espalier.pruning.masks import Masks

PartImportance = Mapping[str, Float[Tensor, " parts"]]
"""Name of a layer's heads or units → importance of each, at least 0."""
HAIR = 1e-9
"""Fraction of a part by which rounding may exceed a budget."""


class Found(NamedTuple):
    """A mask and what it keeps."""

    importance: float
    masks: Masks


def best_parts(importance: PartImportance, head_cost: float, unit_cost: float, allowed: float) -> Found:
    """The mask with the largest kept importance, where every head costs the same, and every unit.

    For each number of heads the best of them, and as many of the best units as the rest of the budget allows: one of these
    is the best of all masks, because a worse head or unit never saves more than a better one.

    Source: Kwon et al. 2022, algorithm of the mask search under FLOPs.
    Differs from the authors' code: nothing known.

    Args:
        importance: of the parts to choose from.
        head_cost: of a head.
        unit_cost: of a unit; 0 where units cost nothing.
        allowed: budget, at least 0.
    """
    heads, units = ({name: values for name, values in importance.items() if name.endswith(end)} for end in (".heads", ".ffn"))
    of_heads, of_units = _sums(heads), _sums(units)

    # Numbers of heads that fit, and for each the number of units.
    counts = torch.arange(len(of_heads), dtype=torch.float64)
    left = allowed - counts * head_cost
    fits = left >= -HAIR * head_cost
    most = torch.full_like(left, torch.inf) if unit_cost == 0 else left.clamp(min=0.0) / unit_cost + HAIR
    more = most.clamp(max=len(of_units) - 1).floor().long()

    totals = (of_heads + of_units[more]).masked_fill(~fits, -torch.inf)
    best = int(totals.argmax())
    return Found(float(totals[best]), _highest(heads, best) | _highest(units, int(more[best])))


def _sums(importance: PartImportance) -> Float[Tensor, " counts"]:
    """Entry n: the sum of the n largest."""
    every = torch.cat([torch.zeros(0), *importance.values()]).double().cpu()
    return torch.cat([torch.zeros(1, dtype=torch.float64), every.sort(descending=True).values.cumsum(0)])


def _highest(importance: PartImportance, count: int) -> Masks:
    """Masks of the parts with the largest importance of all; of equal ones the first are kept."""
    every = torch.cat([torch.zeros(0), *importance.values()]).double().cpu()
    kept = torch.zeros(len(every), dtype=torch.bool)
    kept[every.argsort(descending=True, stable=True)[:count]] = True
    return dict(zip(importance, kept.split([len(values) for values in importance.values()]), strict=True))


class CostLine(NamedTuple):
    """The time of a sublayer: `first_ms` for up to `free` parts, then `slope_ms` more for each."""

    free: int
    first_ms: float
    slope_ms: float


def straightened(curve: Curve) -> CostLine:
    """The line that comes nearest to the times that were measured.

    Source: Kwon et al. 2022, the latency model of its search.
    Differs from the authors' code: the bend is one of the sizes that were timed, the one with the least squared error.
    """
    sizes, times = torch.tensor(curve.sizes[1:], dtype=torch.float64), torch.tensor(curve.times_ms[1:], dtype=torch.float64)

    lines = []
    for place in range(len(sizes)):
        # The mean of what is level, and the best slope from there on.
        first = float(times[: place + 1].mean())
        beyond = (sizes - sizes[place]).clamp(min=0.0)
        slope = float((beyond * (times - first)).sum() / beyond.square().sum()) if place + 1 < len(sizes) else 0.0
        slope = max(0.0, slope)
        error = float((first + slope * beyond - times).square().sum())
        lines.append((error, CostLine(int(sizes[place]), first, slope)))
    return min(lines)[1]


def fastest_parts(importance: PartImportance, table: LatencyTable, target_ms: float) -> Found:
    """The mask with the largest kept importance that is fast enough, by straightened times.

    The weakest attention and FFN sublayers go as a whole, as many of each as turns out best. The others cost their first
    time and have some parts free for it; the rest of the budget goes to the best of the other parts.

    Source: Kwon et al. 2022, algorithm of the mask search under latency; docs/methods/kwon.md §2.2.
    Differs from the authors' code: a sublayer is weak by the sum of its importances.

    Args:
        importance: of the parts of all sublayers that there are.
        table: times of sublayers.
        target_ms: time to stay below; above the time of the rest.
    """
    lines = {".heads": straightened(table.attention), ".ffn": straightened(table.ffn)}
    weakest = {
        end: sorted((name for name in importance if name.endswith(end)), key=lambda name: float(importance[name].sum()))
        for end in lines
    }
    free = {name: _highest({name: values}, lines[_end(name)].free)[name] for name, values in importance.items()}

    best = Found(-1.0, {})
    for closed_attention in range(len(weakest[".heads"]) + 1):
        for closed_ffn in range(len(weakest[".ffn"]) + 1):
            kept = [*weakest[".heads"][closed_attention:], *weakest[".ffn"][closed_ffn:]]
            left = target_ms - table.rest_ms - sum(lines[_end(name)].first_ms for name in kept)
            if left < 0.0:
                continue

            # What is free is kept anyway, so that the others compete for what is left.
            others = {name: importance[name].cpu().masked_fill(free[name], 0.0) for name in kept}
            fitting = best_parts(others, lines[".heads"].slope_ms, lines[".ffn"].slope_ms, left)
            total = fitting.importance + sum(float(importance[name].cpu()[free[name]].sum()) for name in kept)
            if total > best.importance:
                best = Found(total, {name: fitting.masks[name] | free[name] for name in kept})

    closed = {name: torch.zeros(len(values), dtype=torch.bool) for name, values in importance.items()}
    return best._replace(masks=closed | best.masks)


def _end(name: str) -> str:
    return name[name.rindex(".") :]
