"""Dropout in training on a CPU: the distribution of torch's own, from cheaper random numbers, and attention built on it.

Torch draws a random number of 32 bits or more for every element and compares it there and then: 8 % of a step. Here random
numbers of 64 bits from torch's global generator, whose state is saved with a run, are cut into lanes of 16 bits. A lane
decides one element, so the probability is rounded to k / 65536: |p' - p| <= 2^-17 < 1e-5. What is kept is divided by 1 - p',
so the expectation is exact. One byte an element is kept for the backward pass.

Torch's fused attention on a CPU has no dropout, so torch would form scores, mask, map and dropped map one by one, and keep
them. `attention_with_dropout` keeps the map and one byte an element, and leaves all factors to the matrix products.

On a GPU, in evaluation and for p = 0 everything here is torch's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

IN_TRAINING = "espalier_training"
"""Name of the attention function."""
LEVELS = 1 << 16
"""Values of a lane."""
LANES = 4
"""Lanes in a number of 64 bits."""


def with_cheap_dropout(model: PreTrainedModel) -> None:
    """Let a model's dropout, that of its attention included, be computed as here, in place.

    Modules, parameters and their names stay, and a saved model knows nothing of it. Calling it twice changes nothing more.
    Attention is left alone where the family does not look it up by name, or where another function is set.
    """
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = CheapDropout
    if model.config._attn_implementation == "sdpa":
        model.config._attn_implementation = IN_TRAINING


class CheapDropout(nn.Dropout):
    """Takes the place of a dropout module."""

    def forward(self, states: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Zero a random part and scale the rest; the input itself in evaluation."""
        if not self.training or not self.p or states.device.type != "cpu":
            return super().forward(states)
        return dropout(states, self.p)


def dropout(states: Float[Tensor, "..."], probability: float) -> Float[Tensor, "..."]:
    """Zero each element with this probability and divide the others by what is left of 1.

    Args:
        states: on a CPU.
        probability: in [0, 1].
    """
    return _Dropout.apply(states, probability) if probability else states


