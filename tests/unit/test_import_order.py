"""Who may import whom: a module imports only modules of a lower rank."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "workflow/espalier"
MODULES = {
    ".".join(("espalier", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
FROM_THE_STANDARD_LIBRARY = sys.stdlib_module_names
LOWEST = ("espalier", "espalier.config", "espalier.tasks", "espalier.provenance", "espalier.methods")
"""What rules import: pydantic, yaml and the standard library only. `espalier.methods` itself is the table of names."""


def rank(module: str) -> int:
    parts = module.split(".")
    if module in LOWEST or parts[:2] == ["espalier", "config"]:
        return 0
    return {"core": 1, "methods": 4, "stages": 5, "commands": 5, "__main__": 6}[parts[1]]


def imported(path: Path) -> set[str]:
    """Modules that a file imports; `from espalier.core import losses` is espalier.core.losses."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & MODULES.keys()) or {str(node.module)}
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_lower_ranks_only(module):
    own = rank(module)
    ours = {other for other in imported(MODULES[module]) if other.split(".")[0] == "espalier"}
    allowed_among_equals = own <= 1  # within config and within core; circles are refused below
    wrong = {other for other in ours if rank(other) > own or (rank(other) == own and not allowed_among_equals)}
    assert not wrong, f"{module} (rank {own}) imports {sorted(wrong)}"


def test_methods_and_the_loop_do_not_know_each_other():
    for module, path in MODULES.items():
        if module.startswith("espalier.methods."):
            assert not imported(path) & {"espalier.core.loop", "espalier.core.training"}, module
        if module.startswith("espalier.core."):
            assert not any(other.startswith("espalier.methods.") for other in imported(path)), module


def test_nothing_is_imported_in_a_circle():
    graph = {module: imported(path) & MODULES.keys() for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join((*trail, module))
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("module", sorted(module for module in MODULES if rank(module) == 0))
def test_rules_need_pydantic_and_yaml_only(module):
    roots = {other.split(".")[0] for other in imported(MODULES[module])} - FROM_THE_STANDARD_LIBRARY
    assert roots <= {"espalier", "pydantic", "pydantic_core", "yaml"}  # Snakemake itself needs yaml


def test_imports_stand_at_the_top():
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = [part.lineno for part in ast.walk(node) if isinstance(part, ast.Import | ast.ImportFrom)]
                assert not inner, f"{module}, line {inner[0]}: an import inside {node.name}"


def test_the_snakefile_s_imports_load_no_torch():
    code = (
        "import sys, espalier.config.paths, espalier.config.schema, espalier.config.specs, espalier.provenance\n"
        "print(*sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
