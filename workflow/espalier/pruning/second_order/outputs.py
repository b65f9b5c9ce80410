"""The matrices that sublayers end with, in a model: what they read of some rows of data, and what they become with fewer parts.

Source: ZipLM (Kurtic, Frantar, Alistarh 2023, arXiv 2302.04089); docs/methods/obs.md §2.1 and 2.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel

from espalier.data.batches import Batch
from espalier.models.modeling_espalier import family_of, find, shape_of
from espalier.pruning.parts import SUBLAYERS, Sublayer, parts_in
from espalier.pruning.second_order.removal import RankedParts, damped, refitted, removal_of


class OutputMatrix:
    """The matrix that a sublayer ends with. It reads what heads or FFN units give, each in neighbouring columns."""

    def __init__(self, kind: Sublayer, layer: int, module: nn.Linear, parts: int) -> None:
        self.kind = kind
        self.layer = layer
        self.name = parts_in(kind, layer)
        self.module = module
        self.parts = parts
        self.width = module.in_features // parts

        # A bias is the column of an input that is always 1.
        bias = [] if module.bias is None else [module.bias.detach().double()[:, None]]
        self.whole: Float[Tensor, "rows columns"] = torch.cat([module.weight.detach().double(), *bias], dim=1)
        self.hessian = self.whole.new_zeros(self.whole.shape[1], self.whole.shape[1])
        self.rows = 0
        self.removal: RankedParts | None = None
        self.count = parts
        """Parts that the module reads now."""
        self._refits: dict[int, Tensor] = {}

    def see(self, states: Float[Tensor, "tokens columns"]) -> None:
        """Add what the matrix read of some tokens to X X^T."""
        # Sums of squares over thousands of tokens lose their small differences in single precision.
        states = states.double()
        if self.module.bias is not None:
            states = torch.cat([states, states.new_ones(len(states), 1)], dim=1)
        self.hessian.addmm_(states.T, states)
        self.rows += len(states)

    def rank(self) -> None:
        """Find the order in which parts go, once everything was seen."""
        # H = 2/n X X^T
        self.hessian = damped(self.hessian * (2.0 / max(1, self.rows)))
        self.removal = removal_of(self.whole, self.hessian, self.parts, self.width)

    def kept(self, count: int) -> Bool[Tensor, " parts"]:
        """The parts that stay where so many do."""
        mask = torch.ones(self.parts, dtype=torch.bool)
        mask[self.removal.order[: self.parts - count]] = False
        return mask

    def write(self, count: int) -> None:
        """Let the module make up for all parts but so many; a sublayer without parts is left as it is, for it is not run."""
        if count in (0, self.count):
            return

        # The search comes to the same sizes again and again.
        if count not in self._refits:
            others = torch.ones(self.whole.shape[1] - self.parts * self.width, dtype=torch.bool)
            columns = torch.cat([self.kept(count).repeat_interleave(self.width), others]).to(self.whole.device)
            refit = self.whole if count == self.parts else refitted(self.whole, self.hessian, columns)
            self._refits[count] = refit.to(self.module.weight.dtype)

        # In place: optimiser and gates hold these parameters.
        weight, refit = self.module.weight, self._refits[count]
        weight.data.copy_(refit[:, : weight.shape[1]])
        if self.module.bias is not None:
            self.module.bias.data.copy_(refit[:, -1])
        self.count = count


def output_matrices(model: PreTrainedModel) -> list[OutputMatrix]:
    """The matrices of all sublayers that a model has, in the order in which they run."""
    family, shape = family_of(model.config), shape_of(model.config)

    layers: Any = find(model.base_model, family.layers)
    matrices = []
    for index, layer in enumerate(layers):
        for kind, path, parts in zip(SUBLAYERS, (family.from_heads, family.ffn_out), shape.layers[index], strict=True):
            # A sublayer that an earlier stage has closed has no matrix.
            if parts:
                matrices.append(OutputMatrix(kind, index, find(layer, path), parts))
    return matrices


@torch.no_grad()
def see_rows(model: PreTrainedModel, matrices: Sequence[OutputMatrix], batches: Iterable[Batch]) -> None:
    """Run a model and let each matrix see what it reads of every token that is no padding."""
    for batch in tqdm(batches, "inputs of matrices", unit="batch", mininterval=5.0):
        real = batch.attention_mask.bool()
        with _seen_by(matrices, real):
            model(**batch.inputs())


@contextmanager
def _seen_by(matrices: Sequence[OutputMatrix], real: Bool[Tensor, "batch length"]) -> Iterator[None]:
    """While the model runs, each matrix sees the real tokens of its input."""

    def hook_of(matrix: OutputMatrix):
        return lambda module, inputs: matrix.see(inputs[0][real])

    handles = [matrix.module.register_forward_pre_hook(hook_of(matrix)) for matrix in matrices]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
