"""Least squares for the output matrix of a sublayer, from sums over tokens that do not grow with their number.

With the inputs X (tokens x width) of the matrix and what it has to write T (tokens x hidden), everything below is a function of
X^T X, X^T T and |T|^2. The sums are kept in double precision; the products of a batch are in that of its numbers.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

DAMPING = 1e-4
"""Weight of the distance from the present weights, as a fraction of the mean square of an input: it decides where the rows do
not, and leaves the rest to one part in ten thousand. [ours]"""


class Moments:
    """Sums over tokens. The inputs have a last column of ones, which belongs to the bias."""

    def __init__(self, width: int, outputs: int, device: torch.device) -> None:
        double = {"dtype": torch.float64, "device": device}
        self.gram = torch.zeros(width + 1, width + 1, **double)
        self.cross = torch.zeros(width + 1, outputs, **double)
        self.square = torch.zeros((), **double)
        self.tokens = 0

    def add(self, inputs: Float[Tensor, "tokens width"], wanted: Float[Tensor, "tokens outputs"]) -> None:
        """Add some tokens.

        Args:
            inputs: what the matrix reads.
            wanted: what matrix and bias together have to write.
        """
        with_ones = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)
        self.gram += (with_ones.T @ with_ones).double()
        self.cross += (with_ones.T @ wanted).double()
        self.square += wanted.double().square().sum()
        self.tokens += len(inputs)

    @property
    def energy(self) -> Float[Tensor, " width"]:
        """Sum of the squares of each input over all tokens."""
        return self.gram.diagonal()[:-1]

    def of_columns(self, columns: Int[Tensor, " kept"]) -> Moments:
        """The sums for some of the inputs, in this order."""
        chosen = torch.cat([columns.to(self.gram.device), columns.new_tensor([len(self.gram) - 1]).to(self.gram.device)])

        part = Moments(0, 0, self.gram.device)
        part.gram, part.cross = self.gram[chosen][:, chosen], self.cross[chosen]
        part.square, part.tokens = self.square, self.tokens
        return part

    def error(self, weight: Float[Tensor, "outputs width"], bias: Float[Tensor, " outputs"] | None) -> Float[Tensor, ""]:
        """Squared error |X W^T + b - T|^2, summed over tokens."""
        # |X W^T - T|^2 = tr(W X^T X W^T) - 2 tr(W X^T T) + |T|^2, with b as the last column of W.
        whole = _with_bias(weight, bias)
        return ((whole @ self.gram) * whole).sum() - 2.0 * (whole.T * self.cross).sum() + self.square


def _with_bias(weight: Float[Tensor, "outputs width"], bias: Float[Tensor, " outputs"] | None) -> Tensor:
    """The matrix in double precision with the bias as its last column."""
    last = weight.new_zeros(len(weight)) if bias is None else bias
    return torch.cat([weight, last[:, None]], dim=1).double()


def best_matrix(
    moments: Moments, weight: Float[Tensor, "outputs width"], bias: Float[Tensor, " outputs"] | None, damping: float = DAMPING
) -> tuple[Float[Tensor, "outputs width"], Float[Tensor, " outputs"] | None]:
    """The matrix and bias with the smallest squared error; the present ones, where rounding leaves nothing to win.

    The minimum of |X W^T - T|^2 + d |W - W_0|^2 has no larger error than W_0 itself, whatever d > 0 is, and there is one where
    inputs depend on each other.

    Source: K-prune (Park, Choi, Kang 2024, arXiv 2308.03449), reconstruction of a sublayer's output.
    Differs from the authors' code: unread; here the bias is fitted, too, and the present weights take the place of a ridge's 0.

    Args:
        moments: sums over tokens.
        weight: the present matrix, W_0.
        bias: the present bias; None where there is none, which stays so.
        damping: d as a fraction of the mean of the diagonal of X^T X; with 0 the inputs must not depend on each other.
    """
    size = len(moments.gram) - (bias is None)
    gram, cross = moments.gram[:size, :size], moments.cross[:size]
    present = _with_bias(weight, bias)[:, :size]

    # (X^T X + d I) W^T = X^T T + d W_0^T
    ridge = damping * float(gram.diagonal().mean())
    eye = torch.eye(size, dtype=gram.dtype, device=gram.device)
    solved = torch.linalg.solve(gram + ridge * eye, cross + ridge * present.T).T

    width = weight.shape[1]
    best = solved[:, :width].to(weight.dtype)
    best_bias = None if bias is None else solved[:, width].to(bias.dtype)
    is_better = moments.error(best, best_bias) <= moments.error(weight, bias)
    return (best, best_bias) if is_better else (weight, bias)


def best_scales(
    moments: Moments, weight: Float[Tensor, "outputs width"], bias: Float[Tensor, " outputs"] | None, size: int
) -> Float[Tensor, " parts"]:
    """The factors of heads or units with the smallest squared error.

    A part writes m_p X_p W_p^T; the bias is not scaled.

    Source: Kwon et al. 2022, arXiv 2204.09656, section on mask tuning.
    Differs from the authors' code: the normal equations are solved, where the code has an iterative solver (LSMR).

    Args:
        moments: sums over tokens, for the columns of `weight`.
        weight: the matrix.
        bias: its bias, if it has one.
        size: columns of one part: the head size, or 1.
    """
    double = weight.double()
    fixed = double.new_zeros(len(weight)) if bias is None else bias.double()

    # Entry (p, q): the sum over tokens of what p writes times what q writes; it is (X^T X) * (W^T W), added up over the
    # columns of both parts.
    parts = weight.shape[1] // size
    products = moments.gram[:-1, :-1] * (double.T @ double)
    gram = products.reshape(parts, size, parts, size).sum(dim=(1, 3))

    # What p writes times what has to be written, less the bias; the last row of X^T X holds the sums of the inputs.
    wanted = moments.cross[:-1] - moments.gram[:-1, -1:] * fixed
    right = (wanted * double.T).sum(dim=1).reshape(parts, size).sum(dim=1)

    # Towards 1 where the rows do not decide, as in `best_matrix`.
    ridge = DAMPING * float(gram.diagonal().mean())
    eye = torch.eye(parts, dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(gram + ridge * eye, right + ridge).to(weight.dtype)
