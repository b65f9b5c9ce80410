"""Strict, frozen pydantic blocks and error messages that say where, what was got and what is allowed."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

PATTERN_WORDS: dict[str, str] = {}
"""Pattern of a text → the pattern in words."""


def _text(pattern: str, said: str, **limits: Any) -> Any:
    """Type of a text that must match a pattern; a message says the pattern in words."""
    PATTERN_WORDS[pattern] = said
    return Annotated[str, StringConstraints(pattern=pattern, **limits)]


NAME = "[a-z0-9][a-z0-9-]*"
"""Pattern of a name."""
Name = _text(rf"^{NAME}$", "lower-case letters, digits and hyphens, beginning with a letter or digit", max_length=64)
"""A name that becomes a path and a shell word."""
LanguageCode = _text(r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$", "a code of a language, such as en or pt-BR")
Commit = _text(r"^[0-9a-f]{40}$", "a full git commit: 40 hexadecimal digits")
"""A commit of the hub; with it, the same configuration always reads the same files."""
Sha256 = _text(r"^[0-9a-f]{64}$", "a SHA-256 digest: 64 hexadecimal digits")
Requirement = _text(r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*$", "a pinned requirement: name==version")
HubId = _text(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$", "a name on the hub: owner/name, or name")
Licence = _text(r"^[A-Za-z0-9][A-Za-z0-9.+-]*$", "an SPDX identifier such as Apache-2.0")

_BLOCK = "a block of keys"
_NEEDED = {
    "dict_type": _BLOCK,
    "model_type": _BLOCK,
    "model_attributes_type": _BLOCK,
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}
"""Kind of pydantic's error → what is needed, in the words of YAML rather than Python."""
_UNIONS = (typing.Union, types.UnionType)


class Block(BaseModel):
    """One block of the configuration: unknown keys are errors, values are never converted, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


Many = Field(strict=False)
"""For fields that are tuples, because YAML and JSON give lists."""


class ConfigError(ValueError):
    """Everything that is wrong with a configuration, one line for each problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = [printable(problem) for problem in problems]
        count = len(self.problems)
        head = f"the configuration has {count} problem{'s' if count != 1 else ''}:"
        super().__init__("\n".join([head, *(f"  - {problem}" for problem in self.problems)]))


