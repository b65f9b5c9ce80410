"""Importance of weights, smoothed over steps, and of the units that they make up.

Source: PLATON (Zhang et al. 2022, arXiv 2206.12562) as HomoDistil uses it (Liang et al. 2023, arXiv 2302.09632;
docs/methods/homodistil.md §3.1):
    S = |w dL/dw|                            sensitivity, the mean over a window of steps
    I <- beta1 I + (1 - beta1) S             its running average
    U <- beta2 U + (1 - beta2) |S - I|       its uncertainty
    score = I U
A unit's score is the sum over its row or column of every matrix that it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from espalier.pruning.widths import Axes

Criterion = Literal["platon", "averaged-sensitivity", "sensitivity", "magnitude", "random"]
"""The score, in the symbols above: I U; I alone; S of the last step alone; |w|; a number drawn for every unit."""

PIECE = 1 << 18
"""Numbers that are worked on at once: 1 MiB."""


def sensitivity(weight: Float[Tensor, "..."], gradient: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """|w dL/dw|: to first order, how much the loss changes without the weight.

    Source: docs/methods/homodistil.md §3.1.
    Differs from the authors' code: the weight is the one that the gradient belongs to; PLATON's is one step newer.
    """
    # Taylor around w: L(w) - L(0) is about w dL/dw.
    return (weight.detach() * gradient).abs_()


def smoothed(
    mean: Float[Tensor, "..."], spread: Float[Tensor, "..."], new: Float[Tensor, "..."], *, beta1: float, beta2: float
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Running averages of sensitivity and of its distance from that average.

    Source: PLATON, arXiv 2206.12562, eqs. 6 to 8; docs/methods/homodistil.md §3.1.
    Differs from the authors' code: nothing.

    Args:
        mean: I, the average sensitivity so far.
        spread: U, the average uncertainty so far.
        new: S, the sensitivity of this window.
        beta1: in [0, 1); 0.85 in PLATON's script.
        beta2: in [0, 1); 0.95 in PLATON's script.
    """
    # lerp(a, b, t) = a + t (b - a), so I <- beta1 I + (1 - beta1) S.
    mean = torch.lerp(new, mean, beta1)

    # The uncertainty is the distance from the new average, not from the old one.
    spread = torch.lerp((new - mean).abs(), spread, beta2)
    return mean, spread


