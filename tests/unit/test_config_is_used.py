"""No dead option: every field of the configuration is read somewhere by the program."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "workflow/espalier"
DEFINITIONS = sorted((PACKAGE / "config").glob("*.py"))


def fields() -> list[str]:
    """`Class.field` of every block, inherited fields once."""
    classes = [block for file in DEFINITIONS for block in ast.parse(file.read_text()).body if isinstance(block, ast.ClassDef)]
    parts = [(block.name, part) for block in classes for part in block.body if isinstance(part, ast.AnnAssign)]
    return [f"{name}.{ast.unparse(part.target)}" for name, part in parts if "ClassVar" not in ast.unparse(part.annotation)]


def checks(node: ast.AST) -> bool:
    """A validator reads fields only to refuse them."""
    return isinstance(node, ast.FunctionDef) and any("validator" in ast.unparse(decorator) for decorator in node.decorator_list)


def reads(node: ast.AST) -> set[str]:
    """Names of attributes that a piece of code reads, validators left out."""
    if checks(node):
        return set()
    own = {node.attr} if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) else set()
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr" and isinstance(node.args[1], ast.Constant):
        own.add(node.args[1].value)
    return own.union(*(reads(child) for child in ast.iter_child_nodes(node)))


def everything_read() -> set[str]:
    python = set().union(*(reads(ast.parse(file.read_text())) for file in PACKAGE.rglob("*.py")))
    rules = (ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk"))
    return python.union(*(re.findall(r"\.(\w+)\b", file.read_text()) for file in rules))


READ = everything_read()


@pytest.mark.parametrize("field", fields())
def test_a_field_is_read(field):
    assert field.split(".")[1] in READ, f"{field} is defined in the configuration and nobody reads it"
