"""One word, one meaning: no public name of the package is defined in two modules."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "workflow/espalier"
ENTRY_POINTS = frozenset({"run", "main", "RULES"})
"""Every stage has a `run`, every command a `main`, every kind of task its `RULES`: they are found by module and so share a name
on purpose."""
TO_RENAME = frozenset[str]()
"""Names that still have two definitions. The list only gets shorter."""


def defined(tree: ast.Module) -> Iterator[str]:
    """Names that a module defines at its top level: functions, classes and constants, not imports."""
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            parts = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
            yield from (part.id for part in parts if isinstance(part, ast.Name))


def public_names_with_two_homes() -> dict[str, list[str]]:
    """Public name → the modules that define it, where there are several."""
    homes: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for name in defined(ast.parse(path.read_text())):
            homes[name].add(path.relative_to(PACKAGE).as_posix())

    public = {name: sorted(modules) for name, modules in homes.items() if not name.startswith("_")}
    return {name: modules for name, modules in sorted(public.items()) if len(modules) > 1 and name not in ENTRY_POINTS}


def test_no_public_name_is_defined_in_two_modules():
    found = public_names_with_two_homes()
    assert {name: modules for name, modules in found.items() if name not in TO_RENAME} == {}


def test_the_list_of_names_to_rename_is_current():
    assert TO_RENAME - public_names_with_two_homes().keys() == set(), "renamed already: take them off the list"


def test_definitions_are_found_in_every_form():
    tree = ast.parse("from a import b\nX, Y = 1, 2\nZ: int = 3\ndef f():\n    inner = 1\nclass C:\n    g = 1\nX.y = 2\n")
    assert list(defined(tree)) == ["X", "Y", "Z", "f", "C"]
