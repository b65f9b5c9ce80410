"""What code a job depends on, as one digest, symbol by symbol.

A digest covers the definitions that a stage and its method reach: functions, classes and constants of this package,
through names and imports, bases, decorators, defaults and annotations. Editing one loss therefore concerns only the
methods that use it. Comments, docstrings and layout never count; statements that act when a module is imported always
do. Standard library only: the Snakefile imports this.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent
PACKAGE = ROOT.name
Symbol = tuple[str, str]
"""Module and top-level name, or WHOLE, or ACTIONS."""
WHOLE = "*"
ACTIONS = ""
"""The statements of a module that act when it is imported."""
PROCESSES = "ESPALIER_PROCESSES"
"""Name of the variable by which jobs hear of the number of processes."""
MEASURED_LENGTH = "ESPALIER_MEASURED_LENGTH"
"""Name of the variable by which jobs hear how long the rows are that `measure` will time."""
LEFT_OUT = frozenset({(f"{PACKAGE}.methods", "METHODS")})
"""The registry names every method; a job's own method is an entry of its digest, so the others must not count."""
SILENT_FIELDS = frozenset({"type_params", "type_comment", "kind", "ctx"})
"""Fields of the syntax tree that mean nothing here or differ between versions of Python."""


def run_this_clone() -> None:
    """Let jobs run this package with this interpreter, whether or not its environment is activated.

    Neither path enters a job's record, so results stay valid in another clone. Under `--sdm conda` the environment's own
    python comes first, and this package is found all the same.
    """
    for variable, folder in (("PYTHONPATH", ROOT.parent), ("PATH", Path(sys.executable).parent)):
        folders = [str(folder), *filter(None, os.environ.get(variable, "").split(os.pathsep))]
        os.environ[variable] = os.pathsep.join(dict.fromkeys(folders))


def tell_jobs(processes: int, measured_length: int) -> None:
    """Let training stages run as so many processes, and what reads a base refuse rows that it could not be timed with.

    No result depends on either, so no job's parameters name them.
    """
    os.environ.update({PROCESSES: str(processes), MEASURED_LENGTH: str(measured_length)})


def work_folder(stage: str, *parts: str) -> str:
    """A folder for the checkpoints of one run, outside all outputs; other parts, another folder."""
    return f"work/{stage}/{_sha256(*parts)[:20]}"


@cache
def code_digest(*entries: str) -> str:
    """SHA-256 of all the code that the entries reach.

    Args:
        entries: `module` for a whole module, `module:Name` for one definition of it, `file:path` for a file of the
            package that is not Python, such as a template.

    Raises:
        ValueError: an entry, or an import that it reaches, leads nowhere.
    """
    files = sorted(entry.removeprefix("file:") for entry in entries if entry.startswith("file:"))
    symbols = [_symbol(entry) for entry in entries if not entry.startswith("file:")]
    contents = [f"{name} {hashlib.sha256((ROOT / name).read_bytes()).hexdigest()}" for name in files]
    texts = [(symbol, _text(*symbol)) for symbol in sorted(reached(*symbols))]
    return _sha256(*contents, *(f"{module}:{name} {text}" for (module, name), text in texts if text))


def reached(*symbols: Symbol) -> set[Symbol]:
    """The symbols and everything that they need, one after another until nothing new turns up."""
    found: set[Symbol] = set()
    todo = list(symbols)
    while todo:
        symbol = todo.pop()
        if symbol not in found and symbol not in LEFT_OUT and symbol[0] != __name__:  # this file decides no result
            found.add(symbol)
            todo += _needs(*symbol)
    return found


