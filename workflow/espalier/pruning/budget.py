"""What a structured student may cost, as a fraction of the dense model, and how gates are brought to it exactly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from espalier.models.classes import model_class
from espalier.models.modeling_espalier import Shape, compact_config, family_of, find, shape_of
from espalier.pruning.lagrangian import expected_counts, expected_size
from espalier.pruning.latency import LatencyGoal, expected_latency
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, SUBLAYERS, Parts, Sublayer, inside, masks_of, original_shape, prunable_shape
from espalier.runtime.errors import UserError


@runtime_checkable
class Budget(Protocol):
    """A cost and the share of it that has to go."""

    word: str
    """What is saved, for the history."""
    said: str
    """What it is saved of."""

    @property
    def target(self) -> float:
        """Fraction of the dense cost to remove, in (0, 1)."""

    def saved(self, kept: Parts) -> Float[Tensor, ""]:
        """Fraction of the dense cost that is removed, expected over gates; exact for binary masks."""


@dataclass(frozen=True)
class SizeBudget:
    """Weights of the encoder's matrices."""

    target: float
    shape: Shape
    """Of the model that has the gates."""
    dense: float
    """Weights of the model that the path began with."""
    head_weights: float
    unit_weights: float
    word = "sparsity"
    said = "encoder's weights"

    def saved(self, kept: Parts) -> Float[Tensor, ""]:
        """Expected sparsity, in [0, 1)."""
        return 1.0 - expected_size(kept, self.shape, self.head_weights, self.unit_weights) / self.dense

    @classmethod
    def of(cls, model: PreTrainedModel, masks: Masks, target: float) -> SizeBudget:
        """The budget of a model that the masks, over the parts of the model that the path began with, have led to.

        Raises:
            UserError: the model's family, or a part of it, cannot be pruned structurally.
        """
        shape, family = prunable_shape(model.config, model.base_model), family_of(model.config)
        head_weights = float(shape.head_dim * (_matrices_that_read(model) * family.head_blocks + 1))
        unit_weights = float(family.ffn_blocks + 1)
        whole = original_shape(masks, shape.head_dim)
        whole_head = head_weights * whole.head_dim / shape.head_dim
        return cls(target, shape, float(expected_size({}, whole, whole_head, unit_weights)), head_weights, unit_weights)


def _matrices_that_read(model: PreTrainedModel) -> int:
    """How many matrices of a layer's attention have rows that belong to heads, whatever layers have been left."""
    family, shape = family_of(model.config), shape_of(model.config)
    if not any(heads for heads, _ in shape.layers):
        config = compact_config(model.config, shape._replace(layers=((1, 0),) * len(shape.layers)))
        with torch.device("meta"):
            model = model_class(config)(config)
    layers = find(model.base_model, family.layers)
    return max(sum(find(layer, path) is not None for path in family.to_heads) for layer in layers)


@dataclass(frozen=True)
class LatencyBudget:
    """Milliseconds, read from a table."""

    goal: LatencyGoal
    shape: Shape
    """Of the model that has the gates."""
    word = "saved_latency"
    said = "latency"

    @property
    def target(self) -> float:
        """Fraction of the dense latency to save."""
        return self.goal.removed

    def saved(self, kept: Parts) -> Float[Tensor, ""]:
        """Expected fraction of the dense latency that is saved."""
        table = self.goal.table
        return 1.0 - expected_latency(table, *expected_counts(kept, self.shape)) / table.dense_ms


def check_reach(budget: Budget, gated: Parts) -> None:
    """Refuse a target that cannot be met even where all parts that may go are gone.

    Raises:
        UserError: saying how much they are.
    """
    most = float(budget.saved({name: torch.zeros_like(values, dtype=torch.float32) for name, values in gated.items()}))
    if budget.target > most + 5e-5:
        raise UserError(
            f"target {100 * budget.target:.4g} % is out of reach: the parts that may go are {100 * most:.4g} % of the "
            f"{budget.said}; aim lower, or let more kinds of parts go"
        )


