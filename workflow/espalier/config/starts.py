"""The model that a path starts from: the base, the teacher, or a student of another plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import PlainSerializer, PlainValidator

from espalier.config.blocks import Block, Name, nearest, short_yaml
from espalier.config.targets import Target


class Source(Block):
    """Another plan, from whose students this one starts."""

    plan: Name
    """Name of the other plan. It works on the same task, or on a text task; students of a text task get a new head. [plan]"""
    task: Name | None = None
    """Text task on which the students were made; null where there is only one text task. [task; ours]"""


class SourceAt(Source):
    """One student of another plan, from which this one goes on. Targets still count against the base, so the path must begin
    beyond this student's target."""

    at: Target
    """Target of the student; one of the other plan's path. [target]"""


def _reader(*words: str) -> Callable[[Any], Any]:
    """A validator that takes one of these words, or a block that names a student."""
    allowed = [*words, "{plan: …, at: …}"]

    def read(item: Any) -> Any:
        if isinstance(item, dict):
            return SourceAt.model_validate(item)
        if isinstance(item, SourceAt) or item in words:
            return item
        raise ValueError(f"got {short_yaml(item)}; allowed: {', '.join(allowed)}{nearest(item, words)}")

    return read


def _write_start(start: Any) -> Any:
    """A start as JSON can hold it."""
    return start.model_dump(mode="json") if isinstance(start, Block) else start


Start = Annotated[
    Literal["pretrained", "teacher"] | SourceAt,
    PlainValidator(_reader("pretrained", "teacher"), json_schema_input_type=Literal["pretrained", "teacher"] | SourceAt),
    PlainSerializer(_write_start),
]
"""The base with a new head, the fine-tuned teacher, or a student. The validator chooses, so that errors carry no names of union
members."""
TextStart = Annotated[
    Literal["teacher"] | SourceAt,
    PlainValidator(_reader("teacher"), json_schema_input_type=Literal["teacher"] | SourceAt),
    PlainSerializer(_write_start),
]
"""Start of a plan on text tasks: the teacher or a student of another plan on text."""