class Importance:
    """Running scores of single weights, gathered from gradients step by step."""

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], criterion: Criterion, *, beta1: float, beta2: float, window: int
    ) -> None:
        """Begin with averages of 0.

        Args:
            parameters: name → parameter; its shape may change, if the stores change with it.
            criterion: what a score is.
            beta1: factor of the running average; unused where only the last step counts.
            beta2: factor of the running uncertainty.
            window: number of steps whose mean enters the averages as one value.
        """
        self.parameters = parameters
        self.criterion = criterion
        self.beta1 = beta1
        self.beta2 = beta2
        self.window = window

        # The last step alone is a window of one step and an average that forgets everything before.
        if criterion == "sensitivity":
            self.beta1 = 0.0
            self.window = 1

        self.filled = 0
        """Steps in the window that is open now."""
        self.updates = 0
        """Windows that have been closed."""
        self.reads = criterion not in ("magnitude", "random")
        """Whether scores depend on gradients."""

        # Only what the criterion needs: every store is as large as all parameters together.
        kinds = ["mean", "sum"] if self.reads else []
        if criterion == "platon":
            kinds.append("spread")
        self.stores: dict[str, dict[str, Tensor]] = {}
        for kind in sorted(kinds):
            self.stores[kind] = {name: torch.zeros_like(parameter.detach()) for name, parameter in parameters.items()}

    @torch.no_grad()
    def gather(self) -> None:
        """Read the gradients of a step, as they are now: the caller decides whether before or after clipping."""
        if not self.reads:
            return

        # Piece by piece, so that what one operation leaves in the cache is there for the next one.
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                for total, weight, gradient in _pieces(self.stores["sum"][name], parameter.detach(), parameter.grad):
                    total += sensitivity(weight, gradient)

        self.filled += 1
        if self.filled == self.window:
            self._close_window()

    def _close_window(self) -> None:
        """Let the mean of a full window into the averages, and begin a new window."""
        means = self.stores["mean"]
        spreads = self.stores.get("spread")

        for name, total in self.stores["sum"].items():
            new = total / self.window
            spread = torch.zeros_like(new) if spreads is None else spreads[name]
            means[name], spread = smoothed(means[name], spread, new, beta1=self.beta1, beta2=self.beta2)
            if spreads is not None:
                spreads[name] = spread
            total.zero_()

        self.filled = 0
        self.updates += 1

    @torch.no_grad()
    def scores(self) -> dict[str, Float[Tensor, "..."]]:
        """Score of every weight; before the first window is full, the sums that it has gathered so far."""
        # For `random` the method draws numbers for units; scores of weights are magnitudes then, too.
        if not self.reads:
            return {name: parameter.detach().abs() for name, parameter in self.parameters.items()}

        if not self.updates:
            return dict(self.stores["sum"])
        if self.criterion != "platon":
            return dict(self.stores["mean"])

        # I U.
        return {name: mean * self.stores["spread"][name] for name, mean in self.stores["mean"].items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Counts and stores as tensors, for a saved run."""
        state = {"counts": torch.tensor([self.filled, self.updates])}
        for kind, store in self.stores.items():
            for name, value in store.items():
                state[f"{kind}/{name}"] = value.clone()
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state_dict` gave; the stores take the shapes of the state."""
        self.filled, self.updates = state["counts"].tolist()
        for kind, store in self.stores.items():
            for name, parameter in self.parameters.items():
                store[name] = state[f"{kind}/{name}"].to(parameter.device, copy=True)


def _pieces(*tensors: Float[Tensor, "..."]) -> Iterator[tuple[Float[Tensor, "..."], ...]]:
    """Views of the same rows of tensors of one shape, of about `PIECE` numbers each."""
    rows = max(1, PIECE * len(tensors[0]) // max(1, tensors[0].numel()))
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)


def unit_scores(scores: Mapping[str, Float[Tensor, "..."]], axes: Axes, *, divided: bool) -> dict[str, Float[Tensor, " _"]]:
    """Score of every unit of every group: the sum over the rows and columns that belong to it.

    A bias counts as part of its matrix. A bias without a gradient, such as that of the keys, has scores that are rounding
    errors; divided by their own mean they would count as much as a matrix.

    Source: docs/methods/homodistil.md §3.3.
    Differs from the authors' code: no code is public.

    Args:
        scores: scores of single weights, by parameter.
        axes: parameter → axis → group.
        divided: divide each matrix by the mean of its scores, so that none outweighs the others.
    """
    # Group, module and axis → one vector of sums for the matrix and one for its bias, each with its number of weights.
    members: dict[tuple[str, str, int], list[tuple[Tensor, int]]] = {}
    for name, by_axis in axes.items():
        module = name.rpartition(".")[0]
        for axis, group in by_axis.items():
            part = _sums_along(scores[name], axis), scores[name].numel()
            members.setdefault((group, module, axis), []).append(part)

    units: dict[str, Tensor] = {}
    for (group, _, _), parts in members.items():
        unit = torch.stack([sums for sums, _ in parts]).sum(dim=0)
        # A matrix without any gradient has mean 0 and adds 0.
        if divided:
            mean = unit.sum() / sum(weights for _, weights in parts)
            unit = unit / mean.clamp_min(torch.finfo(unit.dtype).tiny)
        units[group] = units[group] + unit if group in units else unit
    return units


def _sums_along(scores: Float[Tensor, "..."], axis: int) -> Float[Tensor, " _"]:
    """Sums over all other axes."""
    others = [other for other in range(scores.dim()) if other != axis]
    return scores.sum(dim=others) if others else scores
