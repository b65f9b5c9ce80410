"""Targets of a path: a sparsity, a number of parameters, a latency or a speed-up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, StringConstraints, TypeAdapter

from espalier.config.blocks import Block, nearest, short_yaml

Sparsity = Annotated[float, Field(ge=0.0, lt=1.0, strict=True)]
TargetKind = Literal["sparsity", "parameters", "latency"]
"""Kinds of target that a method may be able to reach; a speed-up counts as a latency."""
PERCENT = r"\d+(?:\.\d+)?(?:ms|x)?|\d+[kM]?-parameters"
"""Every word for a target: 60, 97.5, 12.5ms, 4x, 5M-parameters. Different kinds of target never have the same word."""

_AMOUNT = r"^\d+(\.\d+)?[kM]?$"
MOST_DIGITS = 12
"""Limit of the digits before the point of a number in a path, because the number becomes the name of a folder."""
_UNITS = {"k": 1_000, "M": 1_000_000}
_DIRECTIONS = {"": 1, "x": 1, "ms": -1, "-parameters": -1} | {f"{unit}-parameters": -size for unit, size in _UNITS.items()}
_EXAMPLES = "a sparsity such as 0.6, {parameters: 5M}, {latency_ms: 12.5} or {speedup: 4}"


def _whole_number(amount: object) -> object:
    """'800k' and '5M' as whole numbers; values that are no texts stay as they are."""
    if not isinstance(amount, str):
        return amount
    good = len(amount) <= 2 * MOST_DIGITS and re.fullmatch(_AMOUNT, amount, re.ASCII)
    number = Decimal(amount.rstrip("kM")) * _UNITS.get(amount[-1], 1) if good else Decimal("0.5")
    if number % 1:
        raise ValueError(f"got {short_yaml(amount)}; allowed: a whole number such as 5000000, 800k or 5M")
    return int(number)


Amount = Annotated[
    int,
    Field(ge=1),
    BeforeValidator(_whole_number, json_schema_input_type=int | Annotated[str, StringConstraints(pattern=_AMOUNT)]),
]


class Parameters(Block):
    """A number of weights."""

    parameters: Amount
    """Weights of the encoder's matrices that are kept, such as 5000000, 5M or 800k. [weights]"""


class Timed(Block):
    """A speed on this machine, at one batch size and length. The block `measure` must time the same ones."""

    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows in the timed batch; measure.batch_sizes must name it. [rows; ours]"""
    length: Annotated[int, Field(ge=8)] = 128
    """Tokens of every timed row, without padding; the same as measure.length. [tokens; ours]"""


class Latency(Timed):
    """A time of one forward pass on this machine."""

    latency_ms: Annotated[float, Field(gt=0.0)]
    """Time of a forward pass of the student. [milliseconds]"""


class Speedup(Timed):
    """A speed-up on this machine."""

    speedup: Annotated[float, Field(gt=1.0)]
    """Latency of the dense model divided by the student's. [ratio]"""


_BLOCKS: dict[str, type[Block]] = {"parameters": Parameters, "latency_ms": Latency, "speedup": Speedup}
_NUMBER = TypeAdapter(Sparsity)


def _read_target(item: Any) -> Any:
    """An item of a path: a number, or the block that its key selects."""
    if isinstance(item, Parameters | Latency | Speedup):
        return item
    if isinstance(item, str):
        raise ValueError(f"got the text {item!r}; allowed: {_EXAMPLES}")
    if not isinstance(item, dict):
        return _NUMBER.validate_python(item)

    kinds = [key for key in _BLOCKS if key in item]
    known = [*_BLOCKS, *Timed.model_fields] if len(kinds) != 1 else list(_BLOCKS[kinds[0]].model_fields)
    if unknown := [key for key in item if key not in known]:
        hint = nearest(unknown[0], known) or f"; allowed: {', '.join(sorted(known))}"
        raise ValueError(f"unknown key '{unknown[0]}'{hint}")

    if len(kinds) != 1:
        raise ValueError(f"got {' and '.join(kinds) or 'no target'}; one of {', '.join(_BLOCKS)} is needed")
    return _BLOCKS[kinds[0]].model_validate(item)


def _write_target(target: Any) -> Any:
    """A target as JSON can hold it."""
    return target.model_dump() if isinstance(target, Block) else target


Target = Annotated[
    float | Parameters | Latency | Speedup,
    PlainValidator(_read_target, json_schema_input_type=Sparsity | Parameters | Latency | Speedup),
    PlainSerializer(_write_target),
]
"""One item of a path. The validator selects the block, so that messages name no members of unions."""


def target_key(target: Target) -> Any:
    """The key of a target in the configuration: parameters, latency_ms or speedup; 'sparsity' for a number."""
    return next((key for key, block in _BLOCKS.items() if isinstance(target, block)), "sparsity")


def target_kind(target: Target) -> TargetKind:
    """The kind of a target, which a method is able to reach or not."""
    return "latency" if isinstance(target, Timed) else target_key(target)


def number_of(target: Target) -> float:
    """The number of a target as the configuration gives it."""
    return getattr(target, target_key(target), target)  # type: ignore[arg-type]  # a block has the attribute


def percent_of(target: Target) -> str:
    """The word for a target in folders and tables: 0.975 → '97.5', {speedup: 4} → '4x', {parameters: 5M} → '5M-parameters'."""
    number = number_of(target)
    if isinstance(target, Parameters):
        unit = next((unit for unit in ("M", "k") if number % _UNITS[unit] == 0), "")
        return f"{number // _UNITS.get(unit, 1)}{unit}-parameters"
    if isinstance(target, Timed):
        return f"{_plain(number)}{'x' if isinstance(target, Speedup) else 'ms'}"
    return _plain(round(100 * number, 1))


def _plain(number: float) -> str:
    return f"{abs(number):.3f}".rstrip("0").rstrip(".")  # -0.0 is 0, too


def position(percent: str) -> float:
    """Number by which the targets of a path are ordered, from the word for the target; it grows as models get smaller."""
    number, unit = re.fullmatch(r"([\d.]+)(.*)", percent).groups()
    return float(number) * _DIRECTIONS[unit]


def check_path(path: Sequence[Target]) -> None:
    """Check that a path has one kind of target, and that every stage removes more than the stage before.

    Raises:
        ValueError: the path breaks one of these rules.
    """
    if len(kinds := list(dict.fromkeys(map(target_key, path)))) > 1:
        raise ValueError(f"path must have one kind of target, got {' and '.join(kinds)}")

    places = {(target.batch_size, target.length): None for target in path if isinstance(target, Timed)}
    if len(places) > 1:
        got = " and ".join(f"{size} x {length}" for size, length in places)
        raise ValueError(f"path must keep to one batch_size and length, got {got}")

    for number in map(number_of, path):
        if round(number, 3) != number:
            raise ValueError(f"path has at most three decimals, got {number}")
        if number >= 10**MOST_DIGITS:
            raise ValueError(f"path has numbers of at most {MOST_DIGITS} digits, got {Decimal(number):.3g}")

    rule = "ascend" if kinds[0] in ("sparsity", "speedup") else "descend"
    for earlier, later in pairwise(path):
        if position(percent_of(later)) <= position(percent_of(earlier)):
            raise ValueError(f"path must {rule}, got {number_of(later)} after {number_of(earlier)}")


def stage_of(path: Sequence[Target], percent: str) -> tuple[Target, Target | None]:
    """(target, target of the stage before) of the stage with this word in a path; None before the first stage."""
    index = [percent_of(target) for target in path].index(percent)
    return path[index], path[index - 1] if index else None
