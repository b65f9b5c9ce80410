"""Random pruning: uniform scores, the floor under every criterion. Task loss alone."""

from __future__ import annotations

import torch
from torch import Tensor

from espalier.config.methods.pruning import RandomPlan
from espalier.methods.pruning import WeightPruning


class Random(WeightPruning):
    """Draws new scores at each removal, from the method's own generator."""

    settings: RandomPlan

    def scores(self) -> dict[str, Tensor]:
        """Uniform in [0, 1).

        Source: docs/methods/sdp.md §3.5, row `random`.
        Differs from the authors' code: no code is public.
        """
        # Drawn on the CPU, so that every device removes the same weights.
        return {
            name: torch.rand(weight.shape, generator=self.generator).to(weight.device)
            for name, weight in self.pruner.weights.items()
        }
