"""Heads, FFN units and hidden dimensions that structured students kept, read from structure.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from espalier.results.places import files_by_place, read_fields

ATTENTION_COUNTS = {"heads": "heads", "queries": "dimensions of queries"}
"""What is counted of a layer's attention → its name in words.

Plans that reduce widths keep all heads, so the dimensions of queries are counted instead; keys keep as many, and values do
where heads of a layer stay alike."""


class Part(NamedTuple):
    """How much of one sublayer, or of the hidden dimensions, is left."""

    kept: tuple[int, ...]
    """One number for each seed."""
    total: int

    @property
    def fraction(self) -> float:
        """Mean over seeds, in [0, 1]."""
        return fmean(self.kept) / self.total

    @property
    def count(self) -> str:  # type: ignore[override]  # hides tuple.count, which nobody needs here
        """Mean over seeds as a short text, to be written over a bar."""
        return f"{fmean(self.kept):,.{1 if self.total < 100 else 0}f}".removesuffix(".0")

    @property
    def gone(self) -> bool:
        """Whether nothing is left in any seed."""
        return not any(self.kept)


class TargetRow(NamedTuple):
    """One plan's students at one target: one for each seed."""

    percent: str
    sparsities: tuple[float, ...]
    layers: list[tuple[Part, Part]]
    """Attention and FFN units of each layer."""
    hidden: Part
    attention: str = "heads"
    """What is counted of the attention: a key of `ATTENTION_COUNTS`."""

    @property
    def counted(self) -> str:
        """What is counted of the attention, in words."""
        return ATTENTION_COUNTS[self.attention]


class StructureMap(NamedTuple):
    """Structure that the students of one plan kept on one base and task: a row for each target of the plan's path."""

    base: str
    task: str
    plan: str
    rows: list[TargetRow]

    @property
    def title(self) -> str:
        """Base, task and plan."""
        return f"{self.base} · {self.task} · {self.plan}"


def read_maps(structures: Sequence[Path]) -> list[StructureMap]:
    """The maps of every plan that removes structure, in table order; none for plans that prune single weights."""
    seeds_of: dict[tuple[str, str, str], dict[str, list[Any]]] = {}
    for place, path in files_by_place(structures).items():
        content = read_fields(path, ("target", "sparsity"))
        if "layers" in content:
            targets = seeds_of.setdefault((place.base, place.task, place.plan), {})
            targets.setdefault(place.percent, []).append(content)

    maps = []
    for (base, task, plan), targets in seeds_of.items():
        maps.append(StructureMap(base, task, plan, [_target_row(percent, seeds) for percent, seeds in targets.items()]))
    return maps


def _target_row(percent: str, seeds: Sequence[Mapping[str, Any]]) -> TargetRow:
    attention = "queries" if "queries" in seeds[0]["layers"][0] else "heads"

    layers = []
    for layer in zip(*(seed["layers"] for seed in seeds), strict=True):
        layers.append((_part([seed[attention] for seed in layer]), _part([seed["ffn"] for seed in layer])))

    hidden = _part([seed["hidden"] for seed in seeds])
    return TargetRow(percent, tuple(seed["sparsity"] for seed in seeds), layers, hidden, attention)


def _part(counts: Sequence[Mapping[str, int]]) -> Part:
    return Part(tuple(count["kept"] for count in counts), counts[0]["total"])
