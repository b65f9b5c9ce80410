"""What code a job depends on, as one digest, symbol by symbol.

A digest covers the definitions that a stage and its method reach: functions, classes and constants of this package,
through names and imports, bases, decorators, defaults and annotations. Editing one loss therefore concerns only the
methods that use it. Comments, docstrings and layout never count; statements that act when a module is imported always
do. Where a definition stands does not count either: moving it to another module runs nothing again.

Standard library only: the Snakefile imports this.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT.name
Symbol = tuple[str, str]
"""Module and top-level name, or WHOLE, or ACTIONS."""
WHOLE = "*"
ACTIONS = ""
"""The statements of a module that act when it is imported."""
LEFT_OUT = frozenset((f"{PACKAGE}.config.methods", table) for table in ("METHODS", "AnyPlan"))
"""Tables that name every method or every settings class. A job's own method is an entry of its digest, and names its own
settings class, so the others must not count."""
SILENT_FIELDS = frozenset({"type_params", "type_comment", "kind", "ctx"})
"""Fields of the syntax tree that mean nothing here or differ between versions of Python."""


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
    files = [ROOT / entry.removeprefix("file:") for entry in entries if entry.startswith("file:")]
    symbols = [_symbol(entry) for entry in entries if not entry.startswith("file:")]

    contents = [f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]
    lines = {_line(symbol) for symbol in reached(*symbols) if _text(*symbol)}
    return _sha256(*sorted(contents), *sorted(lines))


def reached(*symbols: Symbol) -> set[Symbol]:
    """The symbols and everything that they need, one after another until nothing new turns up."""
    found: set[Symbol] = set()
    todo = list(symbols)
    while todo:
        symbol = todo.pop()
        if symbol not in found and _counts(symbol):
            found.add(symbol)
            todo += _needs(*symbol)
    return found


def _line(symbol: Symbol) -> str:
    """One definition's share of a digest: its name, its text, and which definitions its names mean.

    Two modules may define the same name. The digests of the texts that this one needs tell them apart, so that importing
    the other one counts as a change although no module's path is part of the digest.
    """
    module, name = symbol
    needed = [_text(*other) for other in _needs(module, name) if _counts(other)]
    return " ".join([name, _text(module, name), *sorted(_sha256(text) for text in needed if text)])


def _counts(symbol: Symbol) -> bool:
    """Whether a job's result can depend on a symbol: not on the registry of methods, and not on this file."""
    return symbol not in LEFT_OUT and symbol[0] != __name__


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
    # where a module lies does not count, whether it is named in a text ("module:Class") or in full in the code
    if isinstance(node, str) and _ours(node) and _file(node.partition(":")[0]):
        return repr(node.rpartition(".")[2])
    if isinstance(node, ast.Attribute) and _ours(ast.unparse(node)) and _file(ast.unparse(node)):
        return node.attr
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if name not in SILENT_FIELDS and value not in (None, [])]
    return f"{type(node).__name__}({', '.join(f'{name}={_canonical(value)}' for name, value in fields)})"