@torch.no_grad()
def land(values: Parts, soft: Parts, shape: Shape, budget: Budget) -> dict[str, Tensor]:
    """Close or open the parts nearest to the decision until the budget is met as nearly as single parts allow.

    FFN units come first, because they are small; where all are gone, heads follow. Where all are open and the model is
    still too small, what was nearest to staying comes back: sublayers, then heads, then hidden dimensions.
    Source: ours; the authors accept a deviation of 0.01 (docs/methods/cofi.md §3.5).

    Args:
        values: decided gates, 0 = closed.
        soft: the same before any was closed; the lower, the sooner it is closed.
        shape: of the model that has the gates.
        budget: to meet.
    """
    for name, index in (("", 0), *_closed(values, soft)):
        values = _with_open(values, soft, name, index)
        order = _order(values, soft, shape)
        if float(budget.saved(masks_of(_with_closed(values, soft, order, 0), shape))) <= budget.target:
            break
    return close_until(values, soft, order, shape, budget, budget.target)


def _closed(values: Parts, soft: Parts) -> list[tuple[str, int]]:
    """Closed sublayers, then heads, then hidden dimensions, each kind from the softest gate down."""

    def of(names: Iterable[str]) -> list[tuple[str, int]]:
        found = [(float(soft[name][i]), name, i) for name in names for i in (values[name] == 0).nonzero().flatten().tolist()]
        return [(name, index) for _, name, index in sorted(found, reverse=True)]

    heads = [name for name in values if name.endswith(".heads")]
    return [*of(kind for kind in SUBLAYERS if kind in values), *of(heads), *of(name for name in (HIDDEN,) if name in values)]


def _with_open(values: Parts, soft: Parts, name: str, index: int) -> Parts:
    if not name:
        return values
    return {
        **values,
        name: values[name].index_fill(0, torch.tensor([index], device=soft[name].device), float(soft[name][index])),
    }


def close_until(
    values: Parts, soft: Parts, order: Sequence[tuple[str, int]], shape: Shape, budget: Budget, target: float
) -> dict[str, Tensor]:
    """Close parts from the beginning of `order`, as many as bring the saving nearest to the target; open the others.

    Args:
        values: gates, 0 = closed; those that `order` leaves out stay as they are.
        soft: value of a part that is open.
        order: name and index of parts.
        shape: of the model that has the gates.
        budget: what a saving is.
        target: fraction to save.
    """
    low, high = 0, len(order)
    while low < high:  # the fewest closed parts that save enough
        middle = (low + high) // 2
        if float(budget.saved(masks_of(_with_closed(values, soft, order, middle), shape))) >= target:
            high = middle
        else:
            low = middle + 1
    around = [_with_closed(values, soft, order, count) for count in (max(low - 1, 0), low)]
    return min(around, key=lambda each: abs(float(budget.saved(masks_of(each, shape))) - target))


def _order(values: Parts, soft: Parts, shape: Shape) -> list[tuple[str, int]]:
    """Units in the order in which they are closed, then open heads; of sublayers that are there."""
    ranked: dict[Sublayer, list[tuple[bool, float, str, int]]] = {kind: [] for kind in SUBLAYERS}
    for kind in SUBLAYERS:
        for layer in range(len(shape.layers)):
            name = inside(kind, layer)
            if name in values and (kind not in values or values[kind][layer] != 0):
                pairs = zip(values[name].tolist(), soft[name].tolist(), strict=True)
                ranked[kind] += [(value != 0, score, name, index) for index, (value, score) in enumerate(pairs)]
    units, heads = sorted(ranked["ffn"]), sorted(ranked["attention"])
    return [(name, index) for _, _, name, index in (*units, *(head for head in heads if head[0]))]


def _with_closed(values: Parts, soft: Parts, order: Sequence[tuple[str, int]], count: int) -> dict[str, Tensor]:
    """The first `count` parts of the order closed, the others open at their soft value."""
    result = {name: value.clone() for name, value in values.items()}
    for closed, part in ((False, order[count:]), (True, order[:count])):
        indices: dict[str, list[int]] = {}
        for name, index in part:
            indices.setdefault(name, []).append(index)
        for name, chosen in indices.items():
            result[name][chosen] = torch.zeros_like(soft[name][chosen]) if closed else soft[name][chosen]
    return result
