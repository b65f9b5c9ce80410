"""What a structured student may cost, as a fraction of the dense model, and how gates are brought to that cost exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from espalier.models.classes import model_class
from espalier.models.modeling_espalier import Shape, compact_config, family_of, find, shape_of, whole_heads
from espalier.pruning.lagrangian import expected_counts, expected_size
from espalier.pruning.latency import LatencyTarget, expected_latency
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, SUBLAYERS, Parts, Sublayer, masks_of, original_shape, parts_in, prunable_shape
from espalier.runtime.errors import UserError

SLACK = 5e-5
"""A target may be above the largest saving by this much, half of 0.01 %, before it is refused."""


@runtime_checkable
class Budget(Protocol):
    """A cost, and the fraction of it that has to go."""

    word: str
    """What is saved: the word that the history uses."""
    said: str
    """What it is a fraction of: the words of the error message."""

    @property
    def target(self) -> float:
        """Fraction of the dense cost to remove, in (0, 1)."""

    def saved(self, kept: Parts) -> Float[Tensor, ""]:
        """Fraction of the dense cost that is removed: expected for probabilities, exact for binary masks."""


@dataclass(frozen=True)
class SizeBudget:
    """Weights of the encoder's matrices."""

    target: float
    shape: Shape
    """Shape of the model that has the gates."""
    dense: float
    """Weights of the model that the path began with."""
    head_weights: float
    """Weights of one head for each hidden dimension."""
    unit_weights: float
    """Weights of one FFN unit for each hidden dimension."""
    word = "sparsity"
    said = "encoder's weights"

    def saved(self, kept: Parts) -> Float[Tensor, ""]:
        """Expected sparsity, in [0, 1)."""
        # s = 1 - size / M, where M counts the model that the path began with.
        return 1.0 - expected_size(kept, self.shape, self.head_weights, self.unit_weights) / self.dense

    @classmethod
    def of(cls, model: PreTrainedModel, masks: Masks, target: float) -> SizeBudget:
        """The budget of a model whose masks are over the parts of the model that the path began with.

        Source: docs/methods/cofi.md §3.2, the table of a, b and M.

        Raises:
            UserError: the model's family, or a part of it, cannot be pruned structurally.
        """
        shape = prunable_shape(model.config, model.base_model)
        family = family_of(model.config)

        # a = d_h (matrices that read + 1 that writes), 4 d_h for BERT; b = matrices that read + 1, 2 for BERT, 3 where gated.
        head_weights = float(shape.head_dim * (matrices_that_read(model) * family.head_blocks + 1))
        unit_weights = float(len(family.ffn_in) * family.ffn_blocks + 1)

        # M counts the model that the path began with, whose heads may have been wider.
        original = original_shape(masks, shape.head_dim)
        original_head_weights = head_weights * original.head_dim / shape.head_dim
        dense = float(expected_size({}, original, original_head_weights, unit_weights))
        return cls(target, shape, dense, head_weights, unit_weights)


def matrices_that_read(model: PreTrainedModel) -> int:
    """How many matrices of a layer's attention have rows that belong to heads: 3 for BERT, more for DeBERTa."""
    family = family_of(model.config)
    shape = shape_of(model.config)

    # Where no layer has attention left, count in a model of the family that has one head in each layer, or all.
    if not any(heads for heads, _ in shape.layers):
        layer = (whole_heads(model.config) or 1, 0)
        config = compact_config(model.config, shape._replace(layers=(layer,) * len(shape.layers)))
        with torch.device("meta"):
            model = model_class(config)(config)

    layers = find(model.base_model, family.layers)
    return max(sum(find(layer, path) is not None for path in family.to_heads) for layer in layers)


@dataclass(frozen=True)
class LatencyBudget:
    """Milliseconds, read from a table of sublayer times."""

    latency: LatencyTarget
    shape: Shape
    """Shape of the model that has the gates."""
    word = "saved_latency"
    said = "latency"

    @property
    def target(self) -> float:
        """Fraction of the dense latency to save, in (0, 1)."""
        return self.latency.removed

    def saved(self, kept: Parts) -> Float[Tensor, ""]:
        """Expected fraction of the dense latency that is saved."""
        # Without hidden dimensions: they have no gates under this budget, because a table holds for one hidden width.
        table = self.latency.table
        return 1.0 - expected_latency(table, *expected_counts(kept, self.shape)) / table.dense_ms


