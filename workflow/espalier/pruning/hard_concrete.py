"""Hard-concrete gates: their formulas as plain functions of tensors, and the module that holds the gates of one model.

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
from espalier.pruning.parts import HIDDEN, SUBLAYERS, heads_of, units_of

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
SPREAD = 0.01
"""Standard deviation of log alpha at the start."""


def sample(log_alpha: Float[Tensor, "*gates"], uniform: Float[Tensor, "*gates"]) -> Float[Tensor, "*gates"]:
    """Stretched, clipped samples of the concrete distribution, in [0, 1]; both ends have positive probability.

    Source: docs/methods/cofi.md §3.1: s = sigmoid((log u - log(1 - u) + log alpha) / beta), z = clip(s (r - l) + l, 0, 1).
    Differs from the authors' code: nothing.

    Args:
        log_alpha: location in logits.
        uniform: noise in (0, 1), one number a gate.
    """
    # log u and log(1 - u) must stay finite.
    noise = uniform.clamp(EPSILON, 1.0 - EPSILON)

    # s is in (0, 1). Stretched to (l, r) and clipped, it is exactly 0 or 1 for part of the noise.
    concrete = torch.sigmoid((noise.log() - (1.0 - noise).log() + log_alpha) / TEMPERATURE)
    return (concrete * (UPPER - LOWER) + LOWER).clamp(0.0, 1.0)


def kept_probability(log_alpha: Float[Tensor, "*gates"]) -> Float[Tensor, "*gates"]:
    """q(log alpha) = P(z > 0).

    Source: docs/methods/cofi.md §3.1: 1 - sigmoid(beta log(-l / r) - log alpha), clamped to [epsilon, 1 - epsilon].
    Differs from the authors' code: nothing.
    """
    # 1 - sigmoid(x) = sigmoid(-x); beta log(-l / r) = -1.5986.
    return torch.sigmoid(log_alpha - TEMPERATURE * math.log(-LOWER / UPPER)).clamp(EPSILON, 1.0 - EPSILON)


def expected_removed(log_alpha: Float[Tensor, " gates"]) -> int:
    """n0 = round(N - sum q), the number of gates of a vector that are expected to be 0."""
    return round(float(log_alpha.numel() - kept_probability(log_alpha).sum()))


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

    # A stable sort closes the first of equal gates, so the same student comes out every time.
    if removed:
        gates = gates.index_fill(0, gates.argsort(stable=True)[:removed], 0.0)
    return gates


class HardConcreteGates(nn.Module):
    """log alpha of every gate of a model, one vector for each name of `pruning.parts`."""

    def __init__(
        self, shape: Shape, kinds: Collection[GateKind], mean: float, unit_mean: float, generator: torch.Generator
    ) -> None:
        """Draw log alpha from N(mean, 0.01²), clamped to [log 0.01, log 100].

        Source: docs/methods/cofi.md §3.1, Start: mean 10, but 0 for FFN units.
        Differs from the authors' code: gates are clamped here already, so mean 10 becomes log 100 ≈ 4.6.

        Args:
            shape: shape of the model to gate.
            kinds: kinds of parts that have gates.
            mean: mean of log alpha for all gates but FFN units.
            unit_mean: mean of log alpha for FFN units.
            generator: of the CPU.
        """
        super().__init__()
        sizes = _vector_sizes(shape, kinds)
        self.names = list(sizes)
        self.log_alpha = nn.ParameterList()
        for name, size in sizes.items():
            start = (unit_mean if name.endswith(".ffn") else mean) + SPREAD * torch.randn(size, generator=generator)
            self.log_alpha.append(nn.Parameter(start.clamp(-LIMIT, LIMIT)))
        self.noise: list[Tensor] = []

    def items(self) -> list[tuple[str, Float[Tensor, " _"]]]:
        """Name and log alpha of each vector of gates."""
        return list(zip(self.names, self.log_alpha, strict=True))

    def draw(self, generator: torch.Generator) -> None:
        """Draw noise for the next step: one sample, shared by the whole batch."""
        # The CPU's generator gives the same noise whatever the device is.
        self.noise = [torch.rand(vector.shape, generator=generator).to(vector.device) for vector in self.log_alpha]

    @torch.no_grad()
    def clamp(self) -> None:
        """Keep log alpha within its limits."""
        for vector in self.log_alpha:
            vector.clamp_(-LIMIT, LIMIT)

    def sampled(self) -> dict[str, Float[Tensor, " _"]]:
        """Gates of a training step, in [0, 1]; log alpha gets their gradient."""
        return {name: sample(vector, noise) for (name, vector), noise in zip(self.items(), self.noise, strict=True)}

    def probabilities(self) -> dict[str, Float[Tensor, " _"]]:
        """P(gate > 0) of every gate."""
        return {name: kept_probability(vector) for name, vector in self.items()}

    @torch.no_grad()
    def decided(self, counts: Mapping[str, int] | None = None) -> dict[str, Float[Tensor, " _"]]:
        """Deterministic gates; in a vector of sublayers every sublayer is decided by itself.

        Args:
            counts: name of a vector → gates that stay open, in the place of the expected number.
        """
        gates: dict[str, Tensor] = {}
        for name, vector in self.items():
            if counts is not None:
                gates[name] = deterministic(vector, removed=len(vector) - counts[name])
                continue

            # n0 is counted in each vector; one sublayer is a vector with N = 1, closed where q < 0.5.
            if name in SUBLAYERS:
                gates[name] = torch.cat([deterministic(sublayer) for sublayer in vector.split(1)])
            else:
                gates[name] = deterministic(vector)
        return gates

    @torch.no_grad()
    def soft(self) -> Mapping[str, Float[Tensor, " _"]]:
        """Deterministic gates before any is closed, in (0, 1)."""
        return {name: deterministic(vector, removed=0) for name, vector in self.items()}


def _vector_sizes(shape: Shape, kinds: Collection[GateKind]) -> dict[str, int]:
    """Name of each vector of gates → number of its gates; the order is that in which log alpha is drawn."""
    sizes: dict[str, int] = {kind: len(shape.layers) for kind in SUBLAYERS if kind in kinds}
    if "hidden" in kinds:
        sizes[HIDDEN] = shape.hidden

    # Layers without a sublayer have no gates inside it.
    for layer, (heads, units) in enumerate(shape.layers):
        if heads and "heads" in kinds:
            sizes[heads_of(layer)] = heads
        if units and "units" in kinds:
            sizes[units_of(layer)] = units
    return sizes
