"""Several processes in one run: each computes a share of every batch, all have the whole batch's outputs, one writes.

Every process runs the forward pass for its own rows. The tensors that the losses read (logits, vectors, hidden states,
scores) are then gathered, so that every process computes the same losses on the same whole batch. Methods and losses do not
know about processes, and quantities that are no mean over rows (cross-correlation, the choice of layers that learn from
each other, means over real tokens) come out right, too. Gradients are averaged, so that all weights, scores, masks and
multipliers stay equal.

Two kinds of parameters need care. Parameters that act through the outputs get a gradient from this process's rows only.
Parameters that enter a loss directly (gates, multipliers, projections) get the same gradient in every process. The
gradient of a process's own rows is therefore multiplied by the number of processes; the average over processes is then
the whole batch's gradient for both kinds.
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
    """Number of this process in its run, from 0."""
    return group.get_rank() if group.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the process that writes."""
    return index() == 0


def own_of(items: Sequence[Item]) -> Sequence[Item]:
    """Every n-th item, n = number of processes: the part of a list of batches that this process computes."""
    return items[index() :: count()]


@torch.no_grad()
def average_gradients(tensors: Iterable[Tensor]) -> None:
    """Give these tensors the mean of all processes' gradients, bit for bit the same in every process."""
    if count() == 1:
        return

    # one vector, so that there is one message instead of one for each tensor
    gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
    vector = torch.cat([gradient.reshape(-1) for gradient in gradients])
    group.all_reduce(vector)

    parts = vector.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient) / count())


@cache
def _control() -> group.ProcessGroup:
    """The group for control messages between processes: on the CPU, so that no process waits for a device."""
    return group.new_group(backend="gloo")


def any_of(flag: bool) -> bool:
    """Whether `flag` is True in any process."""
    if count() == 1:
        return flag

    flags = torch.tensor(int(flag))
    group.all_reduce(flags, group.ReduceOp.MAX, group=_control())
    return bool(flags)


def everyones(items: list[Any]) -> list[Any]:
    """The items of all processes, in the order of processes."""
    if count() == 1:
        return items

    gathered: list[Any] = [None] * count()
    group.all_gather_object(gathered, items, group=_control())
    return [item for own in gathered for item in own]


def mains(item: Any) -> Any:
    """The main process's item; the other processes wait for it."""
    return everyones([item])[0]


def seed_of(seed: int) -> int:
    """A seed for numbers that each process draws for its own rows (dropout); in the main process, the run's seed itself."""
    return seed if is_main() else int(np.random.SeedSequence([seed, index()]).generate_state(1)[0])


def finish() -> None:
    """Leave the group of processes."""
    if group.is_initialized():
        group.destroy_process_group()
