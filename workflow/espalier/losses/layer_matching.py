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
    """Indices of `count` layers of `layers`, the last one among them; for 4 of 12 these are 2, 5, 8 and 11.

    Source: docs/methods/cofi.md §2.
    Differs from the authors' code: there the four numbers are fixed.
    """
    # The k-th of n from N layers, counted from 1, is ceil(k N / n). Where n > N, layers repeat, so this is a set.
    return sorted({math.ceil(k * layers / count) - 1 for k in range(1, count + 1)})


def one_per_block(layers: int, count: int, uniform: Sequence[float]) -> list[int]:
    """One layer at random from each of `count` blocks of layers; the very first layer only where it is a block by itself.

    Source: docs/methods/cofi.md §3.6, variant v6 (the authors' pull request 35).
    Differs from the authors' code: their variant does not run (point 13).

    Args:
        layers: depth of the teacher.
        count: number of blocks.
        uniform: one number in [0, 1) for each block.
    """
    # A block ends with the layer that evenly spaced matching would take.
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

    Args:
        distances: error of each student layer from each teacher layer.
        teacher: layers of the teacher, one for each row of `distances`.
        exists: student layers that count, one for each column.
    """
    if not any(exists):
        return []

    gone = ~torch.tensor(exists, device=distances.device)
    nearest = distances.masked_fill(gone, torch.inf).argmin(dim=1).tolist()
    return list(zip(teacher, nearest, strict=True))


def ordered(distances: Float[Tensor, "teacher student"], teacher: Sequence[int], exists: Sequence[bool]) -> Pairs:
    """Each teacher layer, from the last one down, takes the nearest student layer below the one that was taken before.

    Where no existing layer is left below, the lowest existing layer is taken, so pairs never cross.

    Source: docs/methods/cofi.md §3.6, v4.
    Differs from the authors' code: existence is looked up by the layer's own index (point 4b), and running out of layers
    is not an error (point 5).

    Args:
        distances: error of each student layer from each teacher layer.
        teacher: layers of the teacher in ascending order, one for each row of `distances`.
        exists: student layers that count, one for each column.
    """
    existing = [index for index, there in enumerate(exists) if there]
    if not existing:
        return []

    matched = []
    bound = len(exists)
    for row, layer in reversed(list(enumerate(teacher))):
        candidates = [index for index in existing if index < bound] or existing[:1]
        bound = min(candidates, key=lambda index: float(distances[row, index]))
        matched.append((layer, bound))

    # From the first teacher layer up again.
    return matched[::-1]


def same_index(teacher: Sequence[int], exists: Sequence[bool]) -> Pairs:
    """Pairs of a teacher layer and the student layer with its index; only student layers that exist.

    Source: docs/methods/cofi.md §3.6, v2.
    Differs from the authors' code: their variant does not run at the published commit.
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
    """Pairs of teacher and student layers for one batch; the choice itself has no gradient.

    Args:
        how: the rule. `random` draws the teacher layers before; the draw is in `teacher`, and they choose freely.
        teacher: layer → its output, for the layers to match.
        student: output of every student layer, transformed.
        exists: student layers that count.
        padding: mask of real tokens; None where padding counts, too.
    """
    if how == "fixed":
        return same_index(list(teacher), exists)
    return matched(how, layer_distances(teacher, student, padding), list(teacher), exists)


def layer_distances(
    teacher: Mapping[int, Float[Tensor, "batch length width"]],
    student: Sequence[Float[Tensor, "batch length width"]],
    padding: Int[Tensor, "batch length"] | None,
) -> Float[Tensor, "teacher student"]:
    """Error of every student layer from every teacher layer: one row for each layer of the teacher."""
    rows = []
    for teacher_states in teacher.values():
        rows.append(torch.stack([distance(student_states, teacher_states, padding) for student_states in student]))
    return torch.stack(rows)


def matched(
    how: Literal["unrestricted", "ordered", "random"],
    distances: Float[Tensor, "teacher student"],
    teacher: Sequence[int],
    exists: Sequence[bool],
) -> Pairs:
    """Pairs by their distance; the arguments are those of `pairs` and `ordered`."""
    rule = ordered if how == "ordered" else unrestricted

    # One transfer from the device for all distances.
    return rule(distances.cpu(), teacher, exists)
