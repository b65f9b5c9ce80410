"""Optimal brain surgery on the columns of one matrix: which go first, and what the others become.

Source: ZipLM (Kurtic, Frantar, Alistarh 2023, arXiv 2302.04089); docs/methods/obs.md §2.1 to 2.3.
Differs from the authors' code: no code is public. The bias counts as the column of an input that is always 1 and never removed.

A sublayer ends with a matrix W that reads what its parts give. Without some parts, W is changed so that what it writes stays as
near as can be in squares: with the inputs X of some rows of data and H = 2/n X X^T the loss is tr((W - W') H (W - W')^T).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

DAMPED_BY = 0.01
"""Added to the diagonal of H, as a fraction of its mean, where H is near to having no inverse."""
SMALLEST_PIVOT = 1e-9
"""H counts as such where a pivot of its Cholesky factor is below this fraction of the largest one."""
SHRINK_AT = 0.9
"""Removed columns are dropped from the working copies once at most this fraction of them is left."""


@dataclass(frozen=True)
class RankedParts:
    """What the second order says of one matrix."""

    order: Int[Tensor, " parts"]
    """The parts in the order in which they go."""
    errors: Float[Tensor, " counts"]
    """Squared error of what is written after 0, 1, 2, … parts have gone, as a fraction of the square of what is written. It
    never falls."""


def damped(hessian: Float[Tensor, "columns columns"]) -> Float[Tensor, "columns columns"]:
    """H as it is, or with 1 % of its mean diagonal added where it is near to having no inverse.

    Source: docs/methods/obs.md §2.1.
    Differs from the authors' code: no code is public.
    """
    # A pivot is what a column has of its own, beside what the columns before it say of it.
    factor, failed = torch.linalg.cholesky_ex(hessian)
    pivots = factor.diagonal().square()
    if not int(failed) and float(pivots.min()) > SMALLEST_PIVOT * float(pivots.max()):
        return hessian

    # Columns that were never anything but 0 have no curvature at all: any positive number makes H invertible.
    added = DAMPED_BY * float(hessian.diagonal().mean()) or 1.0
    return hessian + added * torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)


def scores_of_parts(
    weight: Float[Tensor, "rows parts width"], blocks: Float[Tensor, "parts width width"]
) -> Float[Tensor, " parts"]:
    """What the loss grows by when one part goes and the others make up for it: tr(W_B (H^-1_BB)^-1 W_B^T).

    Source: docs/methods/obs.md §2.2; for parts of one column sum_i W_ij^2 / [H^-1]_jj.
    Differs from the authors' code: no code is public.

    Args:
        weight: the columns of every part.
        blocks: the block of H^-1 on the diagonal that belongs to each part.
    """
    if weight.shape[-1] == 1:
        return weight.square().sum(dim=(0, 2)) / blocks.flatten()
    return torch.einsum("rpw,pwv,rpv->p", weight, torch.linalg.inv(blocks), weight)


def remove_part(weight: Float[Tensor, "rows columns"], inverse: Float[Tensor, "columns columns"], part: slice) -> None:
    """Let one part go, in place: its columns become 0, and the others make up for it.

    W <- W - W_B (H^-1_BB)^-1 H^-1_B:, and H^-1 <- H^-1 - H^-1_:B (H^-1_BB)^-1 H^-1_B:.

    Source: docs/methods/obs.md §2.2.
    Differs from the authors' code: no code is public.

    Args:
        weight: the matrix.
        inverse: H^-1 of the columns that are left, 0 at the others.
        part: neighbouring columns that are left.
    """
    # (H^-1_BB)^-1 H^-1_B: by solving equations; of one column by a division.
    rows, read = inverse[part].clone(), weight[:, part].clone()
    solved = rows / rows[:, part] if len(rows) == 1 else torch.linalg.solve(rows[:, part], rows)
    weight.addmm_(read, solved, alpha=-1.0)
    inverse.addmm_(rows.T, solved, alpha=-1.0)

    # What is 0 but for rounding is set to 0.
    weight[:, part] = 0.0
    inverse[part], inverse[:, part] = 0.0, 0.0


def removal_of(
    weight: Float[Tensor, "rows columns"], hessian: Float[Tensor, "columns columns"], parts: int, width: int
) -> RankedParts:
    """Remove every part, one at a time, always the one that costs least, and say in which order and at what error.

    Source: docs/methods/obs.md §2.2.
    Differs from the authors' code: no code is public.

    Args:
        weight: the matrix. Its first parts x width columns belong to the parts; a bias may follow as one more column.
        hessian: H of its inputs, damped.
        parts, width: number of parts, and of the neighbouring columns of each.
    """
    # The square of what the whole matrix writes: tr(W H W^T).
    energy = float(((weight @ hessian) * weight).sum())
    weight, inverse = weight.clone(), torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    left = torch.arange(parts, device=weight.device)
    gone = torch.zeros(parts, dtype=torch.bool, device=weight.device)
    order: list[int] = []
    losses = [0.0]

    while len(order) < parts:
        scores = _scores(weight, inverse, len(left), width).masked_fill(gone, torch.inf)
        place = int(scores.argmin())
        remove_part(weight, inverse, slice(place * width, (place + 1) * width))

        # The loss is quadratic, so what each step adds to it adds up.
        order.append(int(left[place]))
        losses.append(losses[-1] + max(0.0, float(scores[place])))
        gone[place] = True

        # Smaller matrices are faster, and copying them costs as much as a few steps.
        if len(order) - (parts - len(left)) >= (1.0 - SHRINK_AT) * len(left):
            weight, inverse = _without_columns(weight, inverse, gone, width)
            left, gone = left[~gone], gone[~gone]

    # Without any part the sublayer writes nothing, not even its bias.
    errors = torch.tensor(losses, dtype=torch.float64) / (energy or 1.0)
    errors[-1] = 1.0
    return RankedParts(torch.tensor(order), errors.clamp(max=1.0))


def _scores(weight: Tensor, inverse: Tensor, parts: int, width: int) -> Float[Tensor, " parts"]:
    """Scores of all parts; those of removed ones mean nothing."""
    # (parts x width)^2 → the blocks on the diagonal, one for each part.
    columns = parts * width
    view = inverse[:columns, :columns].reshape(parts, width, parts, width)
    blocks = view.diagonal(dim1=0, dim2=2).permute(2, 0, 1)

    # The block of a part that is gone is 0, and has no inverse.
    removed = blocks.diagonal(dim1=1, dim2=2).sum(dim=1) == 0
    blocks = blocks + removed[:, None, None] * torch.eye(width, dtype=blocks.dtype, device=blocks.device)
    return scores_of_parts(weight[:, :columns].reshape(len(weight), parts, width), blocks)


def _without_columns(weight: Tensor, inverse: Tensor, gone: Bool[Tensor, " parts"], width: int) -> tuple[Tensor, Tensor]:
    """Both matrices without the columns of parts that are gone; what follows the parts stays."""
    others = torch.ones(weight.shape[1] - len(gone) * width, dtype=torch.bool, device=gone.device)
    kept = torch.cat([(~gone).repeat_interleave(width), others]).nonzero().flatten()
    return weight[:, kept], inverse[kept][:, kept]


def refitted(
    weight: Float[Tensor, "rows columns"], hessian: Float[Tensor, "columns columns"], kept: Bool[Tensor, " columns"]
) -> Float[Tensor, "rows columns"]:
    """The matrix that reads the kept columns alone and writes nearest to the whole one: W H_:K (H_KK)^-1, and 0 elsewhere.

    It is where all the steps of `remove_part` lead, in one solution of linear equations.

    Source: docs/methods/obs.md §2.3.
    Differs from the authors' code: no code is public.

    Args:
        weight: the whole matrix.
        hessian: H of its inputs, damped.
        kept: columns that stay.
    """
    result = torch.zeros_like(weight)
    if bool(kept.any()):
        # H_KK is symmetric and positive, so W'_K = W H_:K (H_KK)^-1 is a solution by its Cholesky factor.
        factor = torch.linalg.cholesky(hessian[kept][:, kept])
        result[:, kept] = torch.cholesky_solve(hessian[kept] @ weight.T, factor).T
    return result
