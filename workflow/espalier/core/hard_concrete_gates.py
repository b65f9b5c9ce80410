"""The trained gates of a model: their parameters, and what they give in training, in evaluation and at the end."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from espalier.config.structured import GateKind
from espalier.core.hard_concrete import LIMIT, deterministic, kept_probability, sample
from espalier.core.parts import HIDDEN, heads_of, units_of
from espalier.core.structure import Shape

SPREAD = 0.01
"""Standard deviation of the first log alpha (CoFi specification, section 3.1)."""


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
