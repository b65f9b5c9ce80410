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

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from espalier.pruning.widths import Axes

Criterion = Literal["platon", "averaged-sensitivity", "sensitivity", "magnitude", "random"]
"""I U; I alone; S of the last step alone; |w|; a number drawn at random for every unit."""


def sensitivity(weight: Float[Tensor, "..."], gradient: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """|w dL/dw|: to first order, how much the loss changes without the weight.

    Source: docs/methods/homodistil.md §3.1.
    Differs from the authors' code: the weight is the one that the gradient belongs to; PLATON's is one step newer.
    """
    return (weight.detach() * gradient).abs_()


def smoothed(
    mean: Float[Tensor, "..."], spread: Float[Tensor, "..."], new: Float[Tensor, "..."], *, beta1: float, beta2: float
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Running averages of sensitivity and of its distance from that average.

    Source: PLATON, arXiv 2206.12562, eqs. 6 to 8; docs/methods/homodistil.md §3.1.
    Differs from the authors' code: nothing.

    Args:
        mean: average sensitivity so far.
        spread: average uncertainty so far.
        new: sensitivity of this window.
        beta1: in [0, 1); 0.85 in PLATON's script.
        beta2: in [0, 1); 0.95 in PLATON's script.
    """
    mean = torch.lerp(new, mean, beta1)
    return mean, torch.lerp((new - mean).abs(), spread, beta2)


class Importance:
    """Running scores of single weights."""

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], criterion: Criterion, *, beta1: float, beta2: float, window: int
    ) -> None:
        """Scores of these parameters.

        Args:
            parameters: name → parameter; its shape may change, if the stores change with it.
            criterion: what a score is.
            beta1: of the average; unused where only the last step counts.
            beta2: of the uncertainty.
            window: steps whose mean enters the averages as one.
        """
        alone = criterion == "sensitivity"
        self.parameters, self.criterion = parameters, criterion
        self.beta1, self.beta2, self.window = (0.0 if alone else beta1), beta2, (1 if alone else window)
        self.filled, self.updates = 0, 0
        self.reads = criterion not in ("magnitude", "random")
        kinds = {"sum", "mean", "spread"} if criterion == "platon" else {"sum", "mean"} if self.reads else set()
        self.stores = {kind: {name: torch.zeros_like(p.detach()) for name, p in parameters.items()} for kind in sorted(kinds)}

    @torch.no_grad()
    def gather(self) -> None:
        """Read the gradients of a step."""
        if not self.reads:
            return
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                self.stores["sum"][name] += sensitivity(parameter, parameter.grad)
        self.filled += 1
        if self.filled == self.window:
            self._close_window()

    def _close_window(self) -> None:
        sums, means, spreads = self.stores["sum"], self.stores["mean"], self.stores.get("spread")
        for name, total in sums.items():
            new = total / self.window
            spread = torch.zeros_like(new) if spreads is None else spreads[name]
            means[name], spread = smoothed(means[name], spread, new, beta1=self.beta1, beta2=self.beta2)
            if spreads is not None:
                spreads[name] = spread
            total.zero_()
        self.filled, self.updates = 0, self.updates + 1

    @torch.no_grad()
    def scores(self) -> dict[str, Float[Tensor, "..."]]:
        """Score of every weight; before the first window is full, what has been gathered of it."""
        if not self.reads:
            return {name: parameter.detach().abs() for name, parameter in self.parameters.items()}
        if not self.updates:
            return dict(self.stores["sum"])
        if self.criterion != "platon":
            return dict(self.stores["mean"])
        return {name: mean * self.stores["spread"][name] for name, mean in self.stores["mean"].items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Everything, as tensors."""
        stores = {f"{kind}/{name}": value.clone() for kind, store in self.stores.items() for name, value in store.items()}
        return {"counts": torch.tensor([self.filled, self.updates]), **stores}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state_dict` gave; shapes are the state's."""
        self.filled, self.updates = state["counts"].tolist()
        for kind, store in self.stores.items():
            for name, parameter in self.parameters.items():
                store[name] = state[f"{kind}/{name}"].to(parameter.device, copy=True)


def unit_scores(scores: Mapping[str, Float[Tensor, "..."]], axes: Axes, *, divided: bool) -> dict[str, Float[Tensor, " _"]]:
    """Score of every unit of every group: the sum over the rows and columns that belong to it.

    A bias belongs to its matrix, so that biases without a gradient, such as those of keys, do not speak up.

    Source: docs/methods/homodistil.md §3.3.
    Differs from the authors' code: no code is public.

    Args:
        scores: of single weights, by parameter.
        axes: parameter → axis → group.
        divided: divide each matrix by the mean of its scores, so that none outweighs the others.
    """
    members: dict[tuple[str, str, int], list[tuple[Tensor, int]]] = {}
    for name, by_axis in axes.items():
        module = name.rpartition(".")[0]
        for axis, group in by_axis.items():
            members.setdefault((group, module, axis), []).append((_along(scores[name], axis), scores[name].numel()))
    found: dict[str, Tensor] = {}
    for (group, _, _), parts in members.items():
        unit = torch.stack([part for part, _ in parts]).sum(dim=0)
        if divided:
            mean = unit.sum() / sum(weights for _, weights in parts)
            unit = unit / mean.clamp_min(torch.finfo(unit.dtype).tiny)
        found[group] = found[group] + unit if group in found else unit
    return found


def _along(scores: Float[Tensor, "..."], axis: int) -> Float[Tensor, " _"]:
    others = [other for other in range(scores.dim()) if other != axis]
    return scores.sum(dim=others) if others else scores
