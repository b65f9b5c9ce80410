"""Widths of a model that are narrowed while it trains: which axes belong together, what is left, and the cut in place.

Source: HomoDistil (Liang et al. 2023, arXiv 2302.09632; docs/methods/homodistil.md §3.3, whose table this is):
    hidden       one group for the model: embeddings, all that writes to or reads from the residual stream, LayerNorms,
                 the language-modelling head, rows of the projections
    layer.i.ffn  FFN units
    layer.i.qk   dimensions of queries and keys, the same number in every head
    layer.i.vo   dimensions of values, the same number in every head

Parameters stay the same objects, tied ones too: their data and the optimiser's moments become smaller, and nothing is
masked. The attention scale stays, so that removal does not rescale scores; `exported` folds it into the queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from espalier.models.classes import auto_class, model_class, stock_config
from espalier.models.modeling_espalier import Family, Shape, compact_config, family_of, find, shape_of
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, prunable_shape, queries_of, units_of, values_of
from espalier.pruning.scores import keep_highest
from espalier.runtime.errors import UserError

Axes = dict[str, dict[int, str]]
"""Parameter name → axis → group."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""State of AdamW that has a parameter's shape."""
SUPPORTED = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert")
"""Families whose inner attention widths are free: no rotation, no stacked matrices, no relative positions."""


class Sizes(NamedTuple):
    """The widths of a model; all heads are alike."""

    hidden: int
    heads: int
    head_dim: int
    units: tuple[int, ...]

    @property
    def matrices(self) -> int:
        """Weights of the encoder's matrices."""
        # Queries, keys, values and output have d (h d_h) weights each, both matrices of the FFN d f.
        return sum(self.hidden * (4 * self.heads * self.head_dim + 2 * units) for units in self.units)

    def groups(self) -> dict[str, int]:
        """Group → number of units."""
        inner = self.heads * self.head_dim
        sizes = {HIDDEN: self.hidden}
        for layer, units in enumerate(self.units):
            sizes |= {units_of(layer): units, queries_of(layer): inner, values_of(layer): inner}
        return sizes

    @classmethod
    def of(cls, config: PreTrainedConfig) -> Sizes:
        """The widths that a configuration describes.

        Raises:
            UserError: the family cannot be pruned structurally, layers have unequal heads, or they lack a sublayer.
        """
        shape = prunable_shape(config)
        heads = {heads for heads, _ in shape.layers}

        # `Sizes` has one number of heads for all layers.
        if len(heads) != 1 or not all(map(all, shape.layers)):
            raise UserError(
                "widths are narrowed where every layer has attention and FFN, and all have as many heads; "
                f"the model to start from has (heads, FFN units) {', '.join(map(str, shape.layers))}"
            )

        return cls(shape.hidden, heads.pop(), shape.head_dim, tuple(units for _, units in shape.layers))


def final_sizes(start: Sizes, weights: float, multiple: int = 1) -> Sizes:
    """Final widths that leave a number of weights in the encoder's matrices; every width shrinks by nearly the same fraction.

    The width of a head is rounded first, as close to the fraction as leaves room for the others. The hidden width follows
    it, so that hidden = heads x head width holds where it held before. FFN units take the rest: in each layer the nearest
    multiple, or the nearest number where that multiple is 0, as in layers that a ranking over all layers has thinned.

    Source: docs/methods/homodistil.md §3.2.

    Args:
        start: widths at the start.
        weights: weights to leave in the encoder's matrices.
        multiple: FFN widths are multiples of this number.

    Raises:
        UserError: no such widths exist.
    """
    # A matrix has two widths: with each at the fraction r, r^2 of the weights remain.
    fraction = (weights / start.matrices) ** 0.5

    for head_dim in sorted(range(1, start.head_dim + 1), key=lambda width: abs(width - fraction * start.head_dim)):
        hidden = max(1, round(start.hidden * head_dim / start.head_dim))

        # What attention leaves of the weights, as a fraction of all FFN units; a unit has 2 weights a hidden dimension.
        attention = 4 * hidden * start.heads * head_dim * len(start.units)
        ffn_fraction = (weights - attention) / (2 * hidden * sum(start.units))

        units = []
        for whole in start.units:
            rounded = multiple * round(ffn_fraction * whole / multiple)
            units.append(rounded or max(1, round(ffn_fraction * whole)))

        if all(1 <= left <= whole for left, whole in zip(units, start.units, strict=True)):
            return Sizes(hidden, start.heads, head_dim, tuple(units))

    raise UserError(
        f"no widths leave {weights:,.0f} of the {start.matrices:,} weights in the encoder's matrices, with {start.heads} heads "
        f"and a multiple of {multiple} FFN units in every layer; aim at a lower sparsity"
    )