def _sha256(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _symbol(entry: str) -> Symbol:
    module, _, name = entry.partition(":")
    return module, name or WHOLE


class _Source:
    """A module's top level: definitions by name, imports from this package, and the statements that act on import."""

    def __init__(self, module: str, tree: ast.Module) -> None:
        self.module = module
        self.names: dict[str, list[ast.stmt]] = {}
        self.actions: list[ast.stmt] = []
        self.imports: dict[str, Symbol] = {}
        for statement in tree.body:
            if names := _defines(statement):
                for name in names:
                    self.names.setdefault(name, []).append(statement)
            elif _acts(statement):
                self.actions.append(statement)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self.imports |= {alias.asname or alias.name: (alias.name, WHOLE) for alias in node.names if _ours(alias.name)}
            elif isinstance(node, ast.ImportFrom) and (node.level or _ours(str(node.module))):
                self._import_from(node)

    def _import_from(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if node.level or alias.name == "*":
                raise ValueError(f"{self.module}, line {node.lineno}: relative and star imports hide what code a job uses")
            submodule = f"{node.module}.{alias.name}"
            symbol = (submodule, WHOLE) if _file(submodule) else (str(node.module), alias.name)
            self.imports[alias.asname or alias.name] = symbol

    def statements(self, name: str) -> list[ast.stmt]:
        """The code of one name, or of the actions; a whole module's is listed name by name."""
        return self.actions if name == ACTIONS else self.names.get(name, [])


@cache
def _read(module: str) -> _Source:
    file = _file(module) if _ours(module) else None
    if file is None:
        raise ValueError(f"{module}: no such module in {ROOT}")
    return _Source(module, ast.parse(file.read_text(encoding="utf-8"), filename=str(file)))


def _ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE


def _file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split(".")[1:])
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _defines(statement: ast.stmt) -> list[str]:
    """Names that a definition or a plain assignment binds; setting an attribute or an item is an action instead."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return []
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    parts = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple | ast.List) else [target])]
    names = [part.id for part in parts if isinstance(part, ast.Name)]
    return names if len(names) == len(parts) else []


def _acts(statement: ast.stmt) -> bool:
    """Whether importing the module runs more than an import: not so for `if TYPE_CHECKING:` and `if __name__ == …`."""
    if isinstance(statement, ast.If) and "__main__" in ast.dump(statement.test):
        return False
    parts = [*statement.body, *statement.orelse] if isinstance(statement, ast.If) else [statement]
    return not all(isinstance(part, ast.Import | ast.ImportFrom) or _is_text(part) for part in parts)


def _is_text(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@cache
def _needs(module: str, name: str) -> frozenset[Symbol]:
    """What one symbol reaches directly, together with the actions of all modules that are imported on the way."""
    source = _read(module)
    parents = [module.rsplit(".", depth)[0] for depth in range(1, module.count(".") + 1)]
    needs = {(other, ACTIONS) for other in (module, *parents, *(imported for imported, _ in source.imports.values()))}
    if name == WHOLE:
        needs |= {(module, own) for own in source.names}
    elif name in source.names or name == ACTIONS:
        for statement in source.statements(name):
            needs |= set(_references(statement, source))
    elif name in source.imports:
        needs.add(source.imports[name])
    elif not any(name == node.id for action in source.actions for node in ast.walk(action) if isinstance(node, ast.Name)):
        raise ValueError(f"{module} defines no {name}; it has {', '.join(sorted(source.names))}")
    return frozenset(needs - {(module, name)})


def _references(node: ast.AST, source: _Source) -> Iterator[Symbol]:
    """Symbols that a piece of code names; `losses.kl` counts as `kl` alone where `losses` is a module."""
    if isinstance(node, ast.Attribute) and (symbol := _member(ast.unparse(node), source.imports)):
        yield symbol
        return
    if isinstance(node, ast.Name):
        if node.id in source.names:
            yield source.module, node.id
        elif node.id in source.imports:
            yield source.imports[node.id]
    for child in ast.iter_child_nodes(node):
        yield from _references(child, source)


def _member(dotted: str, imports: dict[str, Symbol]) -> Symbol | None:
    """The definition that `module.name…` means; the whole module where `name` is none of its definitions."""
    for name, (module, kind) in imports.items():
        if kind == WHOLE and dotted.startswith(f"{name}."):
            member = dotted[len(name) + 1 :].split(".")[0]
            return (module, member) if member in _read(module).names else (module, WHOLE)
    return None


@cache
def _text(module: str, name: str) -> str:
    return " ".join(_canonical(statement) for statement in _read(module).statements(name))


def _canonical(node: object) -> str:
    """A piece of the syntax tree without positions, docstrings and what differs between versions of Python."""
    if isinstance(node, list):
        return f"[{', '.join(_canonical(item) for item in node if not _is_text(item))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if name not in SILENT_FIELDS and value not in (None, [])]
    return f"{type(node).__name__}({', '.join(f'{name}={_canonical(value)}' for name, value in fields)})"
