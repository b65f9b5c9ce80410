"""Expected size of a gated encoder, and the Lagrangian that holds it to a target.

Source: CoFi (Xia, Zhong, Chen 2022, arXiv 2204.00408; docs/methods/cofi.md §2, 3.2 and 3.3).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from espalier.models.modeling_espalier import Shape
from espalier.pruning.parts import HIDDEN, SUBLAYERS, Parts, inside


def expected_size(kept: Parts, shape: Shape, head_weights: float, unit_weights: float) -> Float[Tensor, ""]:
    """Weights that are expected to stay, every gate independent of the others; exact for binary masks.

    Source: docs/methods/cofi.md §3.2:
    (sum_m q_m) [head_weights sum_ij q_MHA,i q_head,ij + unit_weights sum_ik q_FFN,i q_int,ik].
    Differs from the authors' code: any subset of gates; `head_weights` there is (4 d^2 + 4 d) / (N_h d), which adds biases.

    Args:
        kept: probabilities in [0, 1], or masks.
        shape: of the model that the gates belong to.
        head_weights: weights of one head for each hidden dimension: 4 d_h for separate queries, keys, values, output.
        unit_weights: weights of one FFN unit for each hidden dimension: 2, or 3 for a gated FFN.
    """
    heads, units, attention, ffn = expected_counts(kept, shape)
    hidden = kept[HIDDEN].sum() if HIDDEN in kept else float(shape.hidden)
    return hidden * (head_weights * (attention * heads).sum() + unit_weights * (ffn * units).sum())


class Counts(NamedTuple):
    """Expected numbers of each layer's parts, and probabilities that its sublayers are kept."""

    heads: Float[Tensor, " layers"]
    units: Float[Tensor, " layers"]
    attention: Float[Tensor, " layers"]
    ffn: Float[Tensor, " layers"]


def expected_counts(kept: Parts, shape: Shape) -> Counts:
    """What is expected to be kept of each layer."""
    device = next((gates.device for gates in kept.values()), None)
    found = []
    for place, kind in enumerate(SUBLAYERS):
        full = torch.tensor([float(sizes[place]) for sizes in shape.layers], device=device)
        given = (kept.get(inside(kind, layer)) for layer in range(len(full)))
        found.append(
            torch.stack([count if gates is None else gates.float().sum() for count, gates in zip(full, given, strict=True)])
        )
    open_ = torch.ones_like(found[0])
    return Counts(*found, *(kept.get(kind, open_) for kind in SUBLAYERS))


def ramped(before: float, target: float, step: int, ramp_steps: int) -> float:
    """The target of this step: linear from `before` to `target` over `ramp_steps`, then constant.

    Source: docs/methods/cofi.md §3.3: t(k) = s min(1, k / K_w); there `before` is 0.
    """
    return target if step >= ramp_steps else before + (target - before) * step / ramp_steps


def lagrangian(
    deviation: Float[Tensor, ""],
    linear: Float[Tensor, ""],
    quadratic: Float[Tensor, ""],
    form: Literal["signed", "absolute"],
) -> Float[Tensor, ""]:
    """lambda_1 d + lambda_2 d^2, minimised over the gates and maximised over both multipliers.

    Source: docs/methods/cofi.md §2, with d = expected sparsity - target.
    Differs from the authors' code: `absolute` puts |d| in the linear term (a user's remedy, section 7, point 17).
    """
    return linear * (deviation if form == "signed" else deviation.abs()) + quadratic * deviation.square()
