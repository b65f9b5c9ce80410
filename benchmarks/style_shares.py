"""How airy the package is written: comments, blank lines, lengths of functions and docstrings, package by package.

`python -m benchmarks.style_shares` prints a table. `tests/unit/test_style_shares.py` holds its limits. Standard library only.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

PACKAGE = Path(__file__).parents[1] / "workflow/espalier"
TOP = "(top)"
"""Stands for the files that lie in no package."""
LEAST_BODY = 6
"""Bodies with fewer lines need no blank line."""
DIRECTIVE = re.compile(r"#\s*(noqa|type:|fmt:|ruff:|mypy:|pyright:|pragma|isort:|!|-\*-)")
"""Comments that are for a program."""
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function


@dataclass(frozen=True)
class FunctionShape:
    """The size of one function."""

    name: str
    line: int
    length: int
    """Lines from `def` to the end, docstring included, decorators not."""


@dataclass(frozen=True)
class FileShape:
    """What is counted in one file."""

    path: Path
    lines: int
    comments: int
    """Own-line comments for readers."""
    body_lines: int
    """Lines of the bodies with at least `LEAST_BODY` lines, without docstrings; inner functions are part of the outer."""
    body_blanks: int
    """Blank lines among them; blank lines inside texts do not count."""
    functions: tuple[FunctionShape, ...]
    comprehensions: int
    docstrings: tuple[int, ...]
    """Lines of each docstring of the module, its classes and its functions."""


def package_of(path: Path) -> str:
    """Name of the package that a file lies in, at any depth."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else TOP


def package_files() -> list[Path]:
    """All Python files of the package, in order."""
    return sorted(PACKAGE.rglob("*.py"))


def measured(path: Path) -> FileShape:
    """Count one file."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    lines = text.splitlines()
    bodies = [body for body in _bodies(tree) if len(body) >= LEAST_BODY]
    inside_texts = _lines_inside_texts(tree)

    blanks = 0
    for body in bodies:
        blanks += sum(not lines[number - 1].strip() for number in body if number not in inside_texts)

    functions = []
    for node in ast.walk(tree):
        if isinstance(node, Function):
            functions.append(FunctionShape(node.name, node.lineno, _last_line(node) - node.lineno + 1))

    return FileShape(
        path=path,
        lines=len(lines),
        comments=sum(1 for _ in own_line_comments(text)),
        body_lines=sum(map(len, bodies)),
        body_blanks=blanks,
        functions=tuple(functions),
        comprehensions=sum(isinstance(node, COMPREHENSIONS) for node in ast.walk(tree)),
        docstrings=tuple(_docstring_lengths(tree)),
    )


def own_line_comments(text: str) -> Iterator[int]:
    """Line numbers of comments that stand alone on their line and are for readers."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        alone = token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
        if alone and not DIRECTIVE.match(token.string):
            yield token.start[0]


def documentation(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every documentation string: of modules, classes and functions, and below constants and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def _bodies(node: ast.AST) -> Iterator[range]:
    """Line numbers of the body of each function, without docstring and without inner functions as bodies of their own."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Function):
            yield from _bodies(child)
            continue

        statements = child.body[1:] if ast.get_docstring(child) is not None else child.body
        if statements:
            yield range(statements[0].lineno, _last_line(child) + 1)


def _lines_inside_texts(tree: ast.AST) -> set[int]:
    """Line numbers that belong to texts of several lines."""
    numbers: set[int] = set()
    for node in ast.walk(tree):
        text = isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        if text:
            numbers |= set(range(node.lineno, _last_line(node)))
    return numbers


def _docstring_lengths(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, Documented) and ast.get_docstring(node) is not None:
            first = node.body[0]
            yield _last_line(first) - first.lineno + 1


def _last_line(node: ast.stmt | ast.expr) -> int:
    return node.end_lineno or node.lineno


def percentile(values: Sequence[int], fraction: float) -> int:
    """The smallest value that at least this fraction of the values do not exceed; 0 of nothing."""
    if not values:
        return 0

    # The rank is fraction x count, rounded up; floor division of the negated product rounds up.
    ordered = sorted(values)
    rank = int(-(-fraction * len(ordered) // 1))
    return ordered[max(rank, 1) - 1]


@dataclass(frozen=True)
class Shares:
    """What a set of files adds up to."""

    files: tuple[FileShape, ...]

    @property
    def lines(self) -> int:
        """Lines of all files, blank ones included."""
        return sum(file.lines for file in self.files)

    @property
    def comments(self) -> float:
        """Own-line comments in per cent of lines."""
        return _ratio(100 * sum(file.comments for file in self.files), self.lines)

    @property
    def blanks(self) -> float:
        """Blank lines in per cent of the lines of bodies that have at least `LEAST_BODY` lines."""
        return _ratio(100 * sum(file.body_blanks for file in self.files), sum(file.body_lines for file in self.files))

    @property
    def lengths(self) -> list[int]:
        """Lines of each function."""
        return [function.length for file in self.files for function in file.functions]

    @property
    def comprehensions(self) -> float:
        """Comprehensions per 1,000 lines."""
        return _ratio(1000 * sum(file.comprehensions for file in self.files), self.lines)

    @property
    def docstring(self) -> float:
        """Median number of lines of a docstring; 0 of nothing."""
        lengths = [length for file in self.files for length in file.docstrings]
        return float(median(lengths)) if lengths else 0.0


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def shares_by_package(files: Iterable[FileShape]) -> dict[str, Shares]:
    """Package → its shares, in alphabetical order."""
    members: dict[str, list[FileShape]] = {}
    for file in files:
        members.setdefault(package_of(file.path), []).append(file)
    return {package: Shares(tuple(members[package])) for package in sorted(members)}


HEADER = f"{'package':<12}{'files':>6}{'lines':>7}{'comments %':>12}{'blank %':>9}{'function median/p90/max':>25}"
HEADER += f"{'comprehensions/1000':>21}{'docstring':>11}"


def row(name: str, shares: Shares) -> str:
    """One line of the table."""
    lengths = shares.lengths
    middle = median(lengths) if lengths else 0
    sizes = f"{middle:g} / {percentile(lengths, 0.9)} / {max(lengths, default=0)}"

    text = f"{name:<12}{len(shares.files):>6}{shares.lines:>7}{shares.comments:>12.1f}{shares.blanks:>9.1f}{sizes:>25}"
    return text + f"{shares.comprehensions:>21.1f}{shares.docstring:>11g}"


def main() -> None:
    """Print the table, a line for each package and one for all."""
    files = [measured(path) for path in package_files()]

    print(HEADER)
    for package, shares in shares_by_package(files).items():
        print(row(package, shares))
    print(row("all", Shares(tuple(files))))


if __name__ == "__main__":
    main()
