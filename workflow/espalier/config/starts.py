"""What a path starts from: the base, the teacher, or a student of another plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import PlainSerializer, PlainValidator

from espalier.config.blocks import Block, Name, nearest
from espalier.config.targets import Target


class Source(Block):
    """Another plan, whose students this one starts from."""

    plan: Name
    """Name of the plan; it works on the same task, or on a text task, and the students then get a new head."""
    task: Name | None = None
    """The text task, where the configuration has several."""


class SourceAt(Source):
    """A student of another plan, from which this one goes on; its targets stay fractions of the base."""

    at: Target
    """One of that plan's targets."""


def _reader(*words: str) -> Callable[[Any], Any]:
    """Reads one of some words, or a block."""
    allowed = [*words, "{plan: …, at: …}"]

    def read(item: Any) -> Any:
        if isinstance(item, dict):
            return SourceAt.model_validate(item)
        if isinstance(item, SourceAt) or item in words:
            return item
        raise ValueError(f"got {item!r}; allowed: {', '.join(allowed)}{nearest(item, words)}")

    return read


def _write(start: Any) -> Any:
    return start.model_dump(mode="json") if isinstance(start, Block) else start


Start = Annotated[
    Literal["pretrained", "teacher"] | SourceAt,
    PlainValidator(_reader("pretrained", "teacher"), json_schema_input_type=Literal["pretrained", "teacher"] | SourceAt),
    PlainSerializer(_write),
]
"""The base with a new head, the fine-tuned teacher, or a student. The validator chooses, so that errors carry no names of
union members."""
TextStart = Annotated[
    Literal["teacher"] | SourceAt,
    PlainValidator(_reader("teacher"), json_schema_input_type=Literal["teacher"] | SourceAt),
    PlainSerializer(_write),
]
"""The same on text tasks."""
