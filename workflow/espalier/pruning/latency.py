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
        """The time at sizes that need not be whole; beyond the largest one, the last line goes on."""
        sizes, times = (torch.tensor(values, dtype=size.dtype, device=size.device) for values in (self.sizes, self.times_ms))
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
    """Against heads."""
    ffn: Curve
    """Against units."""
    rest_ms: float
    """Embeddings, pooler and head: what stays when every sublayer is gone."""

    @property
    def dense_ms(self) -> float:
        """The dense model's latency."""
        return self.rest_ms + self.layers * (self.attention.times_ms[-1] + self.ffn.times_ms[-1])

    def scaled(self, factor: float) -> LatencyTable:
        """Every time multiplied by a factor."""
        return LatencyTable(self.layers, self.attention.scaled(factor), self.ffn.scaled(factor), factor * self.rest_ms)


@dataclass(frozen=True)
class LatencyGoal:
    """A latency that a stage has to reach."""

    table: LatencyTable
    goal_ms: float

    @property
    def removed(self) -> float:
        """Fraction of the dense model's latency that has to go, in (0, 1)."""
        return 1.0 - self.goal_ms / self.table.dense_ms


def expected_latency(
    table: LatencyTable,
    heads: Float[Tensor, " layers"],
    units: Float[Tensor, " layers"],
    attention: Float[Tensor, " layers"],
    ffn: Float[Tensor, " layers"],
) -> Float[Tensor, ""]:
    """Milliseconds: rest + sum_i q_attention,i T_attention(sum_j q_head,ij) + q_ffn,i T_ffn(sum_k q_unit,ik).

    A sublayer's cost is read at its expected size, which is exact where the curve is straight. The width of the residual
    stream does not enter: a table holds for the base's own.

    Args:
        table: from `read_table`.
        heads: expected number of heads kept; 0 for a layer without.
        units: the same for FFN units.
        attention: probability that the layer's attention sublayer is kept.
        ffn: the same for its FFN.
    """
    attention_ms = (attention * table.attention.at(heads)).sum()
    ffn_ms = (ffn * table.ffn.at(units)).sum()
    return table.rest_ms + attention_ms + ffn_ms


def read_table(path: Path) -> LatencyTable:
    """A table that the stage `latency` wrote."""
    content = read_json(path)
    curves = {name: Curve(tuple(content[name]["sizes"]), tuple(content[name]["times_ms"])) for name in ("attention", "ffn")}
    return LatencyTable(content["layers"], **curves, rest_ms=content["rest_ms"])


def latency_goal(table: LatencyTable, target: Latency | Speedup) -> LatencyGoal:
    """What a target means on the machine that the table was measured on.

    Raises:
        UserError: the dense model is as fast already, or no model of the family can be so fast.
    """
    dense_ms = table.dense_ms
    goal_ms = dense_ms / target.speedup if isinstance(target, Speedup) else target.latency_ms
    if not table.rest_ms < goal_ms < dense_ms:
        raise UserError(
            f"a latency of {goal_ms:.1f} ms at batch size {target.batch_size} and length {target.length} cannot be aimed at; "
            f"allowed: above {table.rest_ms:.1f} ms (embeddings and head alone), below {dense_ms:.1f} ms (the dense model)"
        )
    return LatencyGoal(table, goal_ms)
