"""A digest of the code that a job depends on, definition by definition.

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
"""A module, and one of its top-level names, WHOLE_MODULE or ACTIONS."""
WHOLE_MODULE = "*"
ACTIONS = ""
"""The statements of a module that act when it is imported."""
NOT_FOLLOWED = frozenset(
    {
        (f"{PACKAGE}.config.methods", "METHODS"),
        (f"{PACKAGE}.config.methods", "AnyPlan"),
        (f"{PACKAGE}.config.kinds", "KINDS"),
    }
)
"""Tables that name every method, every settings class or every kind of task. A job's own method and kind of task are entries of
its digest, and the method names its own settings class, so the others must not count."""
SILENT_FIELDS = frozenset({"type_params", "type_comment", "kind", "ctx"})
"""Fields of the syntax tree that mean nothing here or differ between versions of Python."""


def work_folder(stage: str, *parts: str) -> str:
    """Folder for the checkpoints of one run, outside all outputs; different `parts` give different folders."""
    return f"work/{stage}/{_sha256(*parts)[:20]}"


@cache
def package_digest() -> str:
    """SHA-256 of all files of the package: two jobs with the same one ran the same code, whatever part of it they used."""
    files = (path for path in sorted(ROOT.rglob("*")) if path.is_file() and path.suffix != ".pyc")
    return _sha256(*(f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files))


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
    symbols = [_parse_entry(entry) for entry in entries if not entry.startswith("file:")]

    contents = [f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]
    lines = {_digest_line(symbol) for symbol in reached(*symbols) if _canonical_text(*symbol)}
    return _sha256(*sorted(contents), *sorted(lines))


def reached(*symbols: Symbol) -> set[Symbol]:
    """The symbols and everything that they need, directly or through other symbols."""
    visited: set[Symbol] = set()
    todo = list(symbols)
    while todo:
        symbol = todo.pop()
        if symbol not in visited and _counts_for_digest(symbol):
            visited.add(symbol)
            todo += _needs(*symbol)
    return visited


def _digest_line(symbol: Symbol) -> str:
    """One definition's line in a digest: its name, its text, and the digests of the texts that it needs.

    Two modules may define the same name. The digests of the texts that this one needs tell them apart, so that importing
    the other one counts as a change although no module's path is part of the digest.
    """
    module, name = symbol
    needed = [_canonical_text(*other) for other in _needs(module, name) if _counts_for_digest(other)]
    return " ".join([name, _canonical_text(module, name), *sorted(_sha256(text) for text in needed if text)])


def _counts_for_digest(symbol: Symbol) -> bool:
    """Whether a job's result can depend on a symbol: not on the tables of names, and not on this file."""
    return symbol not in NOT_FOLLOWED and symbol[0] != __name__


def _sha256(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _parse_entry(entry: str) -> Symbol:
    module, _, name = entry.partition(":")
    return module, name or WHOLE_MODULE


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
                for alias in node.names:
                    if _ours(alias.name):
                        self.imports[alias.asname or alias.name] = (alias.name, WHOLE_MODULE)
            elif isinstance(node, ast.ImportFrom) and (node.level or _ours(str(node.module))):
                self._import_from(node)

    def _import_from(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if node.level or alias.name == "*":
                raise ValueError(f"{self.module}, line {node.lineno}: relative and star imports hide what code a job uses")
            submodule = f"{node.module}.{alias.name}"
            symbol = (submodule, WHOLE_MODULE) if _module_file(submodule) else (str(node.module), alias.name)
            self.imports[alias.asname or alias.name] = symbol

    def statements(self, name: str) -> list[ast.stmt]:
        """The code of one name, or of the actions. A whole module has no code here: it needs each of its names instead."""
        return self.actions if name == ACTIONS else self.names.get(name, [])


@cache
def _source_of(module: str) -> _Source:
    file = _module_file(module) if _ours(module) else None
    if file is None:
        raise ValueError(f"{module}: no such module in {ROOT}")
    return _Source(module, ast.parse(file.read_text(encoding="utf-8"), filename=str(file)))


def _ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE


def _module_file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split(".")[1:])
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _defines(statement: ast.stmt) -> list[str]:
    """Names that a definition or a plain assignment binds; none for other statements.

    Setting an attribute or an item binds no name: it acts when the module is imported.
    """
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return []

    targets: list[ast.expr] = []
    for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
        targets += target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return names if len(names) == len(targets) else []


def _acts(statement: ast.stmt) -> bool:
    """Whether a statement does something when its module is imported.

    Imports, docstrings, `if TYPE_CHECKING:` around imports and `if __name__ == "__main__":` do nothing then.
    """
    if isinstance(statement, ast.If) and "__main__" in ast.dump(statement.test):
        return False

    parts = [*statement.body, *statement.orelse] if isinstance(statement, ast.If) else [statement]
    return not all(isinstance(part, ast.Import | ast.ImportFrom) or _is_text(part) for part in parts)


def _is_text(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@cache
def _needs(module: str, name: str) -> frozenset[Symbol]:
    """Symbols that one symbol names, and the actions of its module, of its parent packages and of all imported modules."""
    source = _source_of(module)
    parents = [module.rsplit(".", depth)[0] for depth in range(1, module.count(".") + 1)]
    imported = [other for other, _ in source.imports.values()]
    needs = {(other, ACTIONS) for other in (module, *parents, *imported)}

    if name == WHOLE_MODULE:
        needs |= {(module, own) for own in source.names}
    elif name in source.names or name == ACTIONS:
        for statement in source.statements(name):
            needs |= set(_references(statement, source))
    elif name in source.imports:
        needs.add(source.imports[name])
    elif not _bound_by_action(name, source):
        raise ValueError(f"{module} defines no {name}; it has {', '.join(sorted(source.names))}")

    return frozenset(needs - {(module, name)})


def _bound_by_action(name: str, source: _Source) -> bool:
    """Whether a statement that acts on import, such as a loop or a `with` block, names it."""
    return any(isinstance(node, ast.Name) and node.id == name for action in source.actions for node in ast.walk(action))


def _references(node: ast.AST, source: _Source) -> Iterator[Symbol]:
    """Symbols that a piece of code names."""
    # where `losses` is a module, `losses.kl` is a reference to `kl` alone and not to all of `losses`
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
    """The definition that `module.name…` refers to; the whole module where `name` is none of its definitions."""
    for name, (module, kind) in imports.items():
        if kind == WHOLE_MODULE and dotted.startswith(f"{name}."):
            member = dotted[len(name) + 1 :].split(".")[0]
            return (module, member) if member in _source_of(module).names else (module, WHOLE_MODULE)
    return None


@cache
def _canonical_text(module: str, name: str) -> str:
    return " ".join(_canonical(statement) for statement in _source_of(module).statements(name))


def _canonical(node: object) -> str:
    """A piece of the syntax tree as text, without positions, docstrings and fields that differ between versions of Python."""
    if isinstance(node, list):
        return f"[{', '.join(_canonical(item) for item in node if not _is_text(item))}]"

    # where a module lies does not count, whether it is named in a text ("module:Class") or in full in the code
    if isinstance(node, str) and _ours(node) and _module_file(node.partition(":")[0]):
        return repr(node.rpartition(".")[2])
    if isinstance(node, ast.Attribute) and _ours(ast.unparse(node)) and _module_file(ast.unparse(node)):
        return node.attr

    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if name not in SILENT_FIELDS and value not in (None, [])]
    return f"{type(node).__name__}({', '.join(f'{name}={_canonical(value)}' for name, value in fields)})"