def between(start: Sizes, final: Sizes, above: float, multiple: int = 1) -> Sizes:
    """Widths on the way from the start to the final ones.

    Hidden and FFN widths are rounded up to a multiple, because matrices of odd widths multiply slowly; the final widths are
    taken as they are.

    Args:
        start: widths at the start.
        final: widths at the end.
        above: fraction of the way that is still ahead, in [0, 1]; 1 at the start.
        multiple: to round up to.
    """

    def width(first: int, last: int, step: int) -> int:
        # last + (first - last) above, as r(t) = r_f + (1 - r_f) above says for ratios.
        exact = round(last + (first - last) * above)
        if exact <= last:
            return last
        return min(first, -(-exact // step) * step)  # -(-a // b) rounds up

    units = tuple(width(*ends, multiple) for ends in zip(start.units, final.units, strict=True))
    hidden = width(start.hidden, final.hidden, multiple)
    head_dim = width(start.head_dim, final.head_dim, 1)
    return Sizes(hidden, start.heads, head_dim, units)


def axes_of(model: PreTrainedModel) -> Axes:
    """The group that each axis of each parameter belongs to; a tied parameter is named once.

    Raises:
        UserError: the widths of this family cannot be narrowed.
    """
    model_type = model.config.model_type.removeprefix("compact-")
    if model_type not in SUPPORTED or any(find(model.base_model, path) for path in family_of(model.config).projections):
        raise UserError(
            f"widths of model type {model_type!r} cannot be narrowed; supported, unprojected: {', '.join(SUPPORTED)}"
        )

    # Both sides of a matrix may be pruned: one on the residual stream, the other inside a sublayer.
    stream = _stream(model)
    inner = _inner(model, family_of(model.config))
    all_axes: Axes = {}
    for name, _ in model.named_parameters():
        axes = dict.fromkeys(stream.get(name, ()), HIDDEN) | inner.get(name, {})
        if axes:
            all_axes[name] = axes
    return all_axes


def _inner(model: PreTrainedModel, family: Family) -> Axes:
    """Axes that lie inside the sublayers."""
    query, key, value = family.to_heads
    writing = {query: queries_of, key: queries_of, value: values_of, family.ffn_in[0]: units_of}
    reading = {family.from_heads: values_of, family.ffn_out: units_of}

    axes: Axes = {}
    for index in range(len(shape_of(model.config).layers)):
        place = f"{model.base_model_prefix}.{family.layers}.{index}."
        # A linear layer's weight is [outputs, inputs].
        for path, group in writing.items():
            axes[f"{place}{path}.weight"] = {0: group(index)}
            axes[f"{place}{path}.bias"] = {0: group(index)}
        for path, group in reading.items():
            axes[f"{place}{path}.weight"] = {1: group(index)}
    return axes


def _stream(model: PreTrainedModel) -> dict[str, list[int]]:
    """Axes that grow with the hidden width, by parameter."""
    layers = len(shape_of(model.config).layers)

    # No list of names: two models without weights, whose hidden widths differ, show which axes follow. The width of their
    # one head follows, too; `axes_of` gives the axes inside sublayers to other groups.
    shapes = []
    with torch.device("meta"):
        for hidden in (64, 128):
            empty = _of_sizes(model, Sizes(hidden, 1, hidden, (1,) * layers))
            shapes.append({name: parameter.shape for name, parameter in empty.named_parameters(remove_duplicate=False)})

    narrow, wide = shapes
    axes = {}
    for name, shape in narrow.items():
        axes[name] = [axis for axis, size in enumerate(shape) if size != wide[name][axis]]
    return axes


def _of_sizes(model: PreTrainedModel, sizes: Sizes) -> PreTrainedModel:
    """A new model with the head of this one, of transformers' own class where that can express the widths."""
    shape = Shape(sizes.hidden, sizes.head_dim, sizes.hidden, tuple((sizes.heads, units) for units in sizes.units))
    compact = compact_config(model.config, shape)
    config = stock_config(compact) or compact
    return model_class(config, auto_class(model))(config)


def writers(model: PreTrainedModel, axes: Axes) -> Axes:
    """The axes along which the encoder's matrices, tables and their biases write."""
    # A linear layer's weight is [outputs, inputs], a table's [rows, outputs].
    output_axis = {nn.Linear: 0, nn.Embedding: 1}
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    written: Axes = {}
    for module in model.base_model.modules():
        axis = output_axis.get(type(module))
        if axis is None:
            continue
        for parameter in module.parameters(recurse=False):
            name = names[id(parameter)]
            group = axes.get(name, {}).get(axis)
            if group:
                written[name] = {axis: group}
    return written


def choose(scores: Mapping[str, Float[Tensor, " _"]], wanted: Sizes, *, across_layers: bool) -> Masks:
    """Masks that keep the units with the highest scores of every group; all heads keep equally many dimensions.

    Source: docs/methods/homodistil.md §3.3.

    Args:
        scores: score of every unit of every group that is left.
        wanted: the widths to reach.
        across_layers: rank the FFN units of all layers together; at least one a layer stays. Heads stay alike, as an
            ordinary attention kernel needs them.
    """
    # Hidden dimensions form one group for the whole model.
    masks: Masks = {HIDDEN: keep_highest(scores[HIDDEN], len(scores[HIDDEN]) - wanted.hidden)}

    ffn_scores = [scores[units_of(layer)] for layer in range(len(wanted.units))]
    if across_layers:
        kept = _keep_across(ffn_scores, sum(wanted.units))
    else:
        kept = [keep_highest(layer, len(layer) - units) for layer, units in zip(ffn_scores, wanted.units, strict=True)]

    for layer, mask in enumerate(kept):
        masks[units_of(layer)] = mask
        # Every head ranks its own dimensions; queries and values are ranked apart.
        for name in (queries_of(layer), values_of(layer)):
            heads = scores[name].view(wanted.heads, -1)
            masks[name] = torch.cat([keep_highest(head, len(head) - wanted.head_dim) for head in heads])
    return masks


def _keep_across(scores: list[Float[Tensor, " _"]], kept: int) -> list[Bool[Tensor, " _"]]:
    """One mask a layer, from one ranking over all layers that keeps `kept` units."""
    # The best unit of each layer ranks above all others, so no layer loses every unit.
    ranking = torch.cat([layer.index_fill(0, layer.argmax(), torch.inf) for layer in scores])
    return list(keep_highest(ranking, len(ranking) - kept).split([len(layer) for layer in scores]))


def narrowed(tensor: Shaped[Tensor, "..."], axes: Mapping[int, str], kept: Masks) -> Shaped[Tensor, "..."]:
    """The part of a parameter, a moment or a score that is kept.

    Args:
        tensor: of any number of axes.
        axes: axis → group.
        kept: group → mask, True = kept.
    """
    for axis, group in axes.items():
        tensor = tensor.index_select(axis, kept[group].nonzero().flatten().to(tensor.device))
    return tensor


class Widths:
    """A model whose widths are cut in place."""

    def __init__(self, model: PreTrainedModel, projections: Mapping[str, nn.Parameter]) -> None:
        """Begin with all widths.

        Args:
            model: the student.
            projections: further parameters by name; their rows belong to the hidden dimensions.
        """
        self.model = model
        self.start = Sizes.of(model.config)
        self.parameters = dict(model.named_parameters()) | dict(projections)
        self.axes = axes_of(model) | {name: {0: HIDDEN} for name in projections}
        self.kept: Masks = {name: torch.ones(size, dtype=torch.bool) for name, size in self.start.groups().items()}
        """Group → mask over the units that the model had at the start."""

    @property
    def now(self) -> Sizes:
        """Present widths."""
        # Heads are equally wide in all layers, so the first layer tells the width of a head.
        units = tuple(int(self.kept[units_of(layer)].sum()) for layer in range(len(self.start.units)))
        head_dim = int(self.kept[queries_of(0)].sum()) // self.start.heads
        return Sizes(int(self.kept[HIDDEN].sum()), self.start.heads, head_dim, units)

    @torch.no_grad()
    def cut(self, kept: Masks, optimizer: torch.optim.Optimizer | None, stores: Iterable[dict[str, Tensor]] = ()) -> None:
        """Cut weights, moments and stored scores to the units that the masks keep.

        Args:
            kept: group → mask over the units that are there now.
            optimizer: its moments are cut, too.
            stores: parameter name → tensor of the parameter's shape, such as scores; cut in place.
        """
        for name, axes in self.axes.items():
            # New data under the same parameter: the optimiser, ties and modules still refer to it.
            parameter = self.parameters[name]
            parameter.data = narrowed(parameter.data, axes, kept)
            parameter.grad = None

            state = optimizer.state.get(parameter, {}) if optimizer is not None else {}
            for moment in MOMENTS:
                if moment in state:
                    state[moment] = narrowed(state[moment], axes, kept)

            for store in stores:
                if name in store:
                    store[name] = narrowed(store[name], axes, kept)

        # The masks are over what was left; their entries go to the places that are still True.
        for name, mask in self.kept.items():
            mask[mask.clone()] = kept[name].cpu()
        _refresh(self.model, self.now)

    def reset_to(self, kept: Masks, optimizer: torch.optim.Optimizer | None) -> None:
        """Cut to the widths of a saved run; `kept` is over the units at the start."""
        self.cut({name: kept[name].cpu()[mask] for name, mask in self.kept.items()}, optimizer)


def _refresh(model: PreTrainedModel, sizes: Sizes) -> None:
    """Write the present sizes into the modules' attributes; the attention scale stays."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.out_features, module.in_features = module.weight.shape
        elif isinstance(module, nn.LayerNorm):
            module.normalized_shape = tuple(module.weight.shape)
        elif isinstance(module, nn.Embedding):
            module.embedding_dim = module.weight.shape[1]

    # Attention reshapes by attributes of its own, whose names depend on the family.
    family = family_of(model.config)
    inner = sizes.heads * sizes.head_dim
    values = {"attention_head_size": sizes.head_dim, "all_head_size": inner, "dim": inner}
    for layer in find(model.base_model, family.layers):
        for name in values.keys() & set(family.refresh):
            setattr(find(layer, family.attention), name, values[name])


@torch.no_grad()
def exported(model: PreTrainedModel, sizes: Sizes) -> PreTrainedModel:
    """A new model of these widths with the same logits, of transformers' own class where that can express the widths.

    Source: docs/methods/homodistil.md §3.3, attention scale.
    """
    small = _of_sizes(model, sizes).to(model.device)
    small.load_state_dict(model.state_dict())

    # The new model scales scores by 1 / sqrt(its own head width), the old one still by that of the wider heads.
    # Queries times old scale / new scale give the same scores.
    family = family_of(model.config)
    old_layers = find(model.base_model, family.layers)
    new_layers = find(small.base_model, family.layers)
    for old, new in zip(old_layers, new_layers, strict=True):
        factor = find(old, family.attention).scaling / find(new, family.attention).scaling
        for parameter in find(new, family.to_heads[0]).parameters():
            parameter.mul_(factor)

    return small.train(model.training)
