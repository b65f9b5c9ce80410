"""Masks say what is kept. Here: pruning single weights of the encoder's matrices with masks, and the file of masks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from espalier.models.encoder import prunable_weights
from espalier.pruning.scores import keep_highest
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic, reading

Masks = dict[str, Bool[Tensor, "..."]]
"""Parameter name → mask, True = kept."""
MaskKind = Literal["weights", "parts", "widths", "rows"]
"""What masks are over: single weights of matrices; heads, units and hidden dimensions; widths of everything; parts and single
dimensions of heads."""


class Pruner:
    """Removes the lowest-ranked weights, exactly as many as asked for, and keeps them at zero.

    Masks nest: a removed weight never comes back. With gradients masked before the optimiser reads them and Adam's
    moments masked at each removal, the update of a removed weight is exactly zero, so here theta <- M theta after each
    step would change nothing. Masking the weights alone, as public code does, is another run: there the gradients of
    removed weights count in the norm that is clipped, and so shorten the steps of the weights that are kept.
    """

    def __init__(
        self, model: nn.Module, *, allocation: Literal["layer", "global"], embeddings: bool, gone: float = 0.0
    ) -> None:
        """Begin with full masks.

        Args:
            model: the student, pruned in place.
            allocation: `layer` ranks the weights of each matrix by themselves, `global` ranks all together.
            embeddings: whether embedding tables are pruned, too.
            gone: fraction of the dense model's weights that were cut away before; sparsities count them as removed.
        """
        self.weights = prunable_weights(model, embeddings)
        self.allocation = allocation
        self.gone = gone
        self.masks: Masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in self.weights.items()}

    @property
    def sparsity(self) -> float:
        """Fraction of the dense model's prunable weights that is removed, in [0, 1)."""
        kept = sum(int(mask.sum()) for mask in self.masks.values()) / sum(mask.numel() for mask in self.masks.values())

        # s = 1 - kept (1 - gone): only the fraction 1 - gone of the dense model is in this one.
        return 1.0 - kept * (1.0 - self.gone)

    @torch.no_grad()
    def remove(self, sparsity: float, scores: Mapping[str, Float[Tensor, "..."]], optimizer: torch.optim.Optimizer) -> None:
        """Remove the weights with the lowest scores, in each matrix or in one ranking over all.

        Args:
            sparsity: fraction of the dense model's weights that is removed afterwards.
            scores: score of every weight, by parameter; larger is kept.
            optimizer: the optimiser of the weights; Adam's moments of removed weights become 0.
        """
        # The equation of `sparsity`, solved for what is removed of this model.
        removed = (sparsity - self.gone) / (1.0 - self.gone)

        # -inf ranks removed weights first, so masks nest.
        scores = {name: scores[name].masked_fill(~mask, -torch.inf) for name, mask in self.masks.items()}
        if self.allocation == "layer":
            masks = {name: keep_highest(score, round(removed * score.numel())) for name, score in scores.items()}
        else:
            masks = _keep_highest_of_all(scores, removed)
        self.load(masks)

        # A moment that is not 0 would move a removed weight although its gradient is 0.
        for name, weight in self.weights.items():
            for moment in ("exp_avg", "exp_avg_sq"):
                if moment in optimizer.state.get(weight, {}):
                    optimizer.state[weight][moment].mul_(self.masks[name])

    @torch.no_grad()
    def load(self, masks: Mapping[str, Bool[Tensor, "..."]]) -> None:
        """Take these masks and set the weights that they remove to zero.

        Raises:
            UserError: names or shapes are not those of the model's matrices.
        """
        given = {name: tuple(mask.shape) for name, mask in masks.items()}
        needed = {name: tuple(mask.shape) for name, mask in self.masks.items()}
        if given != needed:
            names = sorted(dict(given.items() ^ needed.items()))
            raise UserError(f"the masks do not fit the model: {len(names)} matrices differ, such as {names[0]!r}")

        # A removed weight is 0 in the model itself, so evaluation and saving need no masks.
        for name, weight in self.weights.items():
            self.masks[name] = masks[name].to(weight.device)
            weight.mul_(self.masks[name])

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Set the gradients of removed weights to zero."""
        for name, weight in self.weights.items():
            if weight.grad is not None:
                weight.grad.mul_(self.masks[name])


def _keep_highest_of_all(scores: Mapping[str, Float[Tensor, "..."]], removed: float) -> Masks:
    """Masks that remove a fraction of all weights, in one ranking over all matrices."""
    ranking = torch.cat([score.flatten() for score in scores.values()])
    kept = keep_highest(ranking, round(removed * ranking.numel()))

    by_matrix = kept.split([score.numel() for score in scores.values()])
    return {name: part.view_as(scores[name]) for name, part in zip(scores, by_matrix, strict=True)}


def write_masks(path: Path, masks: Masks, handed_on: Mapping[str, Tensor] | None = None) -> None:
    """Write masks as safetensors, one bit a weight; their shapes stand in the file's metadata.

    Args:
        path: where to.
        masks: what is kept.
        handed_on: tensors of the method's own for later stages, under names that no mask has.
    """
    packed = {name: np.packbits(mask.cpu().numpy()) for name, mask in masks.items()}
    packed |= {name: tensor.contiguous().cpu().numpy() for name, tensor in (handed_on or {}).items()}

    # One key for all shapes: safetensors does not always write several keys in the same order.
    shapes = json.dumps({name: list(mask.shape) for name, mask in masks.items()})
    with atomic(path) as temporary:
        save_file(packed, temporary, metadata={"shapes": shapes})


def read_masks(path: Path) -> Masks:
    """Read masks; `Pruner.load` checks that they fit the model."""
    with reading(path, SafetensorError), safe_open(path, framework="numpy") as file:
        shapes = json.loads(file.metadata()["shapes"])
        packed = {name: file.get_tensor(name) for name in file.keys() if name in shapes}  # noqa: SIM118

    # Bits are packed into bytes, so the last byte may hold more of them than the mask has.
    masks = {}
    for name, bits in packed.items():
        shape = shapes[name]
        masks[name] = torch.from_numpy(np.unpackbits(bits, count=math.prod(shape)).astype(bool)).view(shape)
    return masks


def read_handed_on(start: Sequence[Path]) -> dict[str, Tensor]:
    """What the method of the stage before handed on beside its masks; nothing where a model comes without a file of masks.

    Args:
        start: files of the model that a stage starts from.
    """
    path = next((path for path in start if path.name == "masks.safetensors"), None)
    if path is None:
        return {}

    # What has no shape among the masks is no mask.
    with reading(path, SafetensorError), safe_open(path, framework="pt") as file:
        shapes = json.loads(file.metadata()["shapes"])
        return {name: file.get_tensor(name) for name in file.keys() if name not in shapes}  # noqa: SIM118


def structure_of(masks: Masks) -> dict[str, Any]:
    """Kept and all weights of each matrix, and the sparsity over all matrices, for structure.json."""
    counts = {name: {"kept": int(mask.sum()), "total": mask.numel()} for name, mask in masks.items()}

    total = sum(count["total"] for count in counts.values())
    kept = sum(count["kept"] for count in counts.values())
    return {"sparsity": 1.0 - kept / total if total else 0.0, "matrices": counts}
