"""Multiplicative gates inside a running model: on heads, FFN units, sublayers and hidden dimensions.

Source: CoFi (Xia, Zhong, Chen 2022, arXiv 2204.00408; docs/methods/cofi.md §2, masked forward):
    e = (sum of embeddings) * z_hidden                      x = LN_z(e) * z_hidden
    attention_i(x) = z_attention,i ((concat_j z_head,ij head_ij(x)) W_O + b_O)
    ffn_i(x) = z_ffn,i ((act(x W_U + b_U) * z_unit,i) W_D + b_D)
    y = LN_z(dropout(sublayer(x) * z_hidden) + x) * z_hidden
LN_z normalises over the dimensions whose gate is open. A sublayer that is closed, or of which all heads or all units
are closed, is an identity, its LayerNorm included.

Gates multiply weights, not activations: z (x W + b) = x (z W) + z b, and a matrix has far fewer numbers than a batch has. A
head or unit whose gate is exactly 0 adds nothing to the output and gets no gradient, so this pass leaves its rows and columns
out. The results are those of the whole model up to rounding, at the cost of a small one. The next pass may open the part
again: parameters, their gradients and the optimiser's moments keep their shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from transformers import PreTrainedModel

from espalier.models.modeling_espalier import Family, Shape, check_covered, family_of, find, head_sizes, shape_of
from espalier.pruning.parts import HIDDEN, SUBLAYERS, Parts, Sublayer, in_blocks, is_ragged, parts_in

GRAIN: dict[Sublayer, int] = {"attention": 1, "ffn": 16}
"""Heads and units are computed in multiples of these: the kernels of matrix products like whole vectors of numbers."""
WORTH = 0.9
"""Where more than this fraction of a sublayer's parts is open, it is computed whole: copying its weights would cost more."""


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


@dataclass(frozen=True)
class Computed:
    """What a forward pass computes of a sublayer."""

    count: int
    """Heads or FFN units that are computed."""
    chosen: Int[Tensor, " _"] | None = None
    """Their indices; None where all are computed."""


class Chosen(torch.autograd.Function):
    """Rows or columns of a weight; the gradient of the others is 0.

    As `index_select`, whose gradient is added up number by number; here no index comes twice, so it is copied.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor, axis: int, indices: Int[Tensor, " _"]) -> Tensor:
        """The rows (axis 0) or columns (axis 1) with these indices, in order."""
        ctx.axis, ctx.indices, ctx.shape = axis, indices, weight.shape
        return weight.index_select(axis, indices)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Zeros, with the gradient where it belongs."""
        whole = gradient.new_zeros(ctx.shape)
        return whole.index_copy_(ctx.axis, ctx.indices, gradient), None, None


