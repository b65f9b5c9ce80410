"""docs/architecture.md: packages, the files of a batch's walk, and the methods' contract are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from espalier.methods.base import Method
from tests.unit.test_import_order import LARGEST_FOLDER, ORDER, PACKAGE

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/architecture.md").read_text()
MOST_FILES = 30
"""Files that the walk of one batch may name."""
FILE = re.compile(r"`((?:[\w.-]+/)*(?:[\w.-]+\.(?:py|smk)|config\.yaml|Snakefile))`")
"""A source file in backticks; outputs of jobs, such as table.csv, are no sources."""


def section(title: str) -> str:
    """A section of the page without its heading."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"docs/architecture.md has no section '{title}'"
    return found[1]


def first_cells(title: str) -> list[list[str]]:
    """The names in backticks in the first column of a section's table, row by row."""
    rows = re.findall(r"^\| (`[^|]*) \|", section(title), re.MULTILINE)
    return [re.findall(r"`([^`]+)`", row) for row in rows]


def test_packages_stand_in_their_import_order():
    order = [sorted(packages) for packages in ORDER if packages != {"__main__"}]
    assert [sorted(names) for names in first_cells("The packages, from the ground up")] == order


def test_places_around_the_package_exist():
    for names in first_cells("Around the package"):
        for name in names:
            assert (ROOT / name).exists(), f"docs/architecture.md names {name}, which is not there"


def walk() -> list[str]:
    return list(dict.fromkeys(FILE.findall(section("The walk of one batch"))))


def test_the_walk_of_one_batch_is_short():
    files = walk()
    assert {"config.yaml", "training/loop.py", "report/page.py"} <= set(files)
    assert len(files) <= MOST_FILES, f"{len(files)} files"


@pytest.mark.parametrize("name", walk())
def test_a_file_of_the_walk_exists(name):
    assert (ROOT / name).is_file() or (PACKAGE / name).is_file()


def test_the_contract_names_the_members_of_method():
    calls = [name for names in first_cells("What a method must do") for name in names]
    assert len(calls) >= 10
    assert [name for name in calls if not callable(getattr(Method, name, None))] == []


def test_the_largest_folder_is_the_tested_one():
    assert f"No folder holds more than {LARGEST_FOLDER} modules." in TEXT
