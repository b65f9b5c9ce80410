"""Several processes on one run: each computes a share of every batch, all know the whole, one of them writes.

Every process runs the forward pass for its own rows; what the losses read (logits, vectors, hidden states, scores) is then
gathered, so that every process computes the same losses on the same whole batch. No method and no loss knows of it, and
what is not a mean over rows (cross-correlation, the choice of layers that learn from each other, means over real tokens)
is right all the same. Gradients are averaged, so that all weights, scores, masks and multipliers stay equal.

What goes through the outputs has a gradient from its own rows only, what enters a loss directly (gates, multipliers,
projections) the same gradient everywhere. Own rows therefore count as often as there are processes; the average over
processes is then the whole batch's gradient for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as group
from jaxtyping import Float, Shaped
from torch import Tensor

from espalier.core.batches import Batch
from espalier.core.method import Outputs

Item = TypeVar("Item")


def count() -> int:
    """Number of processes of this run."""
    return group.get_world_size() if group.is_initialized() else 1


def index() -> int:
    """Which of them this one is, from 0."""
    return group.get_rank() if group.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the one that writes."""
    return index() == 0


def own_of(items: Sequence[Item]) -> Sequence[Item]:
    """Every so manieth of the items: what this process computes of a list of batches."""
    return items[index() :: count()]


@dataclass(frozen=True)
class Share:
    """What this process computes of a batch: consecutive rows, in the order of the processes."""

    whole: Batch

    @cached_property
    def sizes(self) -> list[int]:
        """Rows of each process; they differ by at most one."""
        return [len(part) for part in np.array_split(np.empty(len(self.whole)), count())]

    @cached_property
    def own(self) -> Batch:
        """The rows of this process, padded like the whole; the first row where there are fewer rows than processes."""
        if count() == 1:
            return self.whole
        first, size = sum(self.sizes[: index()]), self.sizes[index()]
        rows = slice(first, first + size) if size else slice(0, 1)
        values = {field.name: getattr(self.whole, field.name) for field in fields(self.whole)}
        taken = {name: value[rows] for name, value in values.items() if value is not None}
        if self.whole.allowed is not None:  # spans have two labels a row
            taken["labels"] = self.whole.labels.unflatten(0, (-1, 2))[rows].flatten()
        return replace(self.whole, **taken)

    def join(self, outputs: Outputs) -> Outputs:
        """The outputs for the whole batch; the gradient goes to the rows of this process."""
        if count() == 1:
            return outputs
        values = {field.name: getattr(outputs, field.name) for field in fields(outputs) if field.name != "logits"}
        joined = {name: _each_joined(value, self.sizes) for name, value in values.items()}
        return Outputs(self._logits(outputs.logits), **joined)

    def _logits(self, own: Float[Tensor, "own classes"]) -> Float[Tensor, "whole classes"]:
        if self.whole.allowed is not None:  # two lines a row
            return _joined(own, [2 * size for size in self.sizes])
        if self.whole.masked is None:
            return _joined(own, self.sizes)
        tokens = self.whole.masked.sum(dim=1).cpu()  # one line a masked token
        return _joined(own, [int(part.sum()) for part in tokens.split(self.sizes)])


def _each_joined(value: Tensor | tuple[Tensor, ...] | None, sizes: list[int]) -> Tensor | tuple[Tensor, ...] | None:
    if isinstance(value, tuple):
        return tuple(_joined(each, sizes) for each in value)
    return None if value is None else _joined(value, sizes)


def _joined(own: Shaped[Tensor, "..."], sizes: list[int]) -> Shaped[Tensor, "..."]:
    """The rows of all processes, of which `sizes` says how many there are."""
    own = own[: sizes[index()]]
    parts = [own.new_zeros((max(sizes), *own.shape[1:])) for _ in sizes]
    filled = torch.zeros_like(parts[0])
    filled[: len(own)] = own.detach()
    group.all_gather(parts, filled)
    parts = [part[:size] for part, size in zip(parts, sizes, strict=True)]
    if own.requires_grad:
        own = own.view_as(own)
        own.register_hook(lambda gradient: gradient * count())
        parts[index()] = own
    return torch.cat(parts)


@torch.no_grad()
def average_gradients(tensors: Iterable[Tensor]) -> None:
    """Give these tensors the mean of all processes' gradients; the same bits everywhere."""
    if count() == 1:
        return
    gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
    vector = torch.cat([gradient.reshape(-1) for gradient in gradients])
    group.all_reduce(vector)
    for gradient, part in zip(gradients, vector.split([each.numel() for each in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient) / count())


@cache
def _control() -> group.ProcessGroup:
    """For words between processes: on the CPU, so that nobody waits for a device."""
    return group.new_group(backend="gloo")


def any_of(flag: bool) -> bool:
    """Whether any process says so."""
    if count() == 1:
        return flag
    flags = torch.tensor(int(flag))
    group.all_reduce(flags, group.ReduceOp.MAX, group=_control())
    return bool(flags)


def everyones(items: list[Any]) -> list[Any]:
    """The items of all processes, in their order."""
    if count() == 1:
        return items
    found: list[Any] = [None] * count()
    group.all_gather_object(found, items, group=_control())
    return [item for part in found for item in part]


def mains(item: Any) -> Any:
    """What the main process has; the others wait for it."""
    return everyones([item])[0]


def seed_of(seed: int) -> int:
    """A seed of this process's own, for what each draws for its rows alone (dropout); the run's in the main one."""
    return seed if is_main() else int(np.random.SeedSequence([seed, index()]).generate_state(1)[0])


def finish() -> None:
    """Part from the others."""
    if group.is_initialized():
        group.destroy_process_group()
