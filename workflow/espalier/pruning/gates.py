"""Multiplicative gates inside a running model: on heads, FFN units, sublayers and hidden dimensions.

Source: CoFi (Xia, Zhong, Chen 2022, arXiv 2204.00408; docs/methods/cofi.md §2, masked forward):
    e = (sum of embeddings) * z_hidden                      x = LN_z(e) * z_hidden
    attention_i(x) = z_attention,i ((concat_j z_head,ij head_ij(x)) W_O + b_O)
    ffn_i(x) = z_ffn,i ((act(x W_U + b_U) * z_unit,i) W_D + b_D)
    y = LN_z(dropout(sublayer(x) * z_hidden) + x) * z_hidden
LN_z normalises over the dimensions whose gate is open. A sublayer that is closed, or of which all heads or all units
are closed, is an identity, its LayerNorm included.

Heads are gated in an attention function of our own, which is registered with its mask function (without that, padding
would be attended to) and calls torch's kernel; families without that registry are gated where the output projection reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from espalier.models.modeling_espalier import Family, check, family_of, find, shape_of
from espalier.pruning.parts import HIDDEN, SUBLAYERS, Parts, Sublayer, heads_of, parts_in, units_of

GATED = "espalier_gated"
"""Name of the attention function."""


def sublayer_gate(values: Parts, kind: Sublayer, layer: int) -> Float[Tensor, ""] | None:
    """The gate of a whole sublayer, None where no gate concerns it; 0 where all its heads, or all its units, are closed.

    Source: docs/methods/cofi.md §2; that a sublayer without open parts is closed: point 9 of section 7.
    """
    sublayers = values.get(kind)
    parts = values.get(parts_in(kind, layer))
    gate = None if sublayers is None else sublayers[layer]

    # 1 where any part is open, else 0: without this factor an empty sublayer would still add its bias.
    if parts is not None:
        any_open = (parts != 0).any().to(parts.dtype)
        gate = any_open if gate is None else gate * any_open
    return gate


class GateState:
    """What the modules of one model read during a forward pass."""

    def __init__(self, source: Callable[[], Parts]) -> None:
        self.source = source
        self.values: Parts = {}
        """Gates of the forward pass that runs now."""
        self.present: dict[tuple[Sublayer, int], bool] = {}
        """Sublayer → whether it is open; only sublayers that the model has."""
        self.hidden_kept: Tensor | None = None
        """Number of open hidden dimensions; None where all are open."""

    def refresh(self, layers: Sequence[tuple[int, int]]) -> None:
        """Take the gates of this forward pass.

        Args:
            layers: number of heads and of FFN units in each layer; 0 where the layer has no such sublayer.
        """
        self.values = self.source()

        gates: dict[tuple[Sublayer, int], Tensor | None] = {}
        for layer, sizes in enumerate(layers):
            for kind, size in zip(SUBLAYERS, sizes, strict=True):
                if size:
                    gates[kind, layer] = sublayer_gate(self.values, kind, layer)

        # One transfer from the device for all sublayers: Python needs the values to skip sublayers that are closed.
        self.present = dict.fromkeys(gates, True)
        gated = {place: gate for place, gate in gates.items() if gate is not None}
        if gated:
            is_open = torch.stack(list(gated.values())).ne(0).tolist()
            self.present |= zip(gated, is_open, strict=True)

        # None where every hidden dimension is open: then the ordinary LayerNorm serves.
        hidden = self.values.get(HIDDEN)
        self.hidden_kept = None
        if hidden is not None and not bool((hidden != 0).all()):
            self.hidden_kept = (hidden != 0).sum()


class GatedNorm(nn.LayerNorm):
    """LN_z with the hidden gates after it. It takes a LayerNorm's place without changing the names of its parameters."""

    state: GateState
    sublayer: tuple[Sublayer, int] | None
    """The sublayer whose residual sum it normalises; None for other LayerNorms."""
    scales_input: bool
    """Whether its input is still without hidden gates, as sums of embedding tables are."""

    def forward(self, states: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """Normalise over the open dimensions; the input itself where the sublayer is closed."""
        # A closed sublayer is an identity, so its LayerNorm must not act either.
        if self.sublayer is not None and not self.state.present[self.sublayer]:
            return states

        gate = self.state.values.get(HIDDEN)
        if gate is None:
            return super().forward(states)
        if self.scales_input:
            states = states * gate

        # Where every dimension is open, LN_z is the ordinary LayerNorm, and its affine map takes the gates:
        # (n w + b) z = n (w z) + b z.
        if self.state.hidden_kept is None:
            # Weight before bias: autograd adds the gate's gradients in this order, and the order decides the last bit.
            weight = self.weight * gate
            bias = None if self.bias is None else self.bias * gate
            return F.layer_norm(states, self.normalized_shape, weight, bias, self.eps)

        return open_layer_norm(states, gate, self.state.hidden_kept, self.weight, self.bias, self.eps)


def open_layer_norm(
    states: Float[Tensor, "*batch hidden"],
    gate: Float[Tensor, " hidden"],
    kept: Tensor,
    weight: Float[Tensor, " hidden"],
    bias: Float[Tensor, " hidden"] | None,
    epsilon: float,
) -> Float[Tensor, "*batch hidden"]:
    """LayerNorm over the open dimensions, times the gate.

    Mean and variance over the k open ones of d dimensions follow from mean and variance over all d, because the closed
    dimensions are 0: mean_k = (d / k) mean, var_k = (d / k) (var + mean^2) - mean_k^2.

    Source: docs/methods/cofi.md §2 (LN_z).

    Args:
        states: 0 where the gate is 0.
        gate: hidden gates, in [0, 1].
        kept: k, the number of open dimensions.
        weight: weight of the LayerNorm.
        bias: bias of the LayerNorm.
        epsilon: added to the variance.
    """
    # At least fp32: the difference of squares below loses too many digits in half precision.
    states = states.to(torch.promote_types(states.dtype, torch.float32))
    variance, mean = torch.var_mean(states, dim=-1, correction=0, keepdim=True)

    ratio = states.shape[-1] / kept  # d / k
    open_mean = ratio * mean
    open_variance = ratio * (variance + mean.square()) - open_mean.square()

    # Rounding can leave a variance just below 0.
    scale = torch.rsqrt(open_variance.clamp_min(0.0) + epsilon)
    normal = states * scale - open_mean * scale
    return normal * (weight * gate) if bias is None else torch.addcmul(bias * gate, normal, weight * gate)


def gated_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **keywords: Any
) -> tuple[Float[Tensor, "batch length heads head_size"], None]:
    """Torch's attention with each head's context multiplied by the head's gate."""
    context, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **keywords)

    # Contexts are [batch, length, heads, head_size]: one gate for each head, before the output matrix mixes heads.
    state, index = module.gate
    gate = state.values.get(heads_of(index))
    if gate is not None:
        context = context * gate.to(context.dtype)[:, None]
    return context, None