class GateState:
    """What the modules of one model read during a forward pass."""

    def __init__(self, source: Callable[[], Parts], shape: Shape, whole_heads: bool = False) -> None:
        self.source = source
        self.shape = shape
        self.whole_heads = whole_heads
        """Whether a layer keeps all of its heads or none: then attention is always computed whole."""
        self.values: Parts = {}
        """Gates of the forward pass that runs now."""
        self.present: dict[tuple[Sublayer, int], bool] = {}
        """Sublayer → whether it is open; only sublayers that the model has."""
        self.computed: dict[tuple[Sublayer, int], Computed] = {}
        """Sublayer → what is computed of it; only sublayers that the model has."""
        self.hidden_kept: int | None = None
        """Number of open hidden dimensions; None where all are open."""

    def refresh(self) -> None:
        """Take the gates of this forward pass."""
        self.values = self.source()

        # One transfer from the device for all gates: Python needs to know which are closed to leave them out.
        is_open: dict[str, Tensor] = {}
        if self.values:
            every = torch.cat([gate.detach() for gate in self.values.values()]).ne(0).cpu()
            is_open = dict(zip(self.values, every.split([len(gate) for gate in self.values.values()]), strict=True))

        for layer, sizes in enumerate(self.shape.layers):
            for kind, size in zip(SUBLAYERS, sizes, strict=True):
                if size:
                    self._choose(kind, layer, size, is_open)

        # None where every hidden dimension is open: then the ordinary LayerNorm serves.
        hidden = is_open.get(HIDDEN)
        self.hidden_kept = None if hidden is None or bool(hidden.all()) else int(hidden.sum())

    def _choose(self, kind: Sublayer, layer: int, size: int, is_open: dict[str, Tensor]) -> None:
        """Decide whether a sublayer is there, and which of its parts are computed."""
        parts = is_open.get(parts_in(kind, layer), torch.ones(size, dtype=torch.bool))
        gate = is_open.get(kind)
        present = bool(parts.any()) and (gate is None or bool(gate[layer]))
        self.present[kind, layer] = present

        # Heads that are unlike have no common width by which some of them could be left out.
        if kind == "attention" and is_ragged(self.shape, layer):
            self.computed[kind, layer] = Computed(size)
            return

        # Of a closed sublayer the least is computed that its modules can bear; its output is 0.
        wanted = int(parts.sum()) if present else 1
        wanted = -(-wanted // GRAIN[kind]) * GRAIN[kind]
        if wanted > WORTH * size or (self.whole_heads and kind == "attention"):
            self.computed[kind, layer] = Computed(size)
            return

        # Open parts first; closed ones fill up the last multiple, their weights are multiplied by 0.
        chosen = parts.logical_not().to(torch.uint8).argsort(stable=True)[:wanted].sort().values
        self.computed[kind, layer] = Computed(wanted, chosen)


class GatedLinear(nn.Linear):
    """A matrix of a gated sublayer. It takes a Linear's place without changing the names of its parameters."""

    state: GateState
    place: tuple[Sublayer, int]
    """The sublayer that it belongs to."""
    writes: bool
    """Whether it writes to the residual stream from the sublayer's parts; otherwise it reads the stream into them."""
    blocks: int
    """Stacked matrices in it, each with rows for all parts."""
    width: int
    """Rows or columns of one part in a block."""

    def forward(self, states: Float[Tensor, "*batch _"]) -> Float[Tensor, "*batch _"]:
        """The product with the rows or columns of the parts that are computed, gates multiplied in."""
        chosen = self.state.computed[self.place].chosen
        return self._written(states, chosen) if self.writes else self._read(states, chosen)

    def _read(self, states: Tensor, chosen: Tensor | None) -> Tensor:
        if chosen is None:
            return super().forward(states)

        parts = self.out_features // (self.blocks * self.width)
        rows = in_blocks(_spread(chosen, self.width), self.blocks, parts * self.width).to(self.weight.device)
        bias = None if self.bias is None else self.bias[rows]
        return F.linear(states, Chosen.apply(self.weight, 0, rows), bias)

    def _written(self, states: Tensor, chosen: Tensor | None) -> Tensor:
        kind, layer = self.place
        values, weight, bias = self.state.values, self.weight, self.bias
        gate = values.get(parts_in(kind, layer))

        if chosen is not None:
            chosen = chosen.to(weight.device)
            weight = Chosen.apply(weight, 1, _spread(chosen, self.width))
            gate = None if gate is None else gate[chosen]

        # Gates of heads or units scale columns; those of the sublayer and of hidden dimensions scale rows and bias.
        if gate is not None:
            weight = weight * gate.repeat_interleave(self.width)
        for factor in (sublayer_gate(values, kind, layer), values.get(HIDDEN)):
            if factor is not None:
                weight = weight * factor.reshape(-1, 1)
                bias = None if bias is None else bias * factor
        return F.linear(states, weight, bias)


def _spread(parts: Int[Tensor, " _"], width: int) -> Int[Tensor, " _"]:
    """Indices of rows or columns from those of parts, each of which has `width` neighbouring ones."""
    return (parts[:, None] * width + torch.arange(width, device=parts.device)).flatten()


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
    kept: int,
    weight: Float[Tensor, " hidden"],
    bias: Float[Tensor, " hidden"] | None,
    epsilon: float,
) -> Float[Tensor, "*batch hidden"]:
    """LayerNorm over the open dimensions, times the gate.

    The closed dimensions, which are 0, are set to the mean m of the k open ones of d dimensions. The mean over all is then
    m, too, and the variance k/d of that over the open ones, so that torch's own LayerNorm serves:
    (x - m) / sqrt(var + epsilon) = sqrt(k/d) (x - m) / sqrt(k/d var + k/d epsilon).

    Source: docs/methods/cofi.md §2 (LN_z).

    Args:
        states: 0 where the gate is 0.
        gate: hidden gates, in [0, 1].
        kept: k, the number of open dimensions.
        weight: weight of the LayerNorm.
        bias: bias of the LayerNorm.
        epsilon: added to the variance.
    """
    # At least fp32: the sum below loses too many digits in half precision.
    states = states.to(torch.promote_types(states.dtype, torch.float32))
    mean = states.sum(dim=-1, keepdim=True) / kept
    filled = torch.addcmul(states, mean, (gate == 0).to(states.dtype))

    ratio = kept / states.shape[-1]
    scaled = weight * gate * ratio**0.5
    return F.layer_norm(filled, gate.shape, scaled, None if bias is None else bias * gate, ratio * epsilon)


