"""What a forward pass gives to the losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

Representation = Literal["first-token", "mean"]


@dataclass(frozen=True)
class Outputs:
    """What a forward pass gives to the losses."""

    logits: Float[Tensor, "rows classes"]
    """One line a row; for masked-language modelling one line a masked token, in row-major order of the mask; for spans two
    lines a row, over the places where its answer may start and where it may end (data/spans.py)."""
    representation: Float[Tensor, "batch hidden"] | None = None
    """One vector a row, where the method asks for it."""
    hidden_states: tuple[Float[Tensor, "batch length hidden"], ...] = ()
    """Output of every encoder layer, where the method asks for them."""
    embedding: Float[Tensor, "batch length hidden"] | None = None
    """What the method takes as embeddings, where it asks for relations."""
    attention: tuple[Float[Tensor, "batch length length"], ...] = ()
    """Scaled scores of every layer before the softmax, mean over heads, where the method asks for relations."""
    maps: tuple[Float[Tensor, "batch heads length length"], ...] = ()
    """Attention probabilities of every layer and head, without dropout, where the method asks for them instead."""
