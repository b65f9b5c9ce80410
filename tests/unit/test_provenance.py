"""A digest follows the code that a job uses, and nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from espalier.provenance import code_digest as provenance
from espalier.provenance.code_digest import code_digest, work_folder
from espalier.provenance.job_environment import run_this_clone

ENTRY = ("espalier.stages.train", "espalier.methods.first:First")
PACKAGE = {
    "__init__.py": "",
    "core/__init__.py": "",
    "core/losses.py": '''
"""Losses."""
import math
SCALE = 2.0
def used(x: "Tensor") -> float:
    """What it is."""
    return SCALE * helper(x)
def helper(x):
    return math.sqrt(x)
def unused(x):
    return 0.0
''',
    "core/base.py": '''
class Base:
    limit: int = 3
    """What it is."""
class Other:
    pass
def mark(cls):
    return cls
DEFAULT = 1
def lonely(): ...
''',
    "config/__init__.py": "",
    "config/methods/__init__.py": 'METHODS = {"first": "espalier.methods.first:First"}\n',
    "methods/__init__.py": "",
    "methods/first.py": """
from __future__ import annotations
from typing import TYPE_CHECKING
from espalier.core import losses
from espalier.core.base import DEFAULT, Base, mark
if TYPE_CHECKING:
    from espalier.core.base import Other
@mark
class First(Base):
    def loss(self, x: Other, y=DEFAULT):
        return losses.used(x)
""",
    "stages/__init__.py": "",
    "stages/train.py": """
import espalier.core.tables
from espalier.config.methods import METHODS
def run(spec):
    return METHODS[spec], espalier.core.tables.ROWS
""",
    "core/tables.py": "ROWS, COLUMNS = 1, 2\nREGISTER = {}\nREGISTER['a'] = ROWS\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package in place of the real one; call it with changed files for the digest."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setattr(provenance, "PACKAGE", "espalier")

    def digest(changes: Mapping[str, str] | None = None, entries: tuple[str, ...] = ENTRY) -> str:
        for name, text in (PACKAGE | dict(changes or {})).items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        forget()
        return code_digest(*entries)

    yield digest
    forget()


def forget() -> None:
    for cached in (code_digest, provenance._source_of, provenance._needs, provenance._canonical_text):
        cached.cache_clear()


def edited(file: str, old: str, new: str) -> dict[str, str]:
    assert old in PACKAGE[file]
    return {file: PACKAGE[file].replace(old, new)}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("core/losses.py", '"""Losses."""', '"""Other words."""'),
        ("core/losses.py", '    """What it is."""\n', ""),
        ("core/losses.py", "return SCALE * helper(x)", "return (SCALE\n        * helper( x ))  # a remark"),
        ("core/losses.py", "return 0.0", "return 1.0"),
        ("core/losses.py", "import math\n", "import math\nimport json\n"),
        ("core/base.py", '    """What it is."""\n', ""),
        ("core/base.py", "def lonely(): ...", "def lonely(): return 1"),
        ("core/tables.py", "REGISTER = {}", "REGISTER = {}\nMORE = 1"),
        ("config/methods/__init__.py", "METHODS = {", 'METHODS = {"second": "espalier.methods.second:Second", '),
        ("methods/first.py", "@mark\n", "def nobody(): ...\n@mark\n"),
        ("methods/first.py", "import Other", "import Other, DEFAULT"),
    ],
)
def test_what_the_job_does_not_use_does_not_count(package, file, old, new):
    assert package(edited(file, old, new)) == package()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("core/losses.py", "SCALE * helper", "SCALE + helper", id="member of an imported module"),
        pytest.param("core/losses.py", "math.sqrt", "math.exp", id="what that calls"),
        pytest.param("core/losses.py", "SCALE = 2.0", "SCALE = 3.0", id="a constant"),
        pytest.param("core/base.py", "limit: int = 3", "limit: int = 4", id="base class"),
        pytest.param("core/base.py", "return cls", "return None", id="decorator"),
        pytest.param("core/base.py", "DEFAULT = 1", "DEFAULT = 2", id="default argument"),
        pytest.param("core/base.py", "class Other:\n    pass", "class Other:\n    x = 1", id="annotation"),
        pytest.param("core/tables.py", "1, 2", "1, 3", id="dotted module, tuple assignment"),
        pytest.param("core/tables.py", "['a'] = ROWS", "['b'] = ROWS", id="statement that acts on import"),
        pytest.param("core/base.py", "DEFAULT = 1", "DEFAULT = 1\nprint(1)", id="new statement that acts on import"),
        pytest.param("stages/train.py", "METHODS[spec]", "METHODS[spec.lower()]", id="whole module"),
    ],
)
def test_what_the_job_uses_counts(package, file, old, new):
    assert package(edited(file, old, new)) != package()


def test_a_module_used_as_a_value_counts_whole(package):
    whole = edited("methods/first.py", "losses.used(x)", "vars(losses)")
    assert package(whole | edited("core/losses.py", "return 0.0", "return 1.0")) != package(whole)


def test_a_name_that_a_package_passes_on_is_followed(package):
    passed_on = {"core/__init__.py": "from espalier.core.losses import used\n"}
    through = edited("methods/first.py", "from espalier.core import losses", "from espalier.core import used as losses")
    changed = edited("core/losses.py", "SCALE = 2.0", "SCALE = 3.0")
    assert package(passed_on | through | changed) != package(passed_on | through)


def test_a_name_bound_in_a_block_is_known(package):
    package(edited("core/base.py", "DEFAULT = 1", "try:\n    DEFAULT = 1\nexcept ImportError:\n    DEFAULT = 2"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("from .other import x\nclass First: ...", "espalier.methods.first, line 1: relative and star imports hide"),
        (
            "from espalier.core.base import *\nclass First: ...",
            "espalier.methods.first, line 1: relative and star imports hide",
        ),
        ("from espalier.core.base import Gone\nclass First(Gone): ...", "espalier.core.base defines no Gone; it has Base"),
        ("class Last: ...", "espalier.methods.first defines no First; it has Last"),
        ("import espalier.gone\nclass First: ...", "espalier.gone: no such module"),
    ],
)
def test_what_leads_nowhere_is_named(package, source, message):
    with pytest.raises(ValueError, match=message):
        package({"methods/first.py": source})


def test_a_moved_module_runs_nothing_again(package, tmp_path):
    before = package()
    moved = {name: text.replace("espalier.core", "espalier.ground") for name, text in PACKAGE.items()}
    moved |= {name.replace("core/", "ground/"): moved.pop(name) for name in list(moved) if name.startswith("core/")}
    (tmp_path / "core").rename(tmp_path / "old")
    assert package({**moved, **{name: "" for name in PACKAGE if name.startswith("core/")}}) == before


def test_a_moved_definition_runs_nothing_again(package):
    body = "def helper(x):\n    return math.sqrt(x)\n"
    imported = "from espalier.core.roots import helper"
    losses = PACKAGE["core/losses.py"].replace(body, "").replace("import math", imported)
    assert package({"core/roots.py": f"import math\n{body}", "core/losses.py": losses}) == package()


def test_a_module_that_is_imported_by_its_path_may_move(package):
    by_path = {"__init__.py": "import importlib\nimportlib.import_module('espalier.core.base')\n"}
    moved = {"__init__.py": "import importlib\nimportlib.import_module('espalier.methods.base')\n"}
    assert package(by_path) == package(moved | {"methods/base.py": ""}) != package()


def test_another_definition_of_the_same_name_counts(package):
    """Both definitions are part of the digest, before and after; which of them each method of the class uses is not."""
    source = """
