"""Layers of one shape: as many heads and FFN units in every layer, and hidden states as wide as the heads of a layer together.

Transformers' own classes take the head size to be hidden size / heads, and have one FFN size for all layers. So only a student
of this shape opens without code of ours, and heads can go only together with hidden dimensions.

Source: Sheared LLaMA (Xia, Gao, Zeng, Chen 2023, arXiv 2310.06694), section 2.1: CoFi's gates with a Lagrangian constraint for
every number of the wanted shape, and at the end the parts with the highest gates.
Differs from the authors' code: the shape follows from the target size, layers stay as many, and the classification head narrows
with the stream.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from espalier.config.methods.structured import GateKind
from espalier.models.classes import auto_class, has_no_head, model_class
from espalier.models.compact_config import compact_config
from espalier.models.modeling_espalier import Shape, family_of, find, shape_of
from espalier.pruning.budget import SizeBudget
from espalier.pruning.parts import Parts, sizes
from espalier.runtime.errors import UserError


def equal_shape(budget: SizeBudget, kinds: Collection[GateKind]) -> Shape:
    """The shape of the target's size in which all layers are alike; heads, hidden states and FFN shrink by nearly one fraction.

    The number of heads is rounded first, as near to the fraction as leaves room for the others. The hidden width is that of the
    heads, and FFN units make up the rest.

    Args:
        budget: the size to reach, and the shape to start from.
        kinds: parts that may go: FFN units, with or without heads and hidden dimensions.

    Raises:
        UserError: layers are unlike at the start, or no such shape has the size.
    """
    start, depth = budget.shape, len(budget.shape.layers)
    heads, units = start.layers[0]
    if len({*start.layers}) > 1 or not (heads and units) or heads * start.head_dim != start.hidden:
        said = (
            f"hidden size {start.hidden}, head size {start.head_dim} and (heads, FFN units) {', '.join(map(str, start.layers))}"
        )
        raise UserError(
            "layers: equal goes on from layers that are alike, with hidden size = heads x head size; the model to start from "
            f"has {said}"
        )

    # With each of a matrix's two widths at the fraction r, r^2 of the weights remain.
    weights = budget.dense * (1.0 - budget.target)
    now = start.hidden * depth * (budget.head_weights * heads + budget.unit_weights * units)
    wanted = (weights / now) ** 0.5 * heads

    for left in sorted(range(1, heads + 1) if "heads" in kinds else [heads], key=lambda count: abs(count - wanted)):
        hidden = left * start.head_dim
        kept = round((weights / (hidden * depth) - budget.head_weights * left) / budget.unit_weights)
        if 1 <= kept <= units:
            return Shape(hidden, start.head_dim, hidden, ((left, kept),) * depth)

    raise UserError(
        f"target {100 * budget.target:.4g} % is out of reach with layers: equal, where {', '.join(kinds)} may go: from {heads} "
        f"heads and {units} FFN units in every layer no number of heads gives this size; choose another target, or chain: false"
    )


def on_the_way(start: Shape, end: Shape, names: Iterable[str], progress: float) -> dict[str, Float[Tensor, " _"]]:
    """Probabilities under which as many parts stay as are wanted at a point of the way.

    Args:
        start: shape at the beginning.
        end: shape at the end.
        names: of the parts that may go.
        progress: in [0, 1].
    """
    before, after = sizes(start), sizes(end)
    return {name: torch.full((before[name],), 1.0 - progress * (1.0 - after[name] / before[name])) for name in names}


def deviations(probabilities: Parts, wanted: Mapping[str, Tensor]) -> Float[Tensor, " vectors"]:
    """How much smaller than wanted the expected number of each kind of part is, as a fraction of all; negative where larger.

    Source: Xia et al. 2023, section 2.1, one constraint for each layer's heads and units and for the hidden dimensions.
    Differs from the authors' code: fractions, so that heads and hidden dimensions weigh alike.
    """
    return torch.stack([wanted[name].mean().to(kept.device) - kept.mean() for name, kept in probabilities.items()])


def highest(scores: Float[Tensor, " parts"], count: int) -> Float[Tensor, " parts"]:
    """1 for the parts with the highest scores, 0 for the others; of equal ones the first are kept."""
    kept = scores.argsort(descending=True, stable=True)[:count]
    return torch.zeros_like(scores).index_fill(0, kept, 1.0)


@torch.no_grad()
def with_narrow_head(model: PreTrainedModel, width: int) -> PreTrainedModel:
    """A copy of a model whose classification head, or whose pooler alone, is narrower; other heads have no such width.

    Kept are the dimensions with the largest product of the norms of what writes and of what reads them.

    Args:
        model: stock or compact.
        width: dimensions to keep.
    """
    family, shape = family_of(model.config), shape_of(model.config)
    small_config = compact_config(model.config, shape._replace(pooled=width))
    small = model_class(small_config, auto_class(model))(small_config)

    state = model.state_dict()
    first, last = family.pooled[0], family.pooled[-1]
    pooler = first.removeprefix(f"{model.base_model_prefix}.")
    if has_no_head(model) and find(model, pooler) is not None:
        # nothing reads the pooler of an encoder alone
        kept = highest(state[f"{pooler}.weight"].norm(dim=1), width).nonzero().flatten()
        for name in (f"{pooler}.weight", f"{pooler}.bias"):
            state[name] = state[name].index_select(0, kept)
    if find(model, first) is not None and find(model, last) is not None:
        writes, reads = state[f"{first}.weight"], state[f"{last}.weight"]
        kept = highest(writes.norm(dim=1) * reads.norm(dim=0), width).nonzero().flatten()
        for name in [name for name in state if name.rpartition(".")[0] in family.pooled]:
            reading = name == f"{last}.weight"
            if reading or not name.startswith(f"{last}."):
                state[name] = state[name].index_select(1 if reading else 0, kept)

    small.load_state_dict(state)
    return small.to(model.device).train(model.training)
