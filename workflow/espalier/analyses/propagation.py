"""How errors of single layers add up on the way through a student, measured on hybrids of teacher and student.

Source: docs/methods/spd.md §6.4 (definitions ours; the paper's own theorem was not seen): hybrid i has the teacher's
embeddings and first i layers, T_1 … T_i, and the student's layers after them. Neighbours differ in one layer, so that by
the triangle inequality ||T(x) - S(x)|| <= sum_i Δ_i. Hybrids are what SPD samples while it grafts.

Embeddings are position 0 here, because some methods train them: the pure student comes before hybrid 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from espalier.data.batches import Batch
from espalier.models.encoder import encoder_layers
from espalier.models.forward import forward
from espalier.models.grafting import Grafts
from espalier.runtime.errors import UserError

States = list[Float[Tensor, "tokens hidden"]]
"""What enters the first layer and what leaves each layer, of the real tokens of a batch."""


class Propagation(NamedTuple):
    """Norms over all real tokens; the first of each position is that of the embeddings."""

    local: list[float]
    """ε_i / ||T_i(H^T_{i-1})||: the layer's own error, at the teacher's input."""
    accumulated: list[float]
    """||H^T_i - H^S_i|| / ||H^T_i||: with the student's input."""
    steps: list[float]
    """Δ_i: what hybrids i and i - 1 differ by after the last layer."""
    gain: list[float | None]
    """κ_i = Δ_i / ε_i: how the layers above enlarge a layer's own error; None where it has none."""
    distance: float
    """||T(x) - S(x)||, after the last layer."""

    @property
    def bound(self) -> float:
        """sum Δ_i; the distance is never larger."""
        return sum(self.steps)


def squared_errors(hybrids: Sequence[States]) -> Float[Tensor, "4 positions"]:
    """Sums of squares over one batch, which add up over batches.

    Args:
        hybrids: states of the pure student and of hybrids 0 … N, the last of which is the teacher.

    Returns:
        Of each position: its own error ε², the accumulated error, Δ², and the teacher's states.
    """
    student, teacher = hybrids[0], hybrids[-1]
    sums = [
        [
            (theirs - hybrids[place][place]).square().sum(),
            (theirs - student[place]).square().sum(),
            (hybrids[place + 1][-1] - hybrids[place][-1]).square().sum(),
            theirs.square().sum(),
        ]
        for place, theirs in enumerate(teacher)
    ]
    return torch.tensor(sums, dtype=torch.float64).T


def propagation(squares: Float[Tensor, "4 positions"]) -> Propagation:
    """Relative errors, steps and gains from what `squared_errors` gave, added up over batches."""
    own, accumulated, steps, teacher = squares.sqrt()
    gains = [float(step / error) if error > 0 else None for step, error in zip(steps, own, strict=True)]
    relative = ((own / teacher).tolist(), (accumulated / teacher).tolist())
    return Propagation(*relative, steps.tolist(), gains, float(accumulated[-1]))


@torch.no_grad()
def hybrid_states(student: nn.Module, teacher: nn.Module, batch: Batch) -> list[States]:
    """States of the pure student and of hybrids 0 … N, on the real tokens; both models are in eval mode.

    What layers of some families share besides their input, such as DeBERTa's relative embeddings, is the student's.

    Raises:
        UserError: the two differ in depth or in hidden width.
    """
    check_alike(student, teacher)
    grafts, real = Grafts(student, teacher), batch.attention_mask.bool()
    with _recorded(teacher) as theirs:
        forward(teacher, batch)
    hybrids = [_states(student, batch, real)]
    for first in range(len(grafts) + 1):
        with grafts.grafted(torch.arange(len(grafts)) >= first):
            hybrids.append(_states(student, batch, real, theirs[0]))
    return hybrids


def check_alike(student: nn.Module, teacher: nn.Module) -> None:
    """See that layers of the one fit into the other.

    Raises:
        UserError: the two differ in depth or in hidden width.
    """
    own, theirs = ((each.config.num_hidden_layers, each.config.hidden_size) for each in (student, teacher))
    if own != theirs:
        raise UserError(
            f"errors of single layers: the student has {own[0]} layers of hidden width {own[1]}, its teacher {theirs[0]} of "
            f"{theirs[1]}; both must be equal"
        )


def _states(
    student: nn.Module,
    batch: Batch,
    real: Bool[Tensor, "batch length"],
    start: Float[Tensor, "batch length hidden"] | None = None,
) -> States:
    with _recorded(student, start) as found:
        forward(student, batch)
    return [each[real].float() for each in found]


@contextmanager
def _recorded(model: nn.Module, start: Float[Tensor, "batch length hidden"] | None = None) -> Iterator[list[Tensor]]:
    """What enters the first layer of the next forward pass, `start` in its place where given, and what leaves each."""
    layers, found = encoder_layers(model)[1], []

    def enter(module: nn.Module, arguments: tuple) -> tuple:
        found.append(arguments[0] if start is None else start)
        return (found[0], *arguments[1:])

    def leave(module: nn.Module, arguments: tuple, output: Tensor | tuple) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    hooks = [layers[0].register_forward_pre_hook(enter), *(layer.register_forward_hook(leave) for layer in layers)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