def printable(text: str) -> str:
    """The text on one line; characters that control a terminal or cannot be written are escaped."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def nearest(word: object, known: Sequence[str]) -> str:
    """`; did you mean 'x'?` with the most similar known name, or an empty text if none is similar."""
    match = difflib.get_close_matches(str(word), [str(name) for name in known], n=1, cutoff=0.6)
    return f"; did you mean '{printable(match[0])}'?" if match else ""


def problem_lines(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[str]:
    """One readable line for each problem that pydantic reports about `model`; `prefix` is the place of the block."""
    problems = error.errors(include_url=False)

    # a problem inside a block makes further problems of the blocks around it; only the innermost one helps
    around = {details["loc"][:depth] for details in problems for depth in range(len(details["loc"]))}
    innermost = [details for details in problems if details["loc"] not in around and not _of_a_text(details)]
    return [_line(details, model, prefix) for details in innermost]


def _of_a_text(details: ErrorDetails) -> bool:
    """Whether pydantic complains that a block is no text where both are allowed; the problems inside the block say more."""
    in_block = any(str(part).startswith("dict[") for part in details["loc"][-2:])
    is_text = details["type"] == "string_type" and details["loc"][-1] == "str"
    return is_text and isinstance(details["input"], dict) and not in_block


def _line(details: ErrorDetails, model: type[BaseModel], prefix: str) -> str:
    """One problem as `place: got …; allowed: …`."""
    path, fields = _locate(details["loc"], model)
    kind, got, context = details["type"], details.get("input"), details.get("ctx", {})
    if kind == "extra_forbidden":
        *parent, key = path
        place = ".".join([part for part in (prefix, *parent) if part]) or "(top level)"
        return f"{place}: unknown key '{key}'{nearest(key, fields) or '; allowed: ' + ', '.join(sorted(fields))}"
    place = ".".join([part for part in (prefix, *path) if part]) or "(top level)"
    if kind == "missing":
        return f"{place}: missing; this key is required"
    if kind == "literal_error":
        allowed = [word.strip().strip("'") for word in context["expected"].replace(" or ", ", ").split(",")]
        return f"{place}: got {short_yaml(got)}; allowed: {', '.join(allowed)}{nearest(got, allowed)}"
    if kind == "union_tag_invalid":
        allowed = [word.strip().strip("'") for word in context["expected_tags"].split(",")]
        key = context["discriminator"].strip("'")
        return f"{place}.{key}: got {short_yaml(got[key])}; allowed: {', '.join(allowed)}{nearest(got[key], allowed)}"
    if kind == "union_tag_not_found":
        return f"{place}.{context['discriminator'].strip(chr(39))}: missing; this key is required"
    if kind == "string_pattern_mismatch":
        return f"{place}: got {got!r}; allowed: {PATTERN_WORDS.get(context['pattern'], context['pattern'])}"
    if kind == "value_error":
        return f"{place}: {context['error']}".removeprefix("(top level): ")
    if kind == "float_type" and isinstance(got, str):
        return f"{place}: got the text {got!r}; a number is needed"
    return f"{place}: got {short_yaml(got)}; needed: {_needed(details)}"


def _needed(details: ErrorDetails) -> str:
    """What is needed instead of what was got."""
    kind, got, context = details["type"], details.get("input"), details.get("ctx", {})
    if kind == "tuple_type":
        return "a list" if got in (None, "") or isinstance(got, dict) else f"a list, such as [{in_yaml(got)}]"
    if kind == "string_type" and isinstance(got, int | float):
        return f"a text, in quotes: '{in_yaml(got)}'"
    if kind.endswith(("too_short", "too_long")):
        least, most = context.get("min_length"), context.get("max_length")
        what = "character" if kind.startswith("string") else "entry" if isinstance(got, dict) else "item"
        return f"at least {_counted(least, what)}" if least is not None else f"at most {_counted(most, what)}"
    return _NEEDED.get(kind) or details["msg"].removeprefix("Input should be ").removeprefix("a valid ")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what.removesuffix('y')}{'ies' if what.endswith('y') else 's'}"


def shortened(value: object) -> str:
    """A value as Python writes it, cut where it is long."""
    return _cut(repr(value))


def short_yaml(value: object) -> str:
    """A value as it stands in a YAML file, cut where it is long, and "nothing" for null."""
    return _cut("nothing" if value is None else in_yaml(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def in_yaml(value: object) -> str:
    """A value as it stands in a YAML file, on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {in_yaml(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(in_yaml, value))}]"
    words = {"None": "null", "True": "true", "False": "false", "inf": ".inf", "-inf": "-.inf", "nan": ".nan"}
    return words.get(repr(value), repr(value))


def _locate(location: tuple[int | str, ...], model: type[BaseModel]) -> tuple[list[str], list[str]]:
    """The path as the user wrote it, without the tags of unions, and the names of the innermost block's keys."""
    path: list[str] = []
    here: Any = model
    fields = list(model.model_fields)
    for part in location:
        if part == "[key]":
            continue
        members = _blocks(here)
        by_tag = {tag: block for block in members for tag in _tags(block)}
        if len(members) > 1 and part in by_tag:
            here, fields = by_tag[part], list(by_tag[part].model_fields)
            continue
        # pydantic names the member of a union that it tried, which the user never wrote
        if typing.get_origin(_bare(here)) in _UNIONS and (part == "str" or str(part).startswith("dict[")):
            here = next((kind for kind in typing.get_args(_bare(here)) if typing.get_origin(kind) is dict), None)
            continue
        path.append(f"[{part}]" if isinstance(part, int) else str(part))
        here = _child(members, here, part)
        inner = _blocks(here)
        fields = sorted({name for block in inner for name in block.model_fields}) or fields
    return path, fields


def _tags(block: type[BaseModel]) -> tuple[str, ...]:
    """Values of `method` or `source` that select this block."""
    for field in ("method", "source"):
        if field in block.model_fields and typing.get_origin(block.model_fields[field].annotation) is typing.Literal:
            return typing.get_args(block.model_fields[field].annotation)
    return ()


def _child(members: list[type[BaseModel]], here: Any, part: int | str) -> Any:
    """Annotation of one key or item of what `here` describes."""
    for block in members:
        if part in block.model_fields:
            return block.model_fields[part].annotation
    return typing.get_args(_bare(here))[-1] if typing.get_args(_bare(here)) else None


def _bare(annotation: Any) -> Any:
    """An annotation without its constraints."""
    while typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation


def _blocks(annotation: Any) -> list[type[BaseModel]]:
    """The blocks that an annotation allows."""
    annotation = _bare(annotation)
    if typing.get_origin(annotation) in _UNIONS:
        return [block for member in typing.get_args(annotation) for block in _blocks(member)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
