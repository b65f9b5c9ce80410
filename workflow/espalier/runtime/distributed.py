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
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as group
from torch import Tensor

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
    """Every n-th item, n = number of processes: the part of a list of batches that this process computes."""
    return items[index() :: count()]


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
