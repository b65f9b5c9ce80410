"""Errors in the text of a YAML file: wrong syntax, and keys that occur twice, of which YAML readers silently keep the last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from espalier.config.blocks import ConfigError

MERGE = "tag:yaml.org,2002:merge"
"""Tag of the key `<<`; keys that it brings may be written again, which overrides them."""


def check_syntax(paths: Iterable[Path]) -> None:
    """Check the text of configuration files. Missing files and JSON files are left to Snakemake.

    Raises:
        ConfigError: a file is not YAML, or a key occurs twice in one block.
    """
    files = [path for path in paths if path.is_file() and path.suffix != ".json"]
    if problems := [problem for path in files for problem in syntax_problems(path.read_bytes(), str(path))]:
        raise ConfigError(problems)


def syntax_problems(text: bytes | str, place: str) -> list[str]:
    """What is wrong with a text as YAML, one line for each problem; `place` says where the text stands."""
    try:
        top = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = "; ".join(filter(None, (error.context, error.problem)))
        return [f"{place}, line {mark.line + 1}, column {mark.column + 1}: this is not YAML: {what}"]
    except yaml.YAMLError as error:
        return [f"{place}: this is not YAML: {error}"]
    return [f"{place}, {problem}" for problem in _repeated(top, set())]


def _repeated(node: yaml.Node | None, seen: set[int]) -> Iterator[str]:
    """Problems of keys that occur twice in one block; `seen` holds the nodes that were visited."""
    # an alias leads to the node of its anchor, which is visited once
    if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
        return
    seen.add(id(node))

    lines: dict[str, int] = {}
    for item in node.value:
        key, child = item if isinstance(node, yaml.MappingNode) else (None, item)
        if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
            line = key.start_mark.line + 1
            if key.value in lines:
                yield f"line {line}: the key '{key.value}' stands in line {lines[key.value]} already; keep one of them"
            lines.setdefault(key.value, line)
        yield from _repeated(child, seen)
