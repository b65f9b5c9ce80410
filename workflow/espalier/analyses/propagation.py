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
    """Norms over all real tokens, one value for each position; position 0 is the embeddings, position i is layer i."""

    local: list[float]
    """ε_i / ||T_i(H^T_{i-1})||: the layer's own error, at the teacher's input."""
    accumulated: list[float]
    """||H^T_i - H^S_i|| / ||H^T_i||: the error after layer i, at the student's own input."""
    steps: list[float]
    """Δ_i: the norm of the difference between hybrids i and i - 1 after the last layer."""
    gain: list[float | None]
    """κ_i = Δ_i / ε_i: how much the layers above enlarge a layer's own error; None where the layer has no error."""
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
        Four rows with one column for each position: the position's own error ε², the accumulated error, Δ², and the
        teacher's states.
    """
    student = hybrids[0]
    teacher = hybrids[-1]

    sums = []
    for place, teacher_states in enumerate(teacher):
        # hybrids[place] has the teacher's layers up to the one before, so here the layer's own error stands alone.
        own = (teacher_states - hybrids[place][place]).square().sum()
        accumulated = (teacher_states - student[place]).square().sum()
        step = (hybrids[place + 1][-1] - hybrids[place][-1]).square().sum()
        sums.append([own, accumulated, step, teacher_states.square().sum()])
    return torch.tensor(sums, dtype=torch.float64).T


def propagation(squares: Float[Tensor, "4 positions"]) -> Propagation:
    """Relative errors, steps and gains from the sums of `squared_errors`, added up over batches."""
    own, accumulated, steps, teacher = squares.sqrt()
    gains = [float(step / error) if error > 0 else None for step, error in zip(steps, own, strict=True)]

    return Propagation(
        local=(own / teacher).tolist(),
        accumulated=(accumulated / teacher).tolist(),
        steps=steps.tolist(),
        gain=gains,
        distance=float(accumulated[-1]),
    )


@torch.no_grad()
def hybrid_states(student: nn.Module, teacher: nn.Module, batch: Batch) -> list[States]:
    """States of the pure student and of hybrids 0 … N, on the real tokens; both models are in eval mode.

    Layers of some families share more than their input, such as DeBERTa's relative embeddings; this part is the student's.

    Raises:
        UserError: the two differ in depth or in hidden width.
    """
    check_alike(student, teacher)
    grafts = Grafts(student, teacher)
    real = batch.attention_mask.bool()

    with _recorded(teacher) as teacher_states:
        forward(teacher, batch)

    # The pure student, then hybrid `first`: the teacher's embeddings and first layers, the student's layers after them.
    hybrids = [_student_states(student, batch, real)]
    for first in range(len(grafts) + 1):
        with grafts.grafted(torch.arange(len(grafts)) >= first):
            hybrids.append(_student_states(student, batch, real, teacher_states[0]))
    return hybrids


def check_alike(student: nn.Module, teacher: nn.Module) -> None:
    """Check that layers of the one model fit into the other.

    Raises:
        UserError: the two differ in depth or in hidden width.
    """
    layers, hidden = student.config.num_hidden_layers, student.config.hidden_size
    teacher_layers, teacher_hidden = teacher.config.num_hidden_layers, teacher.config.hidden_size
    if (layers, hidden) != (teacher_layers, teacher_hidden):
        raise UserError(
            f"errors of single layers: the student has {layers} layers of hidden width {hidden}, its teacher {teacher_layers} "
            f"of {teacher_hidden}; both must be equal"
        )


def _student_states(
    student: nn.Module,
    batch: Batch,
    real: Bool[Tensor, "batch length"],
    start: Float[Tensor, "batch length hidden"] | None = None,
) -> States:
    """States of the real tokens in one forward pass of the student, grafted as it is now.

    Args:
        student: the student.
        batch: its input.
        real: True at real tokens.
        start: what enters the first layer; the student's own embeddings when left out.
    """
    with _recorded(student, start) as states:
        forward(student, batch)
    return [layer[real].float() for layer in states]


@contextmanager
def _recorded(model: nn.Module, start: Float[Tensor, "batch length hidden"] | None = None) -> Iterator[list[Tensor]]:
    """Record the next forward pass: what enters the first layer, then what leaves each layer.

    Args:
        model: the model whose layers are watched.
        start: enters the first layer in place of the embeddings; they stay when it is left out.
    """
    layers = encoder_layers(model)[1]
    states: list[Tensor] = []

    def enter(module: nn.Module, arguments: tuple) -> tuple:
        states.append(arguments[0] if start is None else start)
        return (states[0], *arguments[1:])

    def leave(module: nn.Module, arguments: tuple, output: Tensor | tuple) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    hooks = [layers[0].register_forward_pre_hook(enter)]
    hooks += [layer.register_forward_hook(leave) for layer in layers]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()