def attach(model: PreTrainedModel, source: Callable[[], Parts]) -> GateState:
    """Gate a model's parts.

    The class of the model's matrices and LayerNorms changes, and hooks are set, so a gated model is for training;
    `pruning.shrink` makes the model to keep.

    Args:
        model: the model to gate, in place.
        source: called at the beginning of every forward pass; gives the gates. Parts that it leaves out are open. Heads of
            unlike sizes have no gates.

    Raises:
        ValueError: the model's family, or a part of the model, cannot be pruned.
    """
    family = family_of(model.config)
    shape = shape_of(model.config)
    base = model.base_model
    check_covered(base, family)

    layers = find(base, family.layers)
    state = GateState(source, shape, whole_heads=bool(family.head_table))
    base.register_forward_pre_hook(lambda module, inputs: _refresh(state, family, layers))

    for index, (layer, (heads, units)) in enumerate(zip(layers, shape.layers, strict=True)):
        _gate_sublayers(layer, index, family, state)

        # In a pre-norm family the LayerNorm comes before the sublayer, off the residual path: it need not be skipped.
        for kind, path, size in zip(SUBLAYERS, family.norms, (heads, units), strict=True):
            if size and isinstance(norm := find(layer, path), nn.LayerNorm):
                _gate_norm(norm, state, None if family.pre_norm else (kind, index))

    _gate_stream(base, family, state)
    return state


def _gate_sublayers(layer: nn.Module, index: int, family: Family, state: GateState) -> None:
    """Gate the matrices of a layer's heads and units."""
    heads, units = state.shape.layers[index]
    if heads:
        size = state.shape.heads_in(index).size
        for path in family.to_heads:
            _gate_linear(layer, path, state, ("attention", index), family.head_blocks, size)
        _gate_linear(layer, family.from_heads, state, ("attention", index), 1, size, writes=True)
    if units:
        for path in family.ffn_in:
            _gate_linear(layer, path, state, ("ffn", index), family.ffn_blocks, 1)
        _gate_linear(layer, family.ffn_out, state, ("ffn", index), 1, 1, writes=True)


def _refresh(state: GateState, family: Family, layers: nn.ModuleList) -> None:
    """Take the gates of a forward pass, and tell attention modules how many heads they compute."""
    state.refresh()
    for index, (heads, _) in enumerate(state.shape.layers):
        if heads:
            sizes = head_sizes(state.computed["attention", index].count, state.shape.heads_in(index).size)
            for attribute in family.refresh:
                setattr(find(layers[index], family.attention), attribute, sizes[attribute])


def _gate_linear(
    layer: nn.Module, path: str, state: GateState, place: tuple[Sublayer, int], blocks: int, width: int, writes: bool = False
) -> None:
    """Change the class of a matrix, where the layer has one; the module, its parameters and their names stay."""
    if (module := find(layer, path)) is not None:
        module.__class__ = GatedLinear
        module.state, module.place, module.writes, module.blocks, module.width = state, place, writes, blocks, width


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
