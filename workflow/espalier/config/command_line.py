"""Values of `snakemake --config key=value`, read as YAML: a text means the same there as in config.yaml.

Snakemake itself reads numbers at the top level, and leaves everything inside lists and blocks as text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from espalier.config.blocks import ConfigError
from espalier.config.syntax import syntax_problems


def take_command_line(configuration: dict[str, Any], arguments: Iterable[str]) -> None:
    """Write the values of arguments `key=value` over a configuration, block by block; anything but a block as a whole.

    Raises:
        ConfigError: a value is not YAML, or a key occurs twice in one of its blocks.
    """
    pairs = [argument.partition("=")[::2] for argument in arguments]
    if problems := [problem for key, text in pairs for problem in syntax_problems(text, f"--config {key}")]:
        raise ConfigError(problems)

    for key, text in pairs:
        _write_over(configuration, {key: yaml.safe_load(text)})


def _write_over(old: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            _write_over(old[key], value)
        else:
            old[key] = value
