"""Widths of a model that are narrowed while it trains: what belongs together, what is left, and cutting it in place.

Source: HomoDistil (Liang et al. 2023, arXiv 2302.09632; docs/methods/homodistil.md §3.3, whose table this is):
    hidden       one group for the model: embeddings, all that writes to or reads from the residual stream, LayerNorms,
                 the language-modelling head, rows of the projections
    layer.i.ffn  FFN units
    layer.i.qk   dimensions of queries and keys, the same number in every head
    layer.i.vo   dimensions of values, the same number in every head

Parameters keep their identity and their ties: only their data becomes smaller, with the optimiser's moments; there are
no masks. The attention scale stays, so that removal does not rescale scores; `exported` folds it into the queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from espalier.models.classes import auto_class, model_class
from espalier.models.modeling_espalier import Family, Shape, compact_config, family_of, find, shape_of, stock_config
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, prunable_shape, units_of
from espalier.pruning.scores import keep_highest
from espalier.runtime.errors import UserError

Axes = dict[str, dict[int, str]]
"""Parameter name → axis → group."""
MOMENTS = ("exp_avg", "exp_avg_sq")
SUPPORTED = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert")
"""Families whose inner attention widths are free: no rotation, no stacked matrices, no relative positions."""


def queries_of(layer: int) -> str:
    """Name of the dimensions of a layer's queries and keys, head by head."""
    return f"layer.{layer}.qk"


def values_of(layer: int) -> str:
    """Name of the dimensions of a layer's values, head by head."""
    return f"layer.{layer}.vo"


class Sizes(NamedTuple):
    """The widths of a model; all heads are alike."""

    hidden: int
    heads: int
    head_dim: int
    units: tuple[int, ...]

    @property
    def matrices(self) -> int:
        """Weights of the encoder's matrices: queries, keys, values, output; both matrices of the FFN."""
        return sum(self.hidden * (4 * self.heads * self.head_dim + 2 * units) for units in self.units)

    def groups(self) -> dict[str, int]:
        """Group → number of units."""
        found = {HIDDEN: self.hidden}
        for layer, units in enumerate(self.units):
            inner = self.heads * self.head_dim
            found |= {units_of(layer): units, queries_of(layer): inner, values_of(layer): inner}
        return found

    @classmethod
    def of(cls, config: PreTrainedConfig) -> Sizes:
        """The widths that a configuration describes.

        Raises:
            UserError: the family cannot be pruned structurally, layers have unequal heads, or they lack a sublayer.
        """
        shape = prunable_shape(config)
        heads = {heads for heads, _ in shape.layers}
        if len(heads) != 1 or not all(map(all, shape.layers)):
            raise UserError(
                "widths are narrowed where every layer has attention and FFN, and all have as many heads; "
                f"the model to start from has (heads, FFN units) {', '.join(map(str, shape.layers))}"
            )
        return cls(shape.hidden, heads.pop(), shape.head_dim, tuple(units for _, units in shape.layers))


def final_sizes(start: Sizes, weights: float, multiple: int = 1) -> Sizes:
    """Widths that hold so many weights in the encoder's matrices, every width by nearly the same fraction.

    With all at fraction r the matrices shrink by r^2. The width of a head is rounded first, as close to r as leaves room;
    the hidden width follows it, so that hidden = heads x head width holds where it held; FFN units take the rest, the
    nearest multiple in each layer; where that is none, as in layers that a ranking over all has thinned, the nearest number.

    Raises:
        UserError: no such widths exist.
    """
    fraction = (weights / start.matrices) ** 0.5
    for head_dim in sorted(range(1, start.head_dim + 1), key=lambda width: abs(width - fraction * start.head_dim)):
        hidden = max(1, round(start.hidden * head_dim / start.head_dim))
        attention = 4 * hidden * start.heads * head_dim * len(start.units)
        share = (weights - attention) / (2 * hidden * sum(start.units))
        units = tuple(multiple * round(share * each / multiple) or max(1, round(share * each)) for each in start.units)
        if all(1 <= left <= whole for left, whole in zip(units, start.units, strict=True)):
            return Sizes(hidden, start.heads, head_dim, units)
    raise UserError(
        f"no widths leave {weights:,.0f} of the {start.matrices:,} weights in the encoder's matrices, with {start.heads} heads "
        f"and a multiple of {multiple} FFN units in every layer; aim at a lower sparsity"
    )