def check_reach(budget: Budget, gated: Parts) -> None:
    """Refuse a target that is not met even when all gated parts are gone.

    Raises:
        UserError: the target is out of reach; the message says how much the gated parts are.
    """
    # Masks of zeros give the exact saving, where probabilities would never reach 0.
    all_closed = {name: torch.zeros_like(values, dtype=torch.float32) for name, values in gated.items()}
    reachable = float(budget.saved(all_closed))

    if budget.target > reachable + SLACK:
        raise UserError(
            f"target {100 * budget.target:.4g} % is out of reach: the parts that may go are {100 * reachable:.4g} % of the "
            f"{budget.said}; aim lower, or let more kinds of parts go"
        )


@torch.no_grad()
def land(values: Parts, soft: Parts, shape: Shape, budget: Budget) -> dict[str, Tensor]:
    """Close or open the parts nearest to the decision until the budget is met as nearly as single parts allow.

    FFN units come first, because they are small. Where all units would not do, heads follow as a whole, then hidden
    dimensions, then sublayers whose parts have no gates; units make up the remainder. Where all are open and the model is
    still too small, the parts that were nearest to staying come back: sublayers, then heads, then hidden dimensions.

    Source: ours; docs/methods/cofi.md §3.5, step 5.
    Differs from the authors' code: they accept a deviation of 0.01 instead.

    Args:
        values: decided gates, 0 = closed.
        soft: the same gates before any was closed; the part with the lowest value is closed first.
        shape: shape of the model that has the gates.
        budget: the cost to meet.
    """
    order = _closing_order(values, soft, shape)

    # Closing can only save more. So parts are opened until the budget is within reach with every part of the order open.
    for name, index in _opening_order(values, soft):
        if _saving_with_all_open(values, soft, order, shape, budget) <= budget.target:
            break
        values = _with_open(values, soft, name, index)
        order = _closing_order(values, soft, shape)

    return close_until(values, soft, order, shape, budget, budget.target)


def _saving_with_all_open(values: Parts, soft: Parts, order: Sequence[tuple[str, int]], shape: Shape, budget: Budget) -> float:
    return float(budget.saved(masks_of(_with_closed(values, soft, order, 0), shape)))


def _opening_order(values: Parts, soft: Parts) -> list[tuple[str, int]]:
    """Closed sublayers, then closed heads, then closed hidden dimensions; in each kind the highest soft value comes first."""
    kinds = [
        [kind for kind in SUBLAYERS if kind in values],
        [name for name in values if name.endswith(".heads")],
        [name for name in (HIDDEN,) if name in values],
    ]

    order = []
    for names in kinds:
        closed = []
        for name in names:
            for index in (values[name] == 0).nonzero().flatten().tolist():
                closed.append((float(soft[name][index]), name, index))
        # The highest soft value is the gate that was nearest to staying open.
        order += [(name, index) for _, name, index in sorted(closed, reverse=True)]
    return order


def _with_open(values: Parts, soft: Parts, name: str, index: int) -> Parts:
    """The gates with one part open at its soft value."""
    place = torch.tensor([index], device=soft[name].device)
    return {**values, name: values[name].index_fill(0, place, float(soft[name][index]))}


def close_until(
    values: Parts, soft: Parts, order: Sequence[tuple[str, int]], shape: Shape, budget: Budget, target: float
) -> dict[str, Tensor]:
    """Close parts from the beginning of `order`, as many as bring the saving nearest to the target; open the others.

    Where the part at the limit is larger than others of the order, it is closed or open as a whole, and the smaller parts,
    first ones first, make up the remainder.

    Args:
        values: gates, 0 = closed; parts that `order` leaves out stay as they are.
        soft: value of a part that is open.
        order: name and index of parts.
        shape: shape of the model that has the gates.
        budget: says what a saving is.
        target: fraction to save.
    """

    def saving(gates: Parts) -> float:
        return float(budget.saved(masks_of(gates, shape)))

    # Binary search for the smallest number of closed parts that save enough: a saving never falls as more are closed.
    low = 0
    high = len(order)
    while low < high:
        middle = (low + high) // 2
        if saving(_with_closed(values, soft, order, middle)) >= target:
            high = middle
        else:
            low = middle + 1

    # One part fewer may be nearer to the target.
    candidates = [_with_closed(values, soft, order, count) for count in (max(low - 1, 0), low)]

    # With the larger parts decided either way, the smaller ones come nearer.
    smaller, ways = _decided_either_way(values, soft, order, low)
    candidates += [close_until(way, soft, smaller, shape, budget, target) for way in ways]
    return min(candidates, key=lambda gates: abs(saving(gates) - target))


