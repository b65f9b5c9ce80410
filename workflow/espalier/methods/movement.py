"""Movement pruning: remove the weights that training moves towards zero.

Paper: V. Sanh, T. Wolf, A. Rush, "Movement Pruning: Adaptive Sparsity by Fine-Tuning", arXiv 2005.07683 (2020).
Idea: fine-tuning moves a weight away from zero if the task needs it. The score S sums -w dL/dw over the steps
(eq. 4); the highest scores stay, however small the weights are.

Symbols: S = `movement`, W = `pruner.weights`, dL/dW = the gradient of the dense forward's weights (masked weights are 0).
Left out: the soft threshold variant, and scores trained by Adam as in the authors' code; removed weights never return,
so that masks nest along a path.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from espalier.config.methods.pruning import MovementPlan
from espalier.methods.pruning import WeightPruning
from espalier.pruning.masks import Masks
from espalier.pruning.scores import movement_update


class Movement(WeightPruning):
    """Scores begin at 0 in every stage and grow over its dense epochs and after."""

    settings: MovementPlan

    def begin(self, student: PreTrainedModel, masks: Masks | None) -> None:
        """Start the sums."""
        super().begin(student, masks)
        self.movement = {name: torch.zeros_like(weight) for name, weight in self.pruner.weights.items()}

    def after_backward(self, step: int) -> None:
        """Add this step's movement before the gradients are masked.

        Source: Sanh et al. 2020, arXiv 2005.07683, eq. 4.
        Differs from the authors' code: see the head of this file.
        """
        # S <- S - w dL/dw. Afterwards the base sets the gradients of removed weights to zero.
        with torch.no_grad():
            for name, weight in self.pruner.weights.items():
                self.movement[name] += movement_update(weight, weight.grad)
        super().after_backward(step)

    def scores(self) -> dict[str, Tensor]:
        """The sums so far."""
        return self.movement

    def state_dict(self) -> dict[str, Tensor]:
        """Masks and sums."""
        return super().state_dict() | {f"movement/{name}": total for name, total in self.movement.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up masks and sums."""
        super().load_state_dict(state)
        for name in self.movement:
            self.movement[name].copy_(state[f"movement/{name}"])
