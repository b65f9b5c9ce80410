"""No dead option: every field of the configuration is read somewhere by the program."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from espalier.config import job_specs  # noqa: F401  # its classes are blocks, too
from espalier.config.blocks import Block

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "workflow/espalier"


def blocks(parent: type[Block] = Block) -> list[type[Block]]:
    """All settings classes and specifications of jobs."""
    return [block for child in parent.__subclasses__() for block in (child, *blocks(child))]


def fields() -> list[str]:
    """`Class.field` of every block, inherited fields once."""
    names = [f"{block.__name__}.{key}" for block in blocks() for key in block.__annotations__ if key in block.model_fields]
    return list(dict.fromkeys(names))


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
