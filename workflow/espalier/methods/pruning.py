"""What methods share that remove single weights: masks on matrices, from the first removal to the last."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from espalier.config.training import PrunedPlan
from espalier.methods.base import Method
from espalier.pruning.masks import Masks, Pruner
from espalier.pruning.scores import magnitude


class WeightPruning(Method):
    """A method that removes single weights, lowest scores first, at the steps that its stage names.

    Source: docs/methods/sdp.md §3.1.
    Differs from the authors' code: no code is public.

    `before_step` removes by `scores`; `after_backward` sets the gradients of removed weights to zero. A method with other
    scores overrides `scores` alone.
    """

    settings: PrunedPlan
    pruner: Pruner
    """The masks and the weights under them; made by `begin`."""

    def begin(self, student: PreTrainedModel, masks: Masks | None) -> None:
        """Attach masks to the student: the masks that it comes with, or full ones."""
        self.pruner = Pruner(
            student,
            allocation=self.settings.allocation,
            embeddings=self.settings.prune_embeddings,
            gone=self.stage.gone,
        )

        # Masks nest along a path: what an earlier stage removed stays removed.
        if masks is not None:
            self.pruner.load(masks)

    def scores(self) -> dict[str, Float[Tensor, "..."]]:
        """Importance of every prunable weight; larger is kept. The magnitude, unless a method says otherwise."""
        return {name: magnitude(weight) for name, weight in self.pruner.weights.items()}

    def before_step(self, step: int) -> None:
        """Remove weights where the stage says so."""
        # Adam's moments of what goes are masked too, so that no momentum moves a removed weight.
        if step in self.stage.removals:
            self.pruner.remove(self.stage.removals[step], self.scores(), self.optimizer)

    def after_backward(self, step: int) -> None:
        """Set the gradients of removed weights to zero."""
        self.pruner.mask_gradients()

    def end(self) -> Masks:
        """The masks, final."""
        return self.pruner.masks

    @property
    def sparsity(self) -> float:
        """Fraction of prunable weights removed so far."""
        return self.pruner.sparsity

    def state_dict(self) -> dict[str, Tensor | Bool[Tensor, "..."]]:
        """The base's state, and the masks."""
        return super().state_dict() | {f"mask/{name}": mask for name, mask in self.pruner.masks.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        super().load_state_dict(state)

        # Loading also sets the weights under the masks to zero; in a saved student they are zero already.
        self.pruner.load({name.removeprefix("mask/"): mask for name, mask in state.items() if name.startswith("mask/")})
