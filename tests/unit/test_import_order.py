"""Who may import whom: a package imports only packages below it, and no folder grows too large to read."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "workflow/espalier"
MODULES = {
    ".".join(("espalier", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
FROM_THE_STANDARD_LIBRARY = sys.stdlib_module_names
ORDER = (
    {"config"},
    {"runtime"},
    {"provenance"},
    {"data"},
    {"models"},
    {"losses"},
    {"pruning"},
    {"evaluation"},
    # one file a kind of task, from its labels to its scores: above all that it uses, below whoever asks it
    {"kinds"},
    {"deployment"},
    {"methods"},
    {"training"},
    {"analyses"},
    {"results"},
    {"report"},
    {"stages", "commands"},
    {"__main__"},
)
"""The packages from the ground up; those of one line do not know each other."""
RANKS = {package: rank for rank, packages in enumerate(ORDER) for package in packages}
READ_BY_RULES = ("config", "runtime.files", "provenance.code_digest", "provenance.job_environment", "provenance.row_contents")
"""What the Snakefile imports, beside `stages` itself: pydantic, yaml and the standard library only."""
LARGEST_FOLDER = 24


def package_of(module: str) -> str | None:
    """The package that a module stands in; None for `espalier` itself, which everything may import."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def imported(path: Path) -> set[str]:
    """Modules that a file imports; `from espalier.losses import terms` is espalier.losses.terms."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & MODULES.keys()) or {str(node.module)}
    return found


def test_every_package_has_its_place_in_the_order():
    assert {package_of(module) for module in MODULES} - {None} == set(RANKS)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_its_own_package_and_lower_ones_only(module):
    own = package_of(module)
    ours = {other for other in imported(MODULES[module]) if other.startswith("espalier.")}
    if own is None:
        assert not ours, f"{module} imports {sorted(ours)}"
        return

    # stages stand side by side: none calls another; all other packages may use their own modules
    same = set() if own in ("stages", "commands") else {own}
    wrong = [other for other in ours if package_of(other) not in same and RANKS[package_of(other)] >= RANKS[own]]
    assert not wrong, f"{module} imports {sorted(wrong)}, which stand higher or beside it"


def test_methods_do_not_know_each_other():
    names = ("base", "gated", "logit_distillation", "part_removal", "pruning", "refitting", "untrained")
    bases = {f"espalier.methods.{name}" for name in names}
    for module, path in MODULES.items():
        if module.startswith("espalier.methods.") and module not in bases:
            others = {other for other in imported(path) if other.startswith("espalier.methods.")} - bases
            inherits = {"espalier.methods.movement", "espalier.methods.distil"}  # a method may be built on a simpler one
            assert others <= inherits or not others, f"{module} imports {sorted(others)}"


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


def test_no_folder_is_too_large_to_read():
    sizes = Counter(path.parent.relative_to(PACKAGE).as_posix() for path in MODULES.values() if path.name != "__init__.py")
    assert {folder: count for folder, count in sizes.items() if count > LARGEST_FOLDER} == {}


@pytest.mark.parametrize(
    "module",
    ["espalier.stages", *sorted(m for m in MODULES if m.removeprefix("espalier.").startswith(READ_BY_RULES))],
)
def test_rules_need_pydantic_and_yaml_only(module):
    roots = {other.split(".")[0] for other in imported(MODULES[module])} - FROM_THE_STANDARD_LIBRARY
    assert roots <= {"espalier", "pydantic", "pydantic_core", "yaml"}  # Snakemake itself needs yaml


WAITS = "espalier.__main__"
"""The program: where the fork server runs a stage, it only waits, so its functions import what it then does not need."""


def test_imports_stand_at_the_top():
    for module, path in MODULES.items():
        if module == WAITS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = [part.lineno for part in ast.walk(node) if isinstance(part, ast.Import | ast.ImportFrom)]
                assert not inner, f"{module}, line {inner[0]}: an import inside {node.name}"


def test_the_snakefile_s_imports_load_no_torch():
    code = (
        "import sys, espalier.config.layout, espalier.config.schema, espalier.config.job_specs\n"
        "import espalier.provenance.code_digest, espalier.provenance.job_environment, espalier.provenance.row_contents\n"
        "print(*sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
