"""envs/install.py: what pip is told reaches uv; pip installs where uv cannot; a failure leaves no mark."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.util import cache_from_source, find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("install", ROOT / "envs/install.py")
script = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)

LISTING = r"""
:env:.find-links='/opt/wheels'
:env:.default-timeout='180'
global.cert='/etc/ssl/certs/ca-certificates.crt'
global.constraint='/etc/constraints.txt'
global.extra-index-url='file:///opt/one/simple\nfile:///opt/two/simple'
global.find-links='/elsewhere'
global.index-url='https://global.example/simple'
install.index-url='https://name:secret@install.example/simple'
install.trusted-host='install.example'
freeze.index-url='https://not.for.install/simple'
"""


def test_the_strongest_section_of_pip_s_settings_wins():
    settings = script.pip_settings(LISTING)
    assert settings["find-links"] == "/opt/wheels", "environment over file"
    assert settings["index-url"] == "https://name:secret@install.example/simple", "install over global"
    assert settings["extra-index-url"].split() == ["file:///opt/one/simple", "file:///opt/two/simple"]


def test_uv_is_told_what_pip_is_told():
    settings = script.pip_settings(LISTING)
    assert script.uv_arguments(settings) == [
        *("--find-links", "/opt/wheels"),
        *("--constraints", "/etc/constraints.txt"),
        *("--allow-insecure-host", "install.example"),
        *("--index-strategy", "unsafe-best-match"),
    ]
    assert script.uv_environment(settings) == {
        "UV_DEFAULT_INDEX": "https://name:secret@install.example/simple",
        "UV_INDEX": "file:///opt/one/simple file:///opt/two/simple",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
        "UV_HTTP_TIMEOUT": "180",
    }


@pytest.mark.parametrize(("value", "told"), [("1", True), ("true", True), ("0", False), ("false", False)])
def test_no_index(value, told):
    assert ("--no-index" in script.uv_arguments({"no-index": value})) == told


def test_pip_that_was_told_nothing_tells_uv_nothing():
    assert script.uv_arguments({}) == ["--index-strategy", "unsafe-best-match"]
    assert script.uv_environment({}) == {}


class Machine:
    """Records commands instead of running them; those that contain a word of `failing` fail."""

    def __init__(self, *failing: str) -> None:
        self.failing = failing
        self.commands: list[str] = []

    def __call__(self, command, environment=None) -> bool:
        self.commands.append(" ".join(map(str, command)))
        return not any(word in self.commands[-1] for word in self.failing)


def installed(monkeypatch, folder: Path, machine: Machine) -> bool:
    """Run the script's main function with a machine in place of real commands."""
    (folder / "bin").mkdir(exist_ok=True)
    if not (folder / "bin/python").exists():
        (folder / "bin/python").symlink_to(sys.executable)
    monkeypatch.setattr(script, "run", machine)
    status = script.main([str(folder), "envs/requirements.lock", "."])
    assert (folder / ".installed").exists() == (status == 0)
    return status == 0


def test_uv_installs_the_lock_and_then_the_project(monkeypatch, tmp_path, capsys):
    machine = Machine()
    assert installed(monkeypatch, tmp_path, machine)
    get_uv, lock, project = machine.commands
    assert get_uv.endswith(f"-m pip install --quiet {script.UV}")
    assert " -m uv pip install --quiet --compile-bytecode " in lock and lock.endswith("-r envs/requirements.lock")
    assert "--no-deps" not in lock, "the CUDA build of torch needs packages that the lock does not name"
    assert " -m uv pip install " in project and project.endswith("--no-deps --editable .")
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("failing", ["uv==", "-m uv"], ids=["uv cannot be had", "uv fails"])
def test_pip_installs_where_uv_does_not(monkeypatch, tmp_path, failing):
    machine = Machine(failing)
    assert installed(monkeypatch, tmp_path, machine)
    assert machine.commands[-2].endswith("-m pip install --quiet -r envs/requirements.lock")
    assert machine.commands[-1].endswith("-m pip install --quiet --no-deps --editable .")


@pytest.mark.parametrize("failing", ["-r envs", "--editable"])
def test_a_failure_leaves_no_mark(monkeypatch, tmp_path, failing):
    (tmp_path / ".installed").touch()
    assert not installed(monkeypatch, tmp_path, Machine(failing))


def test_a_failing_command_says_why_and_a_working_one_says_nothing(capsys):
    assert script.run([sys.executable, "-c", "print('200 warnings')"])
    assert capsys.readouterr() == ("", "")
    assert not script.run([sys.executable, "-c", "print('no space left'); exit(1)"])
    assert capsys.readouterr().err == "no space left\n\n"


def test_settings_made_for_uv_itself_win(monkeypatch):
    monkeypatch.setenv("UV_INDEX", "mine")
    check = "import os; exit(os.environ['UV_INDEX'] != 'mine' or os.environ['UV_DEFAULT_INDEX'] != 'told')"
    assert script.run([sys.executable, "-c", check], {"UV_INDEX": "told", "UV_DEFAULT_INDEX": "told"})
    assert os.environ["UV_INDEX"] == "mine"


@pytest.mark.parametrize("package", ["snakemake", "torch", "transformers"])
def test_no_job_has_to_compile_what_is_installed(package):
    """Where PYTHONDONTWRITEBYTECODE is set, a stage would compile some 3,000 modules at each start."""
    assert Path(cache_from_source(find_spec(package).origin)).is_file()
