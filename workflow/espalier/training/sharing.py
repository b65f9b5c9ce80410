"""One batch, several processes: each computes its rows, all of them get the outputs for the whole batch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.distributed as group
from jaxtyping import Shaped
from torch import Tensor

from espalier.data.batches import Batch
from espalier.models.outputs import Outputs
from espalier.runtime import distributed


@dataclass(frozen=True)
class Share:
    """What this process computes of a batch: consecutive rows, in the order of the processes."""

    whole: Batch

    @cached_property
    def sizes(self) -> list[int]:
        """Rows of each process; they differ by at most one."""
        return [len(part) for part in np.array_split(np.empty(len(self.whole)), distributed.count())]

    @cached_property
    def own(self) -> Batch:
        """The rows of this process, padded like the whole; the first row where there are fewer rows than processes."""
        if distributed.count() == 1:
            return self.whole
        first = sum(self.sizes[: distributed.index()])
        size = self.sizes[distributed.index()]

        # A process without rows of its own computes the first row, so that all of them take part in the exchange.
        rows = slice(first, first + size) if size else slice(0, 1)
        return self.whole.part(rows)

    def join(self, outputs: Outputs) -> Outputs:
        """The outputs for the whole batch; the gradient goes to the rows of this process."""
        if distributed.count() == 1:
            return outputs

        values = {field.name: getattr(outputs, field.name) for field in fields(outputs) if field.name != "logits"}
        vectors = self.whole.vectors(self.sizes)
        joined: dict[str, Any] = {
            name: _each_joined(value, vectors if name == "representation" else self.sizes) for name, value in values.items()
        }
        return Outputs(_joined(outputs.logits, self.whole.lines(self.sizes)), **joined)


def _each_joined(value: Tensor | tuple[Tensor, ...] | None, sizes: list[int]) -> Tensor | tuple[Tensor, ...] | None:
    if isinstance(value, tuple):
        return tuple(_joined(layer, sizes) for layer in value)
    return None if value is None else _joined(value, sizes)


def _joined(own: Shaped[Tensor, "..."], sizes: list[int]) -> Shaped[Tensor, "..."]:
    """The rows of all processes, of which `sizes` says how many there are."""
    # all_gather wants equal shapes, so shorter parts are filled up and cut again.
    own = own[: sizes[distributed.index()]]
    parts = [own.new_zeros((max(sizes), *own.shape[1:])) for _ in sizes]
    filled = torch.zeros_like(parts[0])
    filled[: len(own)] = own.detach()
    group.all_gather(parts, filled)

    parts = [part[:size] for part, size in zip(parts, sizes, strict=True)]

    # Only the process's own rows carry a gradient. It counts once for each process, because the gradients of all processes
    # are averaged afterwards: n · (1/n) Σ gives the gradient of the whole batch.
    if own.requires_grad:
        own = own.view_as(own)
        own.register_hook(lambda gradient: gradient * distributed.count())
        parts[distributed.index()] = own
    return torch.cat(parts)
