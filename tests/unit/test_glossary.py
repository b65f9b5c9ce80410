"""docs/glossary.md: one table in alphabetical order, and every name in it is in the code, a configuration or results."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from espalier.results.table import COLUMNS
from tests.unit.test_import_order import PACKAGE
from tests.unit.test_vocabulary_of_code import defined

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/glossary.md").read_text()
ROWS = re.findall(r"^\| ([^|`]+) \| ([^|]+) \| `([^`|]+)` \|$", TEXT, re.MULTILINE)
KEYS = set(re.findall(r'"(\w+)"', (ROOT / "workflow/schemas/config.schema.json").read_text())) | set(COLUMNS)


def test_the_table_is_in_alphabetical_order():
    words = [word.strip().casefold() for word, _, _ in ROWS]
    assert words == sorted(words) and len(words) == len(set(words)) and len(words) > 40


def test_every_row_has_a_name():
    lines = [line for line in TEXT.splitlines() if line.startswith("| ")]
    assert len(lines) == len(ROWS) + 1, "a row without a meaning or a name in backticks"


@pytest.mark.parametrize("name", sorted({name for _, _, name in ROWS}))
def test_a_name_exists(name):
    file, _, symbol = name.partition(":")
    path = next((folder / file for folder in (PACKAGE, ROOT) if (folder / file).exists()), None)
    if path is None:
        assert name in KEYS, f"{name} is no file, no key of config.yaml and no column of table.csv"
    elif symbol:
        top, _, member = symbol.partition(".")
        tree = ast.parse(path.read_text())
        assert top in set(defined(tree)), f"{file} defines no {top}"
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == top]
        assert not member or any(getattr(node, "name", None) == member for node in classes[0].body)