def _decided_either_way(
    values: Parts, soft: Parts, order: Sequence[tuple[str, int]], count: int
) -> tuple[list[tuple[str, int]], list[dict[str, Tensor]]]:
    """Parts that are smaller than the one at place `count` of an order, and the gates without and with that one closed.

    There are no such gates where no part is smaller. Of the larger parts those that come before are closed.
    """
    limit = _rank(order[count - 1]) if count else 0
    smaller = [part for part in order if _rank(part) < limit]
    if not smaller:
        return smaller, []

    larger = [part for part in order if _rank(part) >= limit]
    place = larger.index(order[count - 1])
    return smaller, [_with_closed(values, soft, larger, closed) for closed in (place, place + 1)]


def _rank(part: tuple[str, int]) -> int:
    """Units, heads, hidden dimensions, sublayers: from the parts that save least to those that save most."""
    name = part[0]
    if name.endswith(".ffn"):
        return 0
    if name.endswith(".heads"):
        return 1
    return 2 if name == HIDDEN else 3


def _closing_order(values: Parts, soft: Parts, shape: Shape) -> list[tuple[str, int]]:
    """Units of open sublayers in the order in which they are closed, then open heads, hidden dimensions and sublayers."""
    ranked: dict[Sublayer, list[tuple[bool, float, str, int]]] = {kind: [] for kind in SUBLAYERS}
    for kind in SUBLAYERS:
        for layer in range(len(shape.layers)):
            name = parts_in(kind, layer)
            # Parts of a closed sublayer are gone already: closing them would save nothing.
            if name in values and not (kind in values and values[kind][layer] == 0):
                ranked[kind] += _gates_of(name, values, soft)

    # Sorting puts what is closed already first, then the lowest soft value.
    units = sorted(ranked["ffn"])
    open_heads = [head for head in sorted(ranked["attention"]) if head[0]]

    # One hidden dimension stays. Sublayers go as a whole where nothing inside them may go.
    hidden = [dimension for dimension in sorted(_gates_of(HIDDEN, values, soft)) if dimension[0]][:-1]
    whole = []
    for kind in SUBLAYERS:
        sublayers = [gate for gate in _gates_of(kind, values, soft) if gate[0]]
        whole += [gate for gate in sublayers if parts_in(kind, gate[3]) not in values]
    return [(name, index) for _, _, name, index in (*units, *open_heads, *hidden, *sorted(whole))]


def _gates_of(name: str, values: Parts, soft: Parts) -> list[tuple[bool, float, str, int]]:
    """Whether it is open, soft value, name and index of every gate of a vector; none where there is no such vector."""
    if name not in values:
        return []
    pairs = zip(values[name].tolist(), soft[name].tolist(), strict=True)
    return [(value != 0, score, name, index) for index, (value, score) in enumerate(pairs)]


def _with_closed(values: Parts, soft: Parts, order: Sequence[tuple[str, int]], count: int) -> dict[str, Tensor]:
    """The gates with the first `count` parts of the order closed, and the others open at their soft value."""
    result = {name: value.clone() for name, value in values.items()}

    for closed, parts in ((False, order[count:]), (True, order[:count])):
        # One indexed write for each vector of gates instead of one write for each part.
        indices: dict[str, list[int]] = {}
        for name, index in parts:
            indices.setdefault(name, []).append(index)
        for name, chosen in indices.items():
            result[name][chosen] = torch.zeros_like(soft[name][chosen]) if closed else soft[name][chosen]

    return result
