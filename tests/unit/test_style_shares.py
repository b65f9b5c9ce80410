"""The package is written with air: comments where reasons are, steps apart, short functions, docstrings in plain English."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from benchmarks.style_shares import (
    PACKAGE,
    Shares,
    documentation,
    measured,
    own_line_comments,
    package_files,
    package_of,
    percentile,
    row,
    shares_by_package,
)

FILES = [measured(path) for path in package_files()]
PACKAGES = shares_by_package(FILES)
COMMENTED = ("methods", "pruning", "training")
LEAST_COMMENTS = 4.0
LEAST_BLANKS = 6.0
LONGEST_FILE = 450
LONGEST_FUNCTION = 40
LARGEST_P90 = 25
RIDDLES = ("The same", "Of ", "That of", "Those")
"""Beginnings of docstrings whose noun the reader has to guess."""
EMPTY_NAMES = {"found", "each"}
"""Names of variables that say nothing of what they hold."""
SAMPLE = '''"""A module."""
# noqa: E501
X = 1  # beside code
"""Of nothing."""


def short():
    # one reason
    return [each for each in ()]


def long(found):
    """A docstring

    with a blank line.
    """
    text = """a

    b"""

    for each in text:
        print(each)
        # type: ignore
    return text
'''


@pytest.fixture
def sample(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.style_shares.PACKAGE", tmp_path)
    path = tmp_path / "package/module.py"
    path.parent.mkdir()
    path.write_text(SAMPLE)
    return path


def test_what_is_counted(sample: Path):
    shape = measured(sample)
    assert package_of(sample) == "package"
    assert list(own_line_comments(SAMPLE)) == [8], "neither directives nor comments beside code"
    assert (shape.lines, shape.comments, shape.comprehensions) == (24, 1, 1)
    assert (shape.body_lines, shape.body_blanks) == (8, 1), "the blank line between steps, not those inside texts"
    assert [function.length for function in shape.functions] == [3, 13]
    assert shape.docstrings == (1, 4)
    assert [line for line, text in documentation(ast.parse(SAMPLE)) if text.startswith(RIDDLES)] == [4]
    expected = "package 1 24 4.2 12.5 8 / 13 / 13 41.7 2.5"
    assert row("package", Shares((shape,))).split() == expected.split()


@pytest.mark.parametrize(("values", "expected"), [([], 0), ([7], 7), (list(range(1, 11)), 9), (list(range(1, 12)), 10)])
def test_the_ninetieth_percentile(values, expected):
    assert percentile(values, 0.9) == expected


@pytest.mark.parametrize("package", COMMENTED)
def test_reasons_and_formulas_have_comments(package: str):
    assert PACKAGES[package].comments >= LEAST_COMMENTS


def test_steps_of_functions_are_apart():
    shares = Shares(tuple(FILES))
    low = {name: round(package.blanks, 1) for name, package in PACKAGES.items() if package.blanks < LEAST_BLANKS}
    assert shares.blanks >= LEAST_BLANKS, f"packages below: {low}"


def test_functions_are_short():
    long = [
        f"{file.path.relative_to(PACKAGE)}:{function.line} {function.name}: {function.length} lines"
        for file in FILES
        for function in file.functions
        if function.length > LONGEST_FUNCTION
    ]
    assert not long, "\n".join(long)
    assert percentile(Shares(tuple(FILES)).lengths, 0.9) <= LARGEST_P90


def test_files_are_short():
    assert not [f"{file.path.relative_to(PACKAGE)}: {file.lines}" for file in FILES if file.lines > LONGEST_FILE]


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_say_their_noun(package: str):
    riddles = []
    for file in PACKAGES[package].files:
        for line, text in documentation(ast.parse(file.path.read_text())):
            if text.startswith(RIDDLES):
                riddles.append(f"{file.path.relative_to(PACKAGE)}:{line} {text.splitlines()[0]}")
    assert not riddles, "\n".join(riddles)


@pytest.mark.parametrize("package", PACKAGES)
def test_variables_are_named(package: str):
    nameless = []
    for file in PACKAGES[package].files:
        for node in ast.walk(ast.parse(file.path.read_text())):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in EMPTY_NAMES:
                nameless.append(f"{file.path.relative_to(PACKAGE)}:{node.lineno} {node.id}")
    assert not nameless, "\n".join(nameless)
