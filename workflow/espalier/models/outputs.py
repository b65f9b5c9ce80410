"""The outputs of a forward pass, as the losses read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

Representation = Literal["first-token", "mean"]


@dataclass(frozen=True)
class Outputs:
    """Tensors of one forward pass; what a method did not ask for is empty."""

    logits: Float[Tensor, "lines ..."]
    """One line for each row. Masked-language modelling: one line for each masked token, in row-major order of the mask.
    Spans: two lines for each row, over the tokens where its answer may start and where it may end (data/spans.py). Words with
    tags: one line for each word, row after row (data/tagged/rows.py)."""
    representation: Float[Tensor, "vectors hidden"] | None = None
    """One vector for each row, or for each word with a tag, where the method asks for it."""
    hidden_states: tuple[Float[Tensor, "batch length hidden"], ...] = ()
    """Output of every encoder layer, where the method asks for them."""
    embedding: Float[Tensor, "batch length hidden"] | None = None
    """Output of the embedding block, or rows of the word table, where the method asks for relations."""
    attention: tuple[Float[Tensor, "batch length length"], ...] = ()
    """Scaled scores of every layer before the softmax, mean over heads, where the method asks for relations."""
    maps: tuple[Float[Tensor, "batch heads length length"], ...] = ()
    """Attention probabilities of every layer and head, without dropout, where the method asks for them instead."""
