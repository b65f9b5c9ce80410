"""What is kept: masks on the encoder's weight matrices, their life from one removal to the next, and their file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
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
MaskKind = Literal["weights", "parts", "widths"]
"""What masks are over: single weights of matrices; heads, units and hidden dimensions; widths of everything."""


class Pruner:
    """Removes the lowest-ranked weights, exactly as many as asked for, and keeps them at zero.

    Masks nest: what is removed never comes back. With gradients masked before the optimiser reads them and Adam's
    moments masked at each removal, an update of a removed weight is exactly zero, so weights need no masking after
    each step (the specification's `theta <- M theta` has the same effect).
    """

    def __init__(
        self, model: nn.Module, *, allocation: Literal["layer", "global"], embeddings: bool, gone: float = 0.0
    ) -> None:
        """Begin with full masks; sparsities count against a base of which the fraction `gone` is not in the model."""
        self.weights = prunable_weights(model, embeddings)
        self.allocation, self.gone = allocation, gone
        self.masks: Masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in self.weights.items()}

    @property
    def sparsity(self) -> float:
        """Fraction of the base's prunable weights that is removed, in [0, 1)."""
        kept = sum(int(mask.sum()) for mask in self.masks.values()) / sum(mask.numel() for mask in self.masks.values())
        return 1.0 - kept * (1.0 - self.gone)

    @torch.no_grad()
    def remove(self, sparsity: float, scores: Mapping[str, Float[Tensor, "..."]], optimizer: torch.optim.Optimizer) -> None:
        """Raise the sparsity to `sparsity`, lowest scores first; in each matrix, or in one ranking over all."""
        sparsity = (sparsity - self.gone) / (1.0 - self.gone)  # of the model
        scores = {name: scores[name].masked_fill(~mask, -torch.inf) for name, mask in self.masks.items()}
        if self.allocation == "layer":
            masks = {name: keep_highest(score, round(sparsity * score.numel())) for name, score in scores.items()}
        else:
            ranking = torch.cat([score.flatten() for score in scores.values()])
            kept = keep_highest(ranking, round(sparsity * ranking.numel())).split([score.numel() for score in scores.values()])
            masks = {name: part.view_as(scores[name]) for name, part in zip(scores, kept, strict=True)}
        self.load(masks)
        for name, weight in self.weights.items():
            for moment in ("exp_avg", "exp_avg_sq"):
                if moment in optimizer.state.get(weight, {}):
                    optimizer.state[weight][moment].mul_(self.masks[name])

    @torch.no_grad()
    def load(self, masks: Mapping[str, Bool[Tensor, "..."]]) -> None:
        """Take these masks and set what they remove to zero."""
        given, needed = ({name: tuple(mask.shape) for name, mask in some.items()} for some in (masks, self.masks))
        if given != needed:
            names = sorted(dict(given.items() ^ needed.items()))
            raise UserError(f"the masks do not fit the model: {len(names)} matrices differ, such as {names[0]!r}")
        for name, weight in self.weights.items():
            self.masks[name] = masks[name].to(weight.device)
            weight.mul_(self.masks[name])

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Set the gradients of removed weights to zero."""
        for name, weight in self.weights.items():
            if weight.grad is not None:
                weight.grad.mul_(self.masks[name])


def write_masks(path: Path, masks: Masks) -> None:
    """Write masks as safetensors, one bit a weight; the shapes stand in the file's metadata, under one key because the
    order of several is not always the same.
    """
    packed = {name: np.packbits(mask.cpu().numpy()) for name, mask in masks.items()}
    shapes = json.dumps({name: list(mask.shape) for name, mask in masks.items()})
    with atomic(path) as temporary:
        save_file(packed, temporary, metadata={"shapes": shapes})


def read_masks(path: Path) -> Masks:
    """Read masks; `Pruner.load` checks that they fit the model."""
    with reading(path, SafetensorError), safe_open(path, framework="numpy") as file:
        shapes = json.loads(file.metadata()["shapes"])
        packed = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    masks = {}
    for name, bits in packed.items():
        shape = shapes[name]
        masks[name] = torch.from_numpy(np.unpackbits(bits, count=math.prod(shape)).astype(bool)).view(shape)
    return masks


def structure_of(masks: Masks) -> dict[str, Any]:
    """What is kept of each matrix, and the sparsity over all of them, for structure.json."""
    counts = {name: {"kept": int(mask.sum()), "total": mask.numel()} for name, mask in masks.items()}
    total = sum(count["total"] for count in counts.values())
    kept = sum(count["kept"] for count in counts.values())
    return {"sparsity": 1.0 - kept / total if total else 0.0, "matrices": counts}
