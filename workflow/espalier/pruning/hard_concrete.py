"""Hard-concrete gates: the formulas, as plain functions of tensors.

Source: Louizos, Welling, Kingma 2018, arXiv 1712.01312, as CoFi uses them (Xia, Zhong, Chen 2022, arXiv 2204.00408;
docs/methods/cofi.md §3.1). log alpha is the location in logits; larger keeps a gate open.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from espalier.config.methods.structured import GateKind
from espalier.models.modeling_espalier import Shape
from espalier.pruning.parts import HIDDEN, heads_of, units_of

SPREAD = 0.01
"""Standard deviation of the first log alpha (docs/methods/cofi.md §3.1)."""

TEMPERATURE = 2.0 / 3.0
"""beta of the paper."""
LOWER, UPPER = -0.1, 1.1
"""Ends of the stretched interval, l and r."""
EPSILON = 1e-6
"""Noise and probabilities stay this far from 0 and 1."""
SHARPNESS = 0.8
"""Factor on log alpha in deterministic gates."""
LIMIT = math.log(100.0)
"""log alpha is kept in [-LIMIT, LIMIT]."""


def sample(log_alpha: Float[Tensor, "*gates"], uniform: Float[Tensor, "*gates"]) -> Float[Tensor, "*gates"]:
    """Stretched, clipped samples of the concrete distribution, in [0, 1]; both ends have positive probability.

    Source: docs/methods/cofi.md §3.1: s = sigmoid((log u - log(1 - u) + log alpha) / beta), z = clip(s (r - l) + l, 0, 1).
    Differs from the authors' code: nothing.

    Args:
        log_alpha: location in logits.
        uniform: noise in (0, 1), one number a gate.
    """
    noise = uniform.clamp(EPSILON, 1.0 - EPSILON)
    concrete = torch.sigmoid((noise.log() - (1.0 - noise).log() + log_alpha) / TEMPERATURE)
    return (concrete * (UPPER - LOWER) + LOWER).clamp(0.0, 1.0)


def kept_probability(log_alpha: Float[Tensor, "*gates"]) -> Float[Tensor, "*gates"]:
    """q(log alpha) = P(z > 0).

    Source: docs/methods/cofi.md §3.1: 1 - sigmoid(beta log(-l / r) - log alpha), clamped to [epsilon, 1 - epsilon].
    Differs from the authors' code: nothing.
    """
    return torch.sigmoid(log_alpha - TEMPERATURE * math.log(-LOWER / UPPER)).clamp(EPSILON, 1.0 - EPSILON)


def deterministic(log_alpha: Float[Tensor, " gates"], removed: int | None = None) -> Float[Tensor, " gates"]:
    """Gates for evaluation and export: the lowest are 0, the others keep their soft value (at most 0.996).

    Source: docs/methods/cofi.md §3.1: n0 = round(N - sum q) smallest of sigmoid(0.8 log alpha / beta) become 0.
    Differs from the authors' code: nothing; `removed` overrides n0.

    Args:
        log_alpha: the gates of one vector: a layer's heads, a layer's FFN units, all hidden dimensions, or one sublayer.
        removed: number of gates to close; n0 when left out.
    """
    if removed is None:
        removed = expected_removed(log_alpha)
    gates = torch.sigmoid(SHARPNESS * log_alpha / TEMPERATURE)
    if removed:
        gates = gates.index_fill(0, gates.argsort(stable=True)[:removed], 0.0)
    return gates


def expected_removed(log_alpha: Float[Tensor, " gates"]) -> int:
    """n0, the number of gates of a vector that are expected to be 0."""
    return round(float(log_alpha.numel() - kept_probability(log_alpha).sum()))


class HardConcreteGates(nn.Module):
    """log alpha of every gate of a model, by the name of the part."""

    def __init__(
        self, shape: Shape, kinds: Collection[GateKind], mean: float, unit_mean: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        sizes = {kind: len(shape.layers) for kind in ("attention", "ffn") if kind in kinds}
        sizes |= {HIDDEN: shape.hidden} if "hidden" in kinds else {}
        for layer, (heads, units) in enumerate(shape.layers):
            sizes |= {heads_of(layer): heads} if heads and "heads" in kinds else {}
            sizes |= {units_of(layer): units} if units and "units" in kinds else {}
        means = {name: unit_mean if name.endswith(".ffn") else mean for name in sizes}
        self.names = list(sizes)
        self.log_alpha = nn.ParameterList(
            nn.Parameter((means[name] + SPREAD * torch.randn(size, generator=generator)).clamp(-LIMIT, LIMIT))
            for name, size in sizes.items()
        )
        self.noise: list[Tensor] = []

    def items(self) -> list[tuple[str, Float[Tensor, " _"]]]:
        """Name and log alpha of each vector of gates."""
        return list(zip(self.names, self.log_alpha, strict=True))

    def draw(self, generator: torch.Generator) -> None:
        """Noise for the next step: one sample, shared by the whole batch."""
        self.noise = [torch.rand(each.shape, generator=generator).to(each.device) for each in self.log_alpha]

    @torch.no_grad()
    def clamp(self) -> None:
        """Keep log alpha within its limits."""
        for each in self.log_alpha:
            each.clamp_(-LIMIT, LIMIT)

    def sampled(self) -> dict[str, Float[Tensor, " _"]]:
        """Gates of a training step."""
        return {name: sample(each, noise) for (name, each), noise in zip(self.items(), self.noise, strict=True)}

    def probabilities(self) -> dict[str, Float[Tensor, " _"]]:
        """P(gate > 0)."""
        return {name: kept_probability(each) for name, each in self.items()}

    @torch.no_grad()
    def decided(self) -> dict[str, Float[Tensor, " _"]]:
        """Deterministic gates; each sublayer is a vector of its own."""
        return {
            name: torch.cat([deterministic(gate) for gate in each.split(1)])
            if name in ("attention", "ffn")
            else deterministic(each)
            for name, each in self.items()
        }

    @torch.no_grad()
    def soft(self) -> Mapping[str, Float[Tensor, " _"]]:
        """Deterministic gates before any is closed, in (0, 1)."""
        return {name: deterministic(each, removed=0) for name, each in self.items()}
