"""Tables of the reference page: one row for each key of a block, with type, default, unit, range, origin and meaning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from espalier.config.blocks import PATTERN_WORDS, Block
from espalier.config.explanations import explanation

TABLE_HEAD = ("Key", "Type", "Default", "Unit", "Range", "Origin", "Meaning")
TYPE_WORDS = {"number": "number", "integer": "whole number", "string": "text", "boolean": "true or false", "null": "null"}
"""JSON's name of a type → the page's name."""
SMALLEST_PLAIN = 0.01
"""Defaults below this number are written like 3.0e-5."""


class Row(NamedTuple):
    """One key on the page; every cell is plain text."""

    key: str
    type: str
    default: str
    unit: str
    range: str
    origin: str
    meaning: str


def slug(heading: str) -> str:
    """The anchor that GitHub and mkdocs give to a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def rows_of(block: type[BaseModel], keys: Iterable[str], sections: Mapping[str, str]) -> list[Row]:
    """A row for each of these keys of a block.

    Args:
        block: a settings class.
        keys: names of fields.
        sections: name of a settings class → heading of its section, to which the keys that hold such a block are linked.
    """
    properties = block.model_json_schema()["properties"]
    return [_row(block, key, properties[key], sections) for key in keys]


def _row(block: type[BaseModel], key: str, schema: dict[str, Any], sections: Mapping[str, str]) -> Row:
    said, field = explanation(block, key), block.model_fields[key]

    # a required key has no default, so its value comes from the user
    origin = "yours" if field.is_required() else said.origin or ""
    return Row(
        key=f"`{key}`",
        type=type_of(schema),
        default="required" if field.is_required() else f"`{as_yaml(field.get_default(call_default_factory=True))}`",
        unit=said.unit or "",
        range=range_of(schema, sections),
        origin=f"{origin}: {said.remark}" if said.remark else origin,
        meaning=said.sentence,
    )


def table(rows: Sequence[Row], anchor: str) -> str:
    """Rows as a Markdown table; each key can be linked to as `#ANCHOR-KEY`."""
    lines = [" | ".join(TABLE_HEAD), " | ".join("---" for _ in TABLE_HEAD)]
    for row in rows:
        cells = [cell.replace("|", r"\|") or "–" for cell in row]
        lines.append(" | ".join([f'<a id="{anchor}-{row.key.strip("`")}"></a>{cells[0]}', *cells[1:]]))
    return "\n".join(f"| {line} |" for line in lines)


def as_yaml(value: object) -> str:
    """A default as it would be written in config.yaml, on one line."""
    if isinstance(value, Block):
        return as_yaml(value.model_dump(mode="json", exclude_unset=True))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {as_yaml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and 0.0 < abs(value) < SMALLEST_PLAIN:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa)}e{int(exponent)}"
    return str(value)


def type_of(schema: dict[str, Any]) -> str:
    """The type of a value in words: 'whole number or null', 'list of texts'."""
    names = list(dict.fromkeys(_types(schema)))
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _types(schema: dict[str, Any]) -> list[str]:
    if members := schema.get("anyOf"):
        return [name for member in members for name in _types(member)]
    if "enum" in schema or ("const" in schema and schema["const"] is not False):
        return ["choice"]
    if "$ref" in schema:
        return ["block"]
    if schema["type"] == "array":
        inner = " or ".join(dict.fromkeys(f"{name}s" for name in _types(schema["items"])))
        return [f"list of {inner}"]
    if schema["type"] == "object":
        return ["map"]
    return [TYPE_WORDS[schema["type"]]]


def range_of(schema: dict[str, Any], sections: Mapping[str, str]) -> str:
    """The values that are allowed: limits of a number, words of a choice, form of a text, length of a list, keys of a block."""
    return "; ".join(dict.fromkeys(_ranges(schema, sections)))


def _ranges(schema: dict[str, Any], sections: Mapping[str, str]) -> list[str]:
    if members := schema.get("anyOf") or list(schema.get("patternProperties", {}).values()):
        return [part for member in members for part in _ranges(member, sections)]
    if heading := sections.get(schema.get("$ref", "").rpartition("/")[2]):
        return [f"[{heading.lower()}](#{slug(heading)})"]
    if words := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return [", ".join(f"`{as_yaml(word)}`" for word in words)]
    if schema.get("type") == "boolean":
        return ["`true`, `false`"]
    if schema.get("type") == "array":
        return [*_ranges(schema["items"], sections), *_lengths(schema)]
    if words := PATTERN_WORDS.get(schema.get("pattern", "")):
        return [words]
    return _limits(schema)


def _limits(schema: dict[str, Any]) -> list[str]:
    """Limits of a number: '0 … 1', '≥ 1', '> 0', '0 ≤ x < 1'."""
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return [f"{_plain(low)} … {_plain(high)}"]
    if low is not None and below is not None:
        return [f"{_plain(low)} ≤ x < {_plain(below)}"]
    signs = {"≥": low, ">": above, "≤": high, "<": below}
    return [f"{sign} {_plain(limit)}" for sign, limit in signs.items() if limit is not None]


def _lengths(schema: dict[str, Any]) -> list[str]:
    least, most = schema.get("minItems"), schema.get("maxItems")
    if most is not None:
        return [f"{least} to {most} entries"]
    return [f"at least {least} {'entry' if least == 1 else 'entries'}"] if least else []


def _plain(number: float) -> str:
    return re.sub(r"\.0$", "", str(number))
