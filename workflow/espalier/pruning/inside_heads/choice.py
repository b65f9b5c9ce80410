"""Which dimensions of heads, and which FFN units, go next: an order, and as many from its beginning as meet a size.

Source: GRAIN (Yang, Cui, Yao, Wang 2023; docs/methods/grain.md §2.2 and 2.3).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from espalier.pruning.inside_heads.rows import RowTable
from espalier.pruning.parts import queries_of, values_of
from espalier.runtime.errors import UserError

GONE = -1
"""Place in the order of what is gone already."""


def regularised(
    importance: Float[Tensor, " rows"], table: RowTable, kept: Bool[Tensor, " rows"], strength: float
) -> Float[Tensor, " rows"]:
    """Scores in which weak heads fall back: importance times tanh(density / strength) for the dimensions of a head.

    Source: docs/methods/grain.md §2.2, StructReg.
    Differs from the authors' code: written from the paper's description.

    Args:
        importance: of each row.
        table: the rows.
        kept: rows that are there. The density of a head is the fraction of its first dimensions that are, in [0, 1].
        strength: alpha, above 0; 0 leaves scores as they are.
    """
    if not strength:
        return importance
    factors = torch.tanh(table.left(kept) / table.whole / strength)

    # Units belong to no head.
    of_row = factors.to(importance.dtype)[table.heads.clamp(min=0)]
    return importance * torch.where(table.heads >= 0, of_row, torch.ones_like(of_row))


def free_order(scores: Float[Tensor, " rows"], table: RowTable, kept: Bool[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """Place of each row in the order in which they go: the lowest score a weight first; `GONE` for those that have gone.

    Source: docs/methods/grain.md §2.2.
    Differs from the authors' code: scores are compared by weight, where rows of a family have unequal numbers of weights.
    """
    by_weight = (scores / table.weights).masked_fill(~kept, torch.inf)

    # The strongest dimension of queries of each layer goes last, so that no matrix has no rows while there are values.
    parts, there = table.split(by_weight), table.split(kept)
    for layer in range(len(table.shape.layers)):
        name = queries_of(layer)
        if name in parts and bool(there[name].any()):
            parts[name][parts[name].masked_fill(~there[name], -torch.inf).argmax()] = torch.inf

    ranked = by_weight.argsort(stable=True)
    places = torch.empty_like(ranked).index_copy_(0, ranked, torch.arange(len(ranked)))
    return places.masked_fill(~kept, GONE)


def equal_order(scores: Float[Tensor, " rows"], table: RowTable, kept: Bool[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """As `free_order`, but rows of one layer's heads go together: one of queries and one of values from every head.

    Each head gives the one with its lowest score. All rows that go together have one place.

    Source: docs/methods/grain.md §2.3.
    Differs from the authors' code: ours.
    """
    # A group for each rank inside the heads of a layer, and one for each unit.
    groups = torch.full_like(table.heads, GONE)
    count = 0
    split_heads, split_kept, split_scores = (table.split(vector) for vector in (table.heads, kept, scores))
    split_groups = table.split(groups)
    for layer in range(len(table.shape.layers)):
        ranks = 0
        for name in (queries_of(layer), values_of(layer)):
            # Ranks of queries and of values begin with the same group, so that one of each goes at a time.
            for head in split_heads[name].unique() if name in table.sizes else ():
                there = (split_kept[name] & (split_heads[name] == head)).nonzero().flatten()
                lowest_first = there[split_scores[name][there].argsort(stable=True)]
                split_groups[name][lowest_first] = count + torch.arange(len(there))
                ranks = max(ranks, len(there))
        count += ranks
    units = kept & (table.heads < 0)
    groups[units] = count + torch.arange(int(units.sum()))

    # A group's score a weight: the sum of its scores over the sum of its weights.
    total, there = count + int(units.sum()), groups != GONE
    sums = torch.zeros(total, dtype=scores.dtype).index_add_(0, groups[there], scores[there])
    weights = torch.zeros(total).index_add_(0, groups[there], table.weights[there])
    ranked = (sums / weights).argsort(stable=True)
    places = torch.empty_like(ranked).index_copy_(0, ranked, torch.arange(total))
    return torch.where(there, places[groups.clamp(min=0)], groups)


def check_equal_heads(table: RowTable) -> None:
    """Refuse a model whose layers have unlike heads.

    Raises:
        UserError: heads of a layer have lost unequal numbers of dimensions.
    """
    for layer in range(len(table.shape.layers)):
        counts = [flags.count("1") for heads in table.shape.heads_in(layer)[1:] for flags in heads]
        if len({*counts}) > 1:
            raise UserError(
                f"head_rows: equal goes on from heads that are alike; those of layer {layer} of the model to start from have "
                f"{', '.join(map(str, counts[: len(counts) // 2]))} dimensions of queries and "
                f"{', '.join(map(str, counts[len(counts) // 2 :]))} of values; allowed: head_rows: unequal"
            )


def kept_at(places: Int[Tensor, " rows"], table: RowTable, target: float) -> Bool[Tensor, " rows"]:
    """The rows that stay when as many as meet a size have gone, from the beginning of an order.

    Where the next ones would save too much, later and smaller ones go in their place.

    Source: docs/methods/grain.md §2.4.
    Differs from the authors' code: ours; the size is met to half a row.

    Args:
        places: of each row in the order; rows of one place go together.
        table: the rows.
        target: fraction of the first model's weights that is gone afterwards, as near as rows allow.
    """

    def left(count: int) -> Tensor:
        return table.settled(places >= count)

    # Binary search for the largest number of places that saves at most the target: a saving never falls.
    low, high = 0, int(places.max()) + 1
    while low < high:
        middle = (low + high + 1) // 2
        if table.saved(left(middle)) <= target:
            low = middle
        else:
            high = middle - 1

    # What is missing is less than the next place saves. Smaller ones behind it fill it up, while that brings the size nearer.
    kept, nearest = left(low), abs(table.saved(left(low)) - target)
    half = float(table.weights.min()) * table.shape.hidden / table.dense / 2
    for place in range(low, int(places.max()) + 1):
        if nearest <= half:
            break
        without = table.settled(kept & (places != place))
        distance = abs(table.saved(without) - target)
        if distance < nearest:
            kept, nearest = without, distance
    return kept
