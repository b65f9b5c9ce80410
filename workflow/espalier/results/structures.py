"""What structured students kept, read from structure.json, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from espalier.results.places import by_place, read_fields

ATTENTION = {"heads": "heads", "queries": "dimensions of queries"}
"""What stands for the attention of a layer, and how it is said. Where widths fall all heads stay: their dimensions tell more;
those of queries and keys are as many as those of values."""


class Part(NamedTuple):
    """What is left of one sublayer, or of the hidden dimensions."""

    kept: tuple[int, ...]
    """One number a seed."""
    total: int

    @property
    def fraction(self) -> float:
        """Mean over seeds, in [0, 1]."""
        return fmean(self.kept) / self.total

    @property
    def count(self) -> str:  # type: ignore[override]  # hides tuple.count, which nobody needs here
        """Mean over seeds, as short as it can stand over a bar."""
        return f"{fmean(self.kept):,.{1 if self.total < 100 else 0}f}".removesuffix(".0")

    @property
    def gone(self) -> bool:
        """Whether nothing is left in any seed."""
        return not any(self.kept)


class Row(NamedTuple):
    """The students of one target: one for each seed."""

    percent: str
    sparsities: tuple[float, ...]
    layers: list[tuple[Part, Part]]
    """Attention and FFN units of each layer."""
    hidden: Part
    attention: str = "heads"
    """What is counted of the attention: one of `ATTENTION`."""

    @property
    def counted(self) -> str:
        """The same in words."""
        return ATTENTION[self.attention]


class StructureMap(NamedTuple):
    """The path of one plan on one base and task."""

    base: str
    task: str
    plan: str
    rows: list[Row]

    @property
    def title(self) -> str:
        """Base, task and plan."""
        return f"{self.base} · {self.task} · {self.plan}"


def read_maps(structures: Sequence[Path]) -> list[StructureMap]:
    """The maps of every plan that removes structure, in table order; none for plans that prune single weights."""
    contents = {place: read_fields(path, ("target", "sparsity")) for place, path in by_place(structures).items()}
    found: dict[tuple[str, str, str], dict[str, list[Any]]] = {}
    for place, content in contents.items():
        if "layers" in content:
            rows = found.setdefault((place.base, place.task, place.plan), {})
            rows.setdefault(place.percent, []).append(content)
    return [StructureMap(*key, [_row(percent, seeds) for percent, seeds in rows.items()]) for key, rows in found.items()]


def _row(percent: str, seeds: Sequence[Mapping[str, Any]]) -> Row:
    attention = "queries" if "queries" in seeds[0]["layers"][0] else "heads"
    layers = [
        (_part([layer[attention] for layer in layers]), _part([layer["ffn"] for layer in layers]))
        for layers in zip(*(seed["layers"] for seed in seeds), strict=True)
    ]
    hidden = _part([seed["hidden"] for seed in seeds])
    return Row(percent, tuple(seed["sparsity"] for seed in seeds), layers, hidden, attention)


def _part(counts: Sequence[Mapping[str, int]]) -> Part:
    return Part(tuple(count["kept"] for count in counts), counts[0]["total"])
