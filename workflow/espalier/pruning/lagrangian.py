"""Expected size of a gated encoder, and the Lagrangian that holds it to a target.

Source: CoFi (Xia, Zhong, Chen 2022, arXiv 2204.00408; docs/methods/cofi.md §2, 3.2 and 3.3).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from espalier.models.modeling_espalier import Shape
from espalier.pruning.parts import HIDDEN, SUBLAYERS, Parts, parts_in


def expected_size(kept: Parts, shape: Shape, head_weights: float, unit_weights: float) -> Float[Tensor, ""]:
    """Number of weights that are expected to stay; exact for binary masks.

    Source: docs/methods/cofi.md §3.2:
    (sum_m q_m) [head_weights sum_ij q_MHA,i q_head,ij + unit_weights sum_ik q_FFN,i q_int,ik].
    Differs from the authors' code: any subset of gates; `head_weights` there is (4 d^2 + 4 d) / (N_h d), which adds biases.

    Args:
        kept: probabilities q in [0, 1], or masks.
        shape: shape of the model that the gates belong to.
        head_weights: weights of one head for each hidden dimension: 4 d_h for separate queries, keys, values, output.
        unit_weights: weights of one FFN unit for each hidden dimension: 2, or 3 for a gated FFN.
    """
    heads, units, attention, ffn = expected_counts(kept, shape)
    hidden = kept[HIDDEN].sum() if HIDDEN in kept else float(shape.hidden)

    # Gates are independent of each other, so the expectation of a product is the product of expectations.
    return hidden * (head_weights * (attention * heads).sum() + unit_weights * (ffn * units).sum())


class Counts(NamedTuple):
    """Expected numbers of each layer's parts, and probabilities that its sublayers are kept."""

    heads: Float[Tensor, " layers"]
    units: Float[Tensor, " layers"]
    attention: Float[Tensor, " layers"]
    ffn: Float[Tensor, " layers"]


def expected_counts(kept: Parts, shape: Shape) -> Counts:
    """Expected number of heads and units of each layer, and probability of each sublayer.

    Args:
        kept: probabilities in [0, 1], or masks; parts that are missing are wholly kept.
        shape: shape of the model that they belong to.
    """
    device = next((gates.device for gates in kept.values()), None)

    counts = []
    for place, kind in enumerate(SUBLAYERS):
        full = torch.tensor([float(sizes[place]) for sizes in shape.layers], device=device)
        expected = []
        for layer, size in enumerate(full):
            # sum_j q_ij; a layer without gates keeps all its parts.
            gates = kept.get(parts_in(kind, layer))
            expected.append(size if gates is None else gates.float().sum())
        counts.append(torch.stack(expected))

    # Sublayers without gates are kept with probability 1.
    open_ = torch.ones_like(counts[0])
    return Counts(*counts, *(kept.get(kind, open_) for kind in SUBLAYERS))


def ramped(before: float, target: float, step: int, ramp_steps: int) -> float:
    """The target of this step: linear from `before` to `target` over `ramp_steps`, then constant.

    Source: docs/methods/cofi.md §3.3: t(k) = s min(1, k / K_w); there `before` is 0.
    """
    if step >= ramp_steps:
        return target

    # t(k) = s_0 + (s - s_0) k / K_w
    return before + (target - before) * step / ramp_steps


def lagrangian(
    deviation: Float[Tensor, "*constraints"],
    linear: Float[Tensor, "*constraints"],
    quadratic: Float[Tensor, "*constraints"],
    form: Literal["signed", "absolute"],
) -> Float[Tensor, "*constraints"]:
    """lambda_1 d + lambda_2 d^2 of each constraint, minimised over the gates and maximised over the multipliers.

    Source: docs/methods/cofi.md §2, with d = expected sparsity - target.
    Differs from the authors' code: `absolute` puts |d| in the linear term (a user's remedy, section 7, point 17).

    Args:
        deviation: d.
        linear: lambda_1.
        quadratic: lambda_2.
        form: whether the linear term takes d or |d|.
    """
    # lambda_1 ascends along d. Signed, it falls while too much is kept and rises while too little is; absolute, it only rises.
    linear_deviation = deviation if form == "signed" else deviation.abs()
    return linear * linear_deviation + quadratic * deviation.square()