AttentionInterface.register(GATED, gated_attention)
AttentionMaskInterface.register(GATED, sdpa_mask)


def attach(model: PreTrainedModel, source: Callable[[], Parts]) -> GateState:
    """Gate a model's parts.

    The class of the model's LayerNorms changes, and hooks are set, so a gated model is for training; `pruning.shrink`
    makes the model to keep.

    Args:
        model: the model to gate, in place.
        source: called at the beginning of every forward pass; gives the gates. Parts that it leaves out are open.

    Raises:
        ValueError: the model's family, or a part of the model, cannot be pruned.
    """
    family = family_of(model.config)
    shape = shape_of(model.config)
    base = model.base_model
    check(base, family)

    state = GateState(source)
    model.register_forward_pre_hook(lambda module, inputs: state.refresh(shape.layers))

    layers = find(base, family.layers)
    for index, (layer, (heads, units)) in enumerate(zip(layers, shape.layers, strict=True)):
        if heads:
            _gate_heads(layer, family, state, index, shape.head_dim)
            _gate_output(find(layer, family.from_heads), state, ("attention", index))
        if units:
            down = find(layer, family.ffn_out)
            _gate_input(down, state, units_of(index))
            _gate_output(down, state, ("ffn", index))

        # In a pre-norm family the LayerNorm comes before the sublayer, off the residual path: it need not be skipped.
        for kind, path, size in zip(SUBLAYERS, family.norms, (heads, units), strict=True):
            if size and isinstance(norm := find(layer, path), nn.LayerNorm):
                _gate_norm(norm, state, None if family.pre_norm else (kind, index))

    if family.dispatches:
        model.set_attn_implementation(GATED)
    _gate_stream(base, family, state)
    return state


def _gate_heads(layer: nn.Module, family: Family, state: GateState, index: int, head_dim: int) -> None:
    """Scale the heads of a layer: in our attention function, or where the output matrix reads them."""
    if family.dispatches:
        find(layer, family.attention).gate = (state, index)
    else:
        _gate_input(find(layer, family.from_heads), state, heads_of(index), head_dim)


def _gate_input(module: nn.Module, state: GateState, name: str, repeats: int = 1) -> None:
    """Scale what a matrix reads; each gate stands for `repeats` neighbouring inputs."""

    def read(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        gate = state.values.get(name)
        if gate is None:
            return inputs
        return (inputs[0] * gate.repeat_interleave(repeats).to(inputs[0].dtype),)

    module.register_forward_pre_hook(read)


def _gate_output(module: nn.Module, state: GateState, place: tuple[Sublayer, int]) -> None:
    """Scale what a sublayer writes to the residual stream, by its own gate and by the hidden gates."""

    def write(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        for gate in (sublayer_gate(state.values, *place), state.values.get(HIDDEN)):
            if gate is not None:
                output = output * gate.to(output.dtype)
        return output

    module.register_forward_hook(write)


def _gate_norm(norm: nn.LayerNorm, state: GateState, sublayer: tuple[Sublayer, int] | None, scales_input: bool = False) -> None:
    # Changing the class keeps the module, its parameters and their names, so saved runs and the optimiser still fit.
    norm.__class__ = GatedNorm
    norm.state = state
    norm.sublayer = sublayer
    norm.scales_input = scales_input


def _gate_stream(base: nn.Module, family: Family, state: GateState) -> None:
    """Gate embeddings, or what projects them to the residual stream, and the LayerNorms outside the layers."""

    def write(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        gate = state.values.get(HIDDEN)
        return output if gate is None else output * gate.to(output.dtype)

    projections = [module for path in family.projections if (module := find(base, path)) is not None]
    for module in projections:
        module.register_forward_hook(write)

    # A LayerNorm that reads the tables themselves gets sums without gates, because tables have no hooks.
    for path in (*family.embedding_norms, *family.final_norms):
        norm = find(base, path)
        if norm is not None and norm.normalized_shape == (base.config.hidden_size,):
            reads_table = path in family.embedding_norms and not (projections and path.startswith("embeddings."))
            _gate_norm(norm, state, None, scales_input=reads_table)
