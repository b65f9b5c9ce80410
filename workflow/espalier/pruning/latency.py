"""Expected latency from a table of sublayer times, differentiable in the numbers of heads and units that are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from espalier.config.targets import Latency, Speedup
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json


@dataclass(frozen=True)
class Curve:
    """Milliseconds of one sublayer against its size; straight between the sizes that were timed."""

    sizes: tuple[int, ...]
    """Ascending from 0, where the sublayer is gone."""
    times_ms: tuple[float, ...]
    """Never falling."""

    def at(self, size: Float[Tensor, "*layers"]) -> Float[Tensor, "*layers"]:
        """Milliseconds at sizes that need not be whole; beyond the largest size the last line goes on.

        The gradient by the size is the slope of the line.
        """
        sizes = torch.tensor(self.sizes, dtype=size.dtype, device=size.device)
        times = torch.tensor(self.times_ms, dtype=size.dtype, device=size.device)

        # The line between the points right - 1 and right: t + (dt / ds) (size - s).
        right = torch.searchsorted(sizes, size.detach().contiguous()).clamp(1, len(sizes) - 1)
        slopes = times.diff() / sizes.diff()
        return times[right - 1] + slopes[right - 1] * (size - sizes[right - 1])

    def scaled(self, factor: float) -> Curve:
        """Every time multiplied by a factor."""
        return Curve(self.sizes, tuple(factor * time for time in self.times_ms))


@dataclass(frozen=True)
class LatencyTable:
    """Times of one base's parts on one device at one batch size and length."""

    layers: int
    attention: Curve
    """Time of one attention sublayer against its number of heads."""
    ffn: Curve
    """Time of one FFN sublayer against its number of units."""
    rest_ms: float
    """Embeddings, pooler and head: what stays when every sublayer is gone."""

    @property
    def dense_ms(self) -> float:
        """The dense model's latency."""
        # The last point of a curve is the whole sublayer.
        return self.rest_ms + self.layers * (self.attention.times_ms[-1] + self.ffn.times_ms[-1])

    def scaled(self, factor: float) -> LatencyTable:
        """Every time multiplied by a factor."""
        return LatencyTable(self.layers, self.attention.scaled(factor), self.ffn.scaled(factor), factor * self.rest_ms)


@dataclass(frozen=True)
class LatencyTarget:
    """A latency that a stage has to reach, on the machine that the table was measured on."""

    table: LatencyTable
    target_ms: float

    @property
    def removed(self) -> float:
        """Fraction of the dense model's latency that has to go, in (0, 1)."""
        return 1.0 - self.target_ms / self.table.dense_ms


def expected_latency(
    table: LatencyTable,
    heads: Float[Tensor, " layers"],
    units: Float[Tensor, " layers"],
    attention: Float[Tensor, " layers"],
    ffn: Float[Tensor, " layers"],
) -> Float[Tensor, ""]:
    """Milliseconds: rest + sum_i q_attention,i T_attention(sum_j q_head,ij) + q_ffn,i T_ffn(sum_k q_unit,ik).

    A sublayer's time is read at its expected size, which is exact where the curve is straight. The width of the residual
    stream does not enter, because a table holds for the base's own width.

    Source: docs/methods/cofi.md §3.2, other targets (ours).

    Args:
        table: times of the base's sublayers.
        heads: expected number of heads kept in each layer; 0 for a layer without attention.
        units: expected number of FFN units kept in each layer; 0 for a layer without FFN.
        attention: probability that each layer's attention sublayer is kept.
        ffn: probability that each layer's FFN sublayer is kept.
    """
    # A closed sublayer takes no time, so its time counts with the probability that it is open.
    attention_ms = (attention * table.attention.at(heads)).sum()
    ffn_ms = (ffn * table.ffn.at(units)).sum()
    return table.rest_ms + attention_ms + ffn_ms


def read_latency_table(path: Path) -> LatencyTable:
    """Read a table that the stage `latency` wrote."""
    content = read_json(path)

    curves = {}
    for kind in ("attention", "ffn"):
        curves[kind] = Curve(tuple(content[kind]["sizes"]), tuple(content[kind]["times_ms"]))
    return LatencyTable(content["layers"], **curves, rest_ms=content["rest_ms"])


def latency_target(table: LatencyTable, target: Latency | Speedup) -> LatencyTarget:
    """The milliseconds that a target means on the machine that the table was measured on.

    Raises:
        UserError: the dense model is as fast already, or no model of the family can be so fast.
    """
    dense_ms = table.dense_ms
    target_ms = dense_ms / target.speedup if isinstance(target, Speedup) else target.latency_ms

    # Less than the rest is impossible even without any sublayer; the dense model's time needs no pruning.
    if not table.rest_ms < target_ms < dense_ms:
        raise UserError(
            f"a latency of {target_ms:.1f} ms at batch size {target.batch_size} and length {target.length} cannot be aimed at; "
            f"allowed: above {table.rest_ms:.1f} ms (embeddings and head alone), below {dense_ms:.1f} ms (the dense model)"
        )

    return LatencyTarget(table, target_ms)
