"""Pip users, conda users and the package get one set of pins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ENVIRONMENT = yaml.safe_load((ROOT / "envs/espalier.yaml").read_text())

INSTALLS = "envs/install.py .venv envs/requirements.lock .\n"


def pins(name: str) -> dict[str, str]:
    """Package → version of a lock file."""
    text = (ROOT / f"envs/{name}.lock").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", text, re.MULTILINE))


def test_conda_installs_the_lock_file():
    *packages, pip = ENVIRONMENT["dependencies"]
    assert pip == {"pip": ["-r requirements.lock"]}
    assert [package.split(" ")[0] for package in packages] == ["python", "pip"]
    assert (ROOT / "envs/espalier.yaml").with_name("requirements.lock").is_file()


def test_conda_s_python_is_one_that_the_package_takes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    minimum = project["requires-python"].removeprefix(">=")
    assert f"python ={minimum}" in ENVIRONMENT["dependencies"]


def planned(folder: Path, target: str) -> str:
    """What `make` would do, in a folder with nothing but what it looks at."""
    for name in ("Makefile", "pyproject.toml", "envs/install.py", "envs/requirements.lock", "envs/tools.lock"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return subprocess.run(["make", "-n", target], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("target", ["demo", "test", "lint", "bench"])
def test_make_installs_the_lock_file_once(tmp_path, target):
    assert INSTALLS in planned(tmp_path, target)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/.installed").touch()
    assert INSTALLS not in planned(tmp_path, target)


def test_make_installs_again_when_the_pins_change(tmp_path):
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/.installed").touch()
    os.utime(tmp_path / ".venv/.installed", (0, 0))
    assert INSTALLS in planned(tmp_path, "test")


@pytest.mark.parametrize("name", ["requirements", "tools"])
def test_a_lock_pins_all_that_is_wanted(name):
    wanted = re.findall(r"^([a-z0-9._-]+)", (ROOT / f"envs/{name}.in").read_text(), re.MULTILINE)
    assert wanted and set(wanted) <= pins(name).keys()


def test_the_lock_pins_all_that_the_package_needs():
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.match(r"[a-z0-9-]+", text)[0] for text in dependencies} <= pins("requirements").keys()


@pytest.mark.parametrize("name", ["requirements", "tools"])
def test_a_lock_works_with_the_package_index_alone(name):
    text = (ROOT / f"envs/{name}.lock").read_text()
    assert text.startswith(f"# Compiled from {name}.in by 'make lock'; do not edit.\n")
    assert not re.search(r"^[^#]*\+", text, re.MULTILINE), "local versions are not on the index"
    assert not re.search(r"^\s*(--|-[a-z] )|file://|https?://", text, re.MULTILINE)
