"""A task as lines of YAML, and a configuration file with these lines in it; whatever else stands there stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from espalier.config import parse
from espalier.config.blocks import ConfigError
from espalier.config.syntax import syntax_problems
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic

PLAIN = re.compile(r"[A-Za-z_./][\w./-]*( [\w./-]+)*")
"""Texts that stand in YAML without quotes, where YAML reads them as texts."""


def block_lines(name: str, keys: Mapping[str, Any], doubts: Mapping[str, str], indent: int = 2) -> list[str]:
    """The lines of a task under `tasks:`; above each uncertain line stands what is uncertain."""
    inner = " " * 2 * indent
    lines = [f"{' ' * indent}{name}:"]
    for key, value in keys.items():
        if key in doubts:
            lines.append(f"{inner}# unsure: {doubts[key]}")
        lines.append(f"{inner}{key}: {_scalar(value)}")
    return lines


def _scalar(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        plain = PLAIN.fullmatch(value) and yaml.safe_load(value) == value
        return value if plain else yaml.safe_dump(value, default_style='"', allow_unicode=True, width=10**6).strip()
    return str(value)


def read_config_file(path: Path) -> tuple[str, dict[str, Any]]:
    """Text and content of a configuration file.

    Raises:
        UserError: there is no such file, or it is no configuration.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; --config names the configuration that the task is for")
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8: {error.reason} at byte {error.start}") from error
    if problems := syntax_problems(text, str(path)):
        raise UserError("\n".join(problems))
    content = yaml.safe_load(text)
    if not isinstance(content, dict):
        raise UserError(f"{path}: got {type(content).__name__}; a configuration with a block `tasks` is needed")
    return text, content


def with_task(path: Path, name: str, keys: Mapping[str, Any], doubts: Mapping[str, str]) -> str:
    """The text of a configuration with one task more, behind the others.

    Raises:
        UserError: it has a task of this name, its block of tasks cannot be added to, or the task has problems.
    """
    text, content = read_config_file(path)
    tasks = content.get("tasks")
    if tasks is not None and not isinstance(tasks, dict):
        raise UserError(f"{path}, tasks: got {type(tasks).__name__}; a block of tasks is needed")
    if name in (tasks or {}):
        raise UserError(f"{path}: there is a task '{name}' already; --name gives another name")

    lines, ending = text.splitlines(), "\r\n" if "\r\n" in text else "\n"
    place, indent = _place(path, text, lines)
    head = [] if "tasks" in content else ["", "tasks:"]
    added = [*head, *block_lines(name, keys, doubts, indent)]
    result = ending.join([*lines[:place], *added, *lines[place:]]) + ending

    _check(path, result, {**content, "tasks": {**(tasks or {}), name: dict(keys)}})
    return result


def _place(path: Path, text: str, lines: list[str]) -> tuple[int, int]:
    """Before which line the new task stands, and how far tasks are indented."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    pair = next((pair for pair in node.value if pair[0].value == "tasks"), None)
    if pair is None:
        return len(lines), 2
    key, value = pair
    if isinstance(value, yaml.MappingNode) and value.flow_style and value.value:
        raise UserError(
            f"{path}, line {key.start_mark.line + 1}: the tasks stand in braces; write one task a line, or paste the block"
        )
    if isinstance(value, yaml.MappingNode) and value.flow_style:
        raise UserError(
            f"{path}, line {key.start_mark.line + 1}: write `tasks:` without braces, so that tasks can stand below it"
        )

    # the block ends with its last indented line: comments that belong to its last task are indented, too
    place = after = key.start_mark.line + 1
    while after < len(lines) and (not lines[after].strip() or lines[after][0] in " \t"):
        after += 1
        place = after if lines[after - 1].strip() else place
    indent = value.value[0][0].start_mark.column if isinstance(value, yaml.MappingNode) else 2
    return place, indent


def _check(path: Path, text: str, wanted: dict[str, Any]) -> None:
    """See that nothing else has changed, and that the configuration is good."""
    if yaml.safe_load(text) != wanted:
        raise UserError(f"{path}: the task cannot be added without changing something else; paste the block yourself")
    try:
        parse(wanted)
    except ConfigError as error:
        raise UserError(f"{path} with the new task would have problems, so it stays as it is; {error}") from None


def write_config(path: Path, text: str) -> None:
    """Write the file whole or not at all."""
    with atomic(path.resolve()) as temporary:
        temporary.write_bytes(text.encode())
