"""Output matrices of a smaller model, fitted so that its sublayers add up to what those of the dense model did.

Source: K-prune (Park, Choi, Kang 2024, arXiv 2308.03449), reconstruction; docs/methods/kprune.md §2.3.
Differs from the authors' code: unread; here also for models that other methods have made and trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel

from espalier.data.batches import Batch
from espalier.models.modeling_espalier import family_of, find
from espalier.pruning.calibrated.least_squares import Moments, best_matrix
from espalier.pruning.calibrated.streams import Seen, Stream
from espalier.pruning.parts import SUBLAYERS, Sublayer


def output_matrix(model: PreTrainedModel, layer: int, kind: Sublayer) -> nn.Linear:
    """The matrix through which a sublayer writes to the residual stream."""
    family = family_of(model.config)
    path = family.from_heads if kind == "attention" else family.ffn_out
    layers: Any = find(model.base_model, family.layers)
    return find(layers[layer], path)


class Totals:
    """The residual sums of one layer of the dense model, in the dimensions that the smaller one has."""

    def __init__(self, hidden: Int[Tensor, " kept"] | None = None) -> None:
        self.hidden = hidden
        self.of: dict[Sublayer, list[Float[Tensor, "_ kept"]]] = {kind: [] for kind in SUBLAYERS}

    def __call__(self, place: int, kind: Sublayer, seen: Seen) -> None:
        """Keep what `Stream.advance` shows."""
        self.of[kind].append(seen.total if self.hidden is None else seen.total[:, self.hidden])


def moments_of(
    stream: Stream, kind: Sublayer, wanted: Sequence[Float[Tensor, "_ hidden"]], *, first_tokens: bool = False
) -> Moments:
    """Sums for the output matrix of a sublayer that has to bring the residual stream to what is wanted.

    Args:
        stream: of the model whose matrix it is, before its layer.
        kind: a sublayer that the layer has.
        wanted: residual sums of each batch's real tokens.
        first_tokens: look at the first token of every row alone.
    """
    moments = None
    for batch, seen, total in zip(stream.batches, stream.sublayer(kind), wanted, strict=True):
        if moments is None:
            moments = Moments(seen.inputs.shape[1], total.shape[1], total.device)

        # x + X W^T + b is to be the dense x' + X' W'^T + b', so the matrix has to write the rest.
        rest = total - (seen.total - seen.written)
        # Real tokens alone, in their order; where nothing reads the others, only the first one of each row.
        places = batch.attention_mask.nonzero()[:, 1]
        chosen = places == 0 if first_tokens else slice(None)
        moments.add(seen.inputs[chosen], rest[chosen])
    return moments


@torch.no_grad()
def refit_layers(
    model: PreTrainedModel, dense: PreTrainedModel, batches: Sequence[Batch], hidden: Int[Tensor, " kept"]
) -> list[tuple[float, float]]:
    """Fit all output matrices in place, from the first layer to the last one; each sees what the refitted ones before give.

    Args:
        model: a compact model in eval mode.
        dense: the model to come near to, with as many layers.
        batches: rows to fit on.
        hidden: the hidden dimensions of the dense model that the compact one has.

    Returns:
        Mean squared error of each sublayer over tokens and dimensions, before and after its refit.
    """
    own, whole = Stream(model, batches), Stream(dense, batches)
    errors = []

    for layer in tqdm(range(len(own.layers)), "refit", unit="layer", mininterval=5.0):
        # Both sublayers are fitted to what the dense layer's add up to, in the dimensions that are left.
        totals = Totals(hidden.to(model.device))
        whole.advance(totals)

        for kind in SUBLAYERS:
            # A sublayer without parts has no matrix to fit.
            if own.has(kind) and totals.of[kind]:
                moments, matrix = moments_of(own, kind, totals.of[kind]), output_matrix(model, layer, kind)
                errors.append(refit_matrix(matrix, moments))
        own.advance()
    return errors


def refit_matrix(matrix: nn.Linear, moments: Moments) -> tuple[float, float]:
    """Fit one matrix in place; returns its mean squared error before and after."""
    count = moments.tokens * matrix.out_features
    before = float(moments.error(matrix.weight, matrix.bias)) / count

    # min over W and b of Σ |rest - X W^T - b|^2
    weight, bias = best_matrix(moments, matrix.weight, matrix.bias)
    matrix.weight.copy_(weight)
    if bias is not None:
        matrix.bias.copy_(bias)
    return before, float(moments.error(weight, bias)) / count