def draw_kept(shape: Sequence[int], probability: float) -> tuple[Int8[Tensor, "..."], float]:
    """A random mask, 1 where an element is kept, and the factor for these: 1 / (1 - p'), or 0 where none is.

    Args:
        shape: of the mask.
        probability: of a 0, in [0, 1].
    """
    shut = round(probability * LEVELS)
    if shut == LEVELS:
        return torch.zeros(shape, dtype=torch.int8), 0.0

    # All 64 bits are uniform only if the whole range is asked for: the default leaves out negative numbers.
    count = math.prod(shape)
    numbers = torch.empty(-(-count // LANES), dtype=torch.int64).random_(-(2**63), None)
    lanes = numbers.view(torch.int16)[:count].view(shape)

    # A lane is one of -32768, …, 32767, each with the same probability. Comparing into int8 is the fastest way.
    kept = torch.ge(lanes, shut - LEVELS // 2, out=torch.empty(shape, dtype=torch.int8))
    return kept, LEVELS / (LEVELS - shut)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, probability: float) -> Tensor:
        kept, ctx.scale = draw_kept(states.shape, probability)
        ctx.save_for_backward(kept)
        return _masked(states, kept).mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return _masked(gradient, kept).mul_(ctx.scale), None


def _masked(states: Float[Tensor, "..."], kept: Int8[Tensor, "..."]) -> Float[Tensor, "..."]:
    # Converting first is faster than a product of two types.
    return kept.to(states.dtype).mul_(states)


def attention_with_dropout(
    query: Float[Tensor, "batch heads length head_size"],
    key: Float[Tensor, "batch heads length head_size"],
    value: Float[Tensor, "batch heads length value_size"],
    mask: Bool[Tensor, "batch _ length length"] | None,
    scaling: float,
    probability: float,
) -> tuple[Float[Tensor, "batch heads length value_size"], Float[Tensor, "batch heads length length"]]:
    """dropout(A) V for A = softmax(scaling Q K^T) over the keys that the mask allows, and A, which has no dropout.

    A query that has no key at all gets zeros, as in torch's attention. Both outputs have gradients.

    Args:
        query: on a CPU, as are the others.
        key: of the query's type and shape.
        value: one vector a key.
        mask: True where a query may look at a key.
        scaling: factor of the scores.
        probability: of a zero, in [0, 1].
    """
    # In one number format: autocast would turn the map into fp32 and leave the values in bf16.
    with torch.autocast(query.device.type, enabled=False):
        return _Attention.apply(query, key, value, mask, scaling, probability)


def attention_map(
    query: Float[Tensor, "batch heads length head_size"],
    key: Float[Tensor, "batch heads length head_size"],
    mask: Bool[Tensor, "batch _ length length"] | None,
    scaling: float,
) -> Float[Tensor, "batch heads length length"]:
    """softmax(scaling q k^T) over the keys that the mask allows; zeros for a query that has no key.

    Source: docs/methods/spd.md §2.1 (A_i).
    Differs from the authors' code: theirs are the student's probabilities after dropout (docs/methods/spd.md §7.7).
    """
    scores = torch.matmul(query * scaling, key.transpose(2, 3))
    return _softmax(scores, mask).to(query.dtype)


def _softmax(
    scores: Float[Tensor, "batch heads length length"], mask: Bool[Tensor, "batch _ length length"] | None
) -> Float[Tensor, "batch heads length length"]:
    if mask is None:
        return scores.softmax(dim=-1)

    # Finite, because minus infinity for all keys of a query would give not-a-number.
    bias = torch.zeros(mask.shape, dtype=scores.dtype, device=scores.device).masked_fill_(~mask, torch.finfo(scores.dtype).min)
    probabilities = (scores + bias).softmax(dim=-1)

    # Padding in a local window has no key at all.
    some = mask.any(dim=-1, keepdim=True)
    return probabilities if bool(some.all()) else probabilities * some


class _Attention(torch.autograd.Function):
    """Products over the heads of all rows at once: `torch.bmm` is a third slower on heads that do not lie side by side."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, probability: float
    ) -> tuple[Tensor, Tensor]:
        heads = query.shape[:2]
        own, others, values = (states.flatten(0, 1).contiguous() for states in (query, key, value))

        scores = _product(own, others.transpose(1, 2), scaling).unflatten(0, heads)
        probabilities = _softmax(scores, mask)

        # Without dropout nothing is drawn, and the map itself is multiplied.
        kept, scale = draw_kept(probabilities.shape, probability) if probability else (None, 1.0)
        dropped = _dropped(probabilities, kept).flatten(0, 1)
        context = _product(dropped, values, scale).unflatten(0, heads)

        ctx.save_for_backward(own, others, values, probabilities, kept)
        ctx.scaling, ctx.scale = scaling, scale
        ctx.set_materialize_grads(False)
        return context, probabilities

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, context: Tensor | None, by_map: Tensor | None) -> tuple[Tensor | None, ...]:
        own, others, values, probabilities, kept = ctx.saved_tensors
        heads = probabilities.shape[:2]
        slope, by_value = by_map, None

        # C = c (A ∘ M) V, so dV = c (A ∘ M)^T dC and dA = c M ∘ (dC V^T).
        if context is not None:
            context = context.flatten(0, 1).contiguous()
            dropped = _dropped(probabilities, kept).flatten(0, 1)
            by_value = _product(dropped.transpose(1, 2), context, ctx.scale).unflatten(0, heads)
            slope = _product(context, values.transpose(1, 2), ctx.scale).unflatten(0, heads)
            slope = _dropped(slope, kept)
            slope = slope if by_map is None else slope + by_map
        if slope is None:
            return (None,) * 6

        # dS = A ∘ (dA - (A · dA)), a kernel of torch's; where the mask forbids a key A is 0, and so is dS.
        slope = torch.ops.aten._softmax_backward_data(slope, probabilities, -1, probabilities.dtype).flatten(0, 1)
        by_query = _product(slope, others, ctx.scaling).unflatten(0, heads)
        by_key = _product(slope.transpose(1, 2), own, ctx.scaling).unflatten(0, heads)
        return by_query, by_key, by_value, None, None, None


def _dropped(states: Float[Tensor, "..."], kept: Int8[Tensor, "..."] | None) -> Float[Tensor, "..."]:
    return states if kept is None else _masked(states, kept)


def _product(left: Float[Tensor, "n a b"], right: Float[Tensor, "n b c"], factor: float) -> Float[Tensor, "n a c"]:
    """factor × left right: the matrix product takes the factor for nothing."""
    result = left.new_empty(len(left), left.shape[1], right.shape[2])
    return torch.baddbmm(result, left, right, beta=0.0, alpha=factor, out=result)


def training_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **keywords: Any
) -> tuple[Float[Tensor, "batch length heads head_size"], None]:
    """Torch's fused attention, or with dropout on a CPU the one above."""
    if not keywords.get("dropout") or query.device.type != "cpu":
        return sdpa_attention_forward(module, query, key, value, attention_mask, **keywords)

    context, _ = attention_with_dropout(query, key, value, attention_mask, keywords["scaling"], keywords["dropout"])
    return context.transpose(1, 2).contiguous(), None


AttentionInterface.register(IN_TRAINING, training_attention)
AttentionMaskInterface.register(IN_TRAINING, sdpa_mask)