from espalier.core import {other} as other
from espalier.core.{own} import helper
class First:
    def loss(self, x):
        return helper(x), other.helper(x)
class Unused: ...
"""
    defined = {"core/one.py": "def helper(x):\n    return 1\n", "core/two.py": "def helper(x):\n    return called(2)\n"}
    defined["core/two.py"] += "def called(x):\n    return x\n"
    one = defined | {"methods/first.py": source.format(own="one", other="one")}
    two = defined | {"methods/first.py": source.format(own="two", other="two")}
    keeping_both = ("espalier.stages.train", "espalier.methods.first:First", "espalier.core.one", "espalier.core.two")
    assert package(one, keeping_both) != package(two, keeping_both)


def test_a_template_counts_by_its_bytes(package, tmp_path):
    (tmp_path / "page.html").write_text("a")
    before = package(entries=("espalier.stages.train", "file:page.html"))
    (tmp_path / "page.html").write_text("b")
    assert package(entries=("espalier.stages.train", "file:page.html")) != before


def test_the_order_of_entries_does_not_matter(package):
    assert package(entries=ENTRY) == package(entries=ENTRY[::-1])


def test_work_folders_differ_with_every_part():
    folders = {work_folder(*parts) for parts in (("a", "b", "c"), ("a", "bc"), ("a", "b", "d"), ("b", "b", "c"))}
    assert len(folders) == 4
    assert work_folder("compress", "x") == work_folder("compress", "x")
    assert work_folder("compress", "x").startswith("work/compress/")


def test_jobs_run_this_package_with_this_interpreter(monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    for _ in range(2):
        run_this_clone()
    assert os.environ["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]
    assert os.environ["PYTHONPATH"] == str(provenance.ROOT.parent)
