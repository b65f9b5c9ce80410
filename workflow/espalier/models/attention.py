"""Recording attention and embeddings of a forward pass, which HomoDistil and SPD compare besides logits.

HomoDistil (Liang et al. 2023, arXiv 2302.09632; docs/methods/homodistil.md §2): scores averaged over heads, so numbers and
widths of heads need not agree. The mean over heads of q_h k_h^T is one product of the concatenated heads.
SPD (Huang et al. 2022, arXiv 2110.08190; docs/methods/spd.md §2.1): the probabilities of every head.

While a model is recorded its attention goes through a function of our own, which is registered with its mask function
(without that, padding would be attended to). Where scores are recorded, that function computes attention as training does
(models/dropout.py): outputs are the same to the last bit. Where maps are recorded, no kernel of torch's returns them, so the
output is computed from the map, which costs less than computing it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from espalier.models.dropout import IN_TRAINING, attention_map, attention_with_dropout, training_attention
from espalier.models.grafting import acting
from espalier.models.modeling_espalier import family_of, find
from espalier.runtime.errors import UserError

RECORDED = "espalier_recorded"
"""Name of the attention function."""
Embedding = Literal["output", "table"]
"""The embedding block's output, after its LayerNorm; or the rows of the word table alone."""
Recording = Embedding | Literal["maps"]
"""What is recorded: averaged scores and these embeddings; or the probabilities of every head."""


@dataclass
class Relations:
    """Attention and embeddings of one recorded forward pass, with gradients where the model has them."""

    embedding: Float[Tensor, "batch length hidden"] | None = None
    attention: list[Float[Tensor, "batch length length"]] = field(default_factory=list)
    """Scaled scores before the softmax, averaged over heads, padded positions included; one a layer."""
    maps: list[Float[Tensor, "batch heads length length"]] | None = None
    """Probabilities of every head before dropout; one a layer. None where scores are recorded."""


@contextmanager
def recorded(model: PreTrainedModel, what: Recording = "output") -> Iterator[Relations]:
    """Record the forward pass inside this context; the model is as before afterwards.

    Args:
        model: of a family whose attention is looked up by name; with torch's attention.
        what: what to record.

    Raises:
        UserError: the family, or the attention in use, cannot be recorded.
    """
    config = model.config
    family = family_of(config)
    implementation = config._attn_implementation
    if not family.dispatches or implementation not in ("sdpa", IN_TRAINING):
        raise UserError(
            f"attention of {family.stem} models with implementation {implementation!r} cannot be recorded; allowed: families "
            "that look theirs up by name, with 'sdpa'; or set attention_weight, and embedding_weight of homodistil, to 0"
        )

    relations = Relations(maps=[] if what == "maps" else None)
    modules = [find(acting(layer), family.attention) for layer in find(model.base_model, family.layers)]
    # a grafted layer is the teacher's and has the teacher's configuration
    before = [(own, own._attn_implementation) for own in (config, *(module.config for module in modules))]
    source = model.get_input_embeddings() if what == "table" else model.base_model.embeddings

    hook = source.register_forward_hook(lambda module, inputs, output: setattr(relations, "embedding", output))
    for switched, _ in before:
        switched._attn_implementation = RECORDED
    for module in modules:
        module.relations = relations
    try:
        yield relations
    finally:
        hook.remove()
        for switched, previous in before:
            switched._attn_implementation = previous
        for module in modules:
            del module.relations


def head_average(
    query: Float[Tensor, "batch heads length head_size"], key: Float[Tensor, "batch heads length head_size"], scaling: float
) -> Float[Tensor, "batch length length"]:
    """Scaled scores, averaged over heads: (scaling / heads) sum_h q_h k_h^T as one product.

    Source: docs/methods/homodistil.md §2 (A).
    Differs from the authors' code: no code is public.
    """
    # sum_h q_h k_h^T = Q K^T, where Q and K hold the heads side by side
    wide_query, wide_key = (states.transpose(1, 2).flatten(2) for states in (query, key))
    return torch.matmul(wide_query, wide_key.transpose(1, 2)) * (scaling / query.shape[1])


def recorded_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **keywords: Any
) -> tuple[Float[Tensor, "batch length heads head_size"], None]:
    """Attention as the model would compute it; its scores, or its map, are appended to `module.relations`."""
    if module.relations.maps is not None:
        context, probabilities = _with_map(query, key, value, attention_mask, keywords["scaling"], keywords["dropout"])
        module.relations.maps.append(probabilities)
        return context.transpose(1, 2).contiguous(), None

    module.relations.attention.append(head_average(query, key, keywords["scaling"]))
    return training_attention(module, query, key, value, attention_mask, **keywords)


def _with_map(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, dropout: float
) -> tuple[Float[Tensor, "batch heads length head_size"], Float[Tensor, "batch heads length length"]]:
    """Context, with dropout, and the map, without; on a CPU from one function that keeps little for the backward pass."""
    if query.device.type == "cpu":
        return attention_with_dropout(query, key, value, mask, scaling, dropout)

    probabilities = attention_map(query, key, mask, scaling)
    return F.dropout(probabilities, dropout) @ value, probabilities


AttentionInterface.register(RECORDED, recorded_attention)
AttentionMaskInterface.register(RECORDED, sdpa_mask)
