"""Which student layer learns from which teacher layer: CoFi's dynamic matching as plain functions.

Source: CoFi (Xia, Zhong, Chen 2022, arXiv 2204.00408; docs/methods/cofi.md §3.6 and points 4, 4b, 5 and 14 of section 7).
Layers are counted from 0 here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from espalier.losses.terms import distance

Pairs = list[tuple[int, int]]
"""(teacher layer, student layer)."""


def evenly_spaced(layers: int, count: int) -> list[int]:
    """`count` of `layers` layers, the last one among them: of twelve, four are the 3rd, 6th, 9th and 12th.

    Source: docs/methods/cofi.md §2.
    Differs from the authors' code: there the four numbers are fixed.
    """
    return sorted({math.ceil(k * layers / count) - 1 for k in range(1, count + 1)})


def one_per_block(layers: int, count: int, uniform: Sequence[float]) -> list[int]:
    """One layer at random from each of `count` blocks; of the first block not the very first layer.

    Source: docs/methods/cofi.md §3.6, variant v6 (the authors' pull request 35).
    Differs from the authors' code: that one does not run (point 13).

    Args:
        layers: depth of the teacher.
        count: number of blocks.
        uniform: one number in [0, 1) a block.
    """
    ends = [0, *(end + 1 for end in evenly_spaced(layers, count))]
    chosen = []
    for begin, end, draw in zip(ends, ends[1:], uniform, strict=False):
        first = 1 if begin == 0 and end > 1 else begin
        chosen.append(first + int(draw * (end - first)))
    return chosen


def unrestricted(distances: Float[Tensor, "teacher student"], teacher: Sequence[int], exists: Sequence[bool]) -> Pairs:
    """Each teacher layer takes the nearest student layer that exists.

    Source: docs/methods/cofi.md §3.6, v3.
    Differs from the authors' code: layers that are gone do not count; there they do.
    """
    nearest = distances.masked_fill(~torch.tensor(exists, device=distances.device), torch.inf).argmin(dim=1).tolist()
    return list(zip(teacher, nearest, strict=True)) if any(exists) else []


def ordered(distances: Float[Tensor, "teacher student"], teacher: Sequence[int], exists: Sequence[bool]) -> Pairs:
    """From the last teacher layer down, each takes the nearest existing student layer strictly below the one before.

    Where none is left below, the lowest existing layer is taken, so the order never crosses.

    Source: docs/methods/cofi.md §3.6, v4.
    Differs from the authors' code: existence is looked up by the layer's own index (point 4b), and running out of layers
    is not an error (point 5).
    """
    bound, pairs = len(exists), []
    for row, layer in reversed(list(enumerate(teacher))):
        below = [index for index in range(bound) if exists[index]] or [index for index, there in enumerate(exists) if there][:1]
        if not below:
            return []
        bound = min(below, key=lambda index: float(distances[row, index]))
        pairs.append((layer, bound))
    return pairs[::-1]


def same_index(teacher: Sequence[int], exists: Sequence[bool]) -> Pairs:
    """Each teacher layer and the student layer of its own index, where that exists.

    Source: docs/methods/cofi.md §3.6, v2.
    Differs from the authors' code: that one does not run at the published commit.
    """
    return [(layer, layer) for layer in teacher if exists[layer]]


@torch.no_grad()
def pairs(
    how: Literal["unrestricted", "ordered", "fixed", "random"],
    teacher: Mapping[int, Float[Tensor, "batch length width"]],
    student: Sequence[Float[Tensor, "batch length width"]],
    exists: Sequence[bool],
    padding: Int[Tensor, "batch length"] | None,
) -> Pairs:
    """Who learns from whom in one batch; the choice itself has no gradient.

    Args:
        how: random matching differs in the teacher layers alone, which are then free to choose.
        teacher: layer → its output, for the layers to match.
        student: output of every layer, transformed.
        exists: student layers that count.
        padding: mask of real tokens, where padding is left out.
    """
    layers = list(teacher)
    if how == "fixed":
        return same_index(layers, exists)
    rows = [torch.stack([distance(own, states, padding) for own in student]) for states in teacher.values()]
    return (ordered if how == "ordered" else unrestricted)(torch.stack(rows).cpu(), layers, exists)