def between(start: Sizes, final: Sizes, above: float, multiple: int = 1) -> Sizes:
    """Widths on the way: `above` in [0, 1] is the part of the way that is left, 1 at the start.

    Hidden and FFN widths are rounded up to a multiple, except the last ones: matrices of odd widths multiply slowly.
    """

    def width(first: int, last: int, step: int) -> int:
        exact = round(last + (first - last) * above)
        return min(first, -(-exact // step) * step) if exact > last else last

    units = tuple(width(*ends, multiple) for ends in zip(start.units, final.units, strict=True))
    hidden = width(start.hidden, final.hidden, multiple)
    return Sizes(hidden, start.heads, width(start.head_dim, final.head_dim, 1), units)


def axes_of(model: PreTrainedModel) -> Axes:
    """Which axes of which parameters belong to which group; a tied parameter is named once.

    Raises:
        UserError: the widths of this family cannot be narrowed.
    """
    name = model.config.model_type.removeprefix("compact-")
    if name not in SUPPORTED or any(find(model.base_model, path) for path in family_of(model.config).projections):
        raise UserError(f"widths of model type {name!r} cannot be narrowed; supported, unprojected: {', '.join(SUPPORTED)}")
    stream, inner = _stream(model), _inner(model, family_of(model.config))
    found = {name: dict.fromkeys(stream.get(name, ()), HIDDEN) | inner.get(name, {}) for name, _ in model.named_parameters()}
    return {name: axes for name, axes in found.items() if axes}


def _inner(model: PreTrainedModel, family: Family) -> Axes:
    """Axes inside the sublayers."""
    found: Axes = {}
    for index in range(len(shape_of(model.config).layers)):
        place = f"{model.base_model_prefix}.{family.layers}.{index}."
        query, key, value = family.to_heads
        writers = {query: queries_of, key: queries_of, value: values_of, family.ffn_in: units_of}
        for path, group in writers.items():
            found |= {f"{place}{path}.{kind}": {0: group(index)} for kind in ("weight", "bias")}
        for path, group in {family.from_heads: values_of, family.ffn_out: units_of}.items():
            found[f"{place}{path}.weight"] = {1: group(index)}
    return found


def _stream(model: PreTrainedModel) -> dict[str, list[int]]:
    """Axes that grow with the hidden width: those that differ between two models without weights."""
    shapes, layers = [], len(shape_of(model.config).layers)
    with torch.device("meta"):
        for hidden in (64, 128):
            empty = _of_sizes(model, Sizes(hidden, 1, hidden, (1,) * layers))
            shapes.append({name: each.shape for name, each in empty.named_parameters(remove_duplicate=False)})
    first, second = shapes
    return {name: [axis for axis, size in enumerate(shape) if size != second[name][axis]] for name, shape in first.items()}


def _of_sizes(model: PreTrainedModel, sizes: Sizes) -> PreTrainedModel:
    """A new model with the same head, of transformers' own class where that can express the widths."""
    shape = Shape(sizes.hidden, sizes.head_dim, sizes.hidden, tuple((sizes.heads, units) for units in sizes.units))
    compact = compact_config(model.config, shape)
    config = stock_config(compact) or compact
    return model_class(config, auto_class(model))(config)


def writers(model: PreTrainedModel, axes: Axes) -> Axes:
    """The axes by which matrices, tables and their biases write; only those of the encoder."""
    kinds = {nn.Linear: 0, nn.Embedding: 1}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: Axes = {}
    for module in model.base_model.modules():
        axis = kinds.get(type(module))
        for parameter in () if axis is None else module.parameters(recurse=False):
            group = axes.get(names[id(parameter)], {}).get(axis)
            found |= {names[id(parameter)]: {axis: group}} if group else {}
    return found


def choose(scores: Mapping[str, Float[Tensor, " _"]], goal: Sizes, *, across_layers: bool) -> Masks:
    """What to keep of every group, the highest scores; every head keeps as many dimensions.

    Args:
        scores: of every unit of every group that is left.
        goal: the widths to reach.
        across_layers: rank the FFN units of all layers together, at least one a layer stays; heads stay alike, as an
            ordinary attention kernel needs them.
    """
    masks: Masks = {HIDDEN: keep_highest(scores[HIDDEN], len(scores[HIDDEN]) - goal.hidden)}
    ffn = [scores[units_of(layer)] for layer in range(len(goal.units))]
    if across_layers:
        kept = _across(ffn, sum(goal.units))
    else:
        kept = [keep_highest(each, len(each) - units) for each, units in zip(ffn, goal.units, strict=True)]
    for layer, mask in enumerate(kept):
        masks[units_of(layer)] = mask
        for name in (queries_of(layer), values_of(layer)):
            heads = scores[name].view(goal.heads, -1)
            masks[name] = torch.cat([keep_highest(head, len(head) - goal.head_dim) for head in heads])
    return masks


def _across(scores: list[Float[Tensor, " _"]], kept: int) -> list[Bool[Tensor, " _"]]:
    safe = [each.index_fill(0, each.argmax(), torch.inf) for each in scores]
    ranking = torch.cat(safe)
    return list(keep_highest(ranking, len(ranking) - kept).split([len(each) for each in scores]))


def narrowed(tensor: Shaped[Tensor, "..."], axes: Mapping[int, str], kept: Masks) -> Shaped[Tensor, "..."]:
    """The part of a parameter, a moment or a score that is kept."""
    for axis, group in axes.items():
        tensor = tensor.index_select(axis, kept[group].nonzero().flatten().to(tensor.device))
    return tensor


class Widths:
    """A model that is cut in place."""

    def __init__(self, model: PreTrainedModel, projections: Mapping[str, nn.Parameter]) -> None:
        """Groups of the model; rows of the projections belong to the hidden dimensions."""
        self.model, self.start = model, Sizes.of(model.config)
        self.parameters = dict(model.named_parameters()) | dict(projections)
        self.axes = axes_of(model) | {name: {0: HIDDEN} for name in projections}
        self.kept: Masks = {name: torch.ones(size, dtype=torch.bool) for name, size in self.start.groups().items()}
        """What is left of the model as it came."""

    @property
    def now(self) -> Sizes:
        """Present widths."""
        units = tuple(int(self.kept[units_of(layer)].sum()) for layer in range(len(self.start.units)))
        head_dim = int(self.kept[queries_of(0)].sum()) // self.start.heads
        return Sizes(int(self.kept[HIDDEN].sum()), self.start.heads, head_dim, units)

    @torch.no_grad()
    def cut(self, kept: Masks, optimizer: torch.optim.Optimizer | None, stores: Iterable[dict[str, Tensor]] = ()) -> None:
        """Leave what the masks, over what is there now, keep: of weights, moments and what `stores` hold for them."""
        for name, axes in self.axes.items():
            parameter = self.parameters[name]
            parameter.data, parameter.grad = narrowed(parameter.data, axes, kept), None
            state = optimizer.state.get(parameter, {}) if optimizer is not None else {}
            state |= {moment: narrowed(state[moment], axes, kept) for moment in MOMENTS if moment in state}
            for store in stores:
                if name in store:
                    store[name] = narrowed(store[name], axes, kept)
        for name, mask in self.kept.items():
            mask[mask.clone()] = kept[name].cpu()
        _refresh(self.model, self.now)

    def reset_to(self, kept: Masks, optimizer: torch.optim.Optimizer | None) -> None:
        """Cut to what is left in a saved run."""
        self.cut({name: kept[name].cpu()[mask] for name, mask in self.kept.items()}, optimizer)


def _refresh(model: PreTrainedModel, sizes: Sizes) -> None:
    """Let modules say how large they are now; the attention scale stays."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.out_features, module.in_features = module.weight.shape
        elif isinstance(module, nn.LayerNorm):
            module.normalized_shape = tuple(module.weight.shape)
        elif isinstance(module, nn.Embedding):
            module.embedding_dim = module.weight.shape[1]
    family, inner = family_of(model.config), sizes.heads * sizes.head_dim
    values = {"attention_head_size": sizes.head_dim, "all_head_size": inner, "dim": inner}
    for layer in find(model.base_model, family.layers):
        for name in values.keys() & set(family.refresh):
            setattr(find(layer, family.attention), name, values[name])


@torch.no_grad()
def exported(model: PreTrainedModel, sizes: Sizes) -> PreTrainedModel:
    """A model of these widths with the same logits, of transformers' own class where that can express it.

    Its attention scale is that of the narrower heads; queries are multiplied by the ratio to the one in use.
    """
    family, small = family_of(model.config), _of_sizes(model, sizes).to(model.device)
    small.load_state_dict(model.state_dict())
    for old, new in zip(*(find(each.base_model, family.layers) for each in (model, small)), strict=True):
        factor = find(old, family.attention).scaling / find(new, family.attention).scaling
        for parameter in find(new, family.to_heads[0]).parameters():
            parameter.mul_(factor)
    return small.train(model.training)
