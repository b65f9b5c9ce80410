"""Install a lock file into a virtual environment: `python3 envs/install.py FOLDER LOCK [PROJECT]`.

uv does the work, which takes a fraction of pip's time; it comes from the package index, into the environment itself. Where
uv cannot be had or fails, pip does the work.

uv reads neither pip's configuration files nor pip's environment variables. Without them it would miss local indexes and
folders of wheels, and bring the CUDA build of torch to a machine whose folder has the CPU build. So this script asks pip for
its settings and tells them to uv. Settings made for uv itself (UV_INDEX …) win.

Dependencies are always resolved: the CUDA build of torch needs packages that a lock compiled on a CPU does not name.

Standard library only: this script runs before anything is installed.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

UV = "uv==0.13.9"
BYTECODE = ("--compile-bytecode",)
"""As pip does. Else every job compiles thousands of modules where PYTHONDONTWRITEBYTECODE is set, as in many containers."""
SECTIONS = ("global.", "install.", ":env:.")
"""Sections of pip's settings, weakest first."""


def pip_settings(listing: str) -> dict[str, str]:
    """Read the output of `pip config list`; where sections differ, `pip install` takes the last of SECTIONS."""
    settings: dict[str, str] = {}

    for section in SECTIONS:
        for line in listing.splitlines():
            key, _, value = line.partition("=")
            if key.startswith(section):
                settings[key.removeprefix(section)] = str(ast.literal_eval(value))

    return settings


def uv_arguments(settings: Mapping[str, str]) -> list[str]:
    """Options of `uv pip install` that say what pip was told about folders, hosts and constraints."""
    options = {"find-links": "--find-links", "constraint": "--constraints", "trusted-host": "--allow-insecure-host"}
    arguments = [word for key, option in options.items() for value in settings.get(key, "").split() for word in (option, value)]

    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        arguments.append("--no-index")

    # pip takes the best version of all indexes; uv alone stops at the first index that has the package.
    return [*arguments, "--index-strategy", "unsafe-best-match"]


def uv_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Variables for uv. Addresses of indexes are among them because they may hold a password, which `ps` would show."""
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "cert": "SSL_CERT_FILE",
        "default-timeout": "UV_HTTP_TIMEOUT",
        "timeout": "UV_HTTP_TIMEOUT",
        "proxy": "ALL_PROXY",
    }
    return {names[key]: " ".join(value.split()) for key, value in settings.items() if key in names}


def run(command: Sequence[object], environment: Mapping[str, str] | None = None) -> bool:
    """Run a command quietly. When it fails, print the end of what it said."""
    result = subprocess.run(
        [str(word) for word in command],
        env={**(environment or {}), **os.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        print(result.stdout[-4000:], file=sys.stderr, flush=True)
    return result.returncode == 0


def installers(python: Path) -> Iterator[tuple[str, list[object], dict[str, str]]]:
    """Name, command and variables of what can install: uv where it can be had, then pip."""
    pip = [python, "-m", "pip"]

    if run([*pip, "install", "--quiet", UV]):
        listing = subprocess.run([*pip, "config", "list"], stdout=subprocess.PIPE, text=True, check=True).stdout
        settings = pip_settings(listing)
        command = [python, "-m", "uv", "pip", "install", "--quiet", *BYTECODE, "--python", python, *uv_arguments(settings)]
        yield "uv", command, uv_environment(settings)

    yield "pip", [*pip, "install", "--quiet"], {}


def install(folder: Path, lock: Path, project: Path | None) -> bool:
    """Install the lock, then the project in editable form; mark the folder when both are there."""
    python = folder / "bin/python"
    mark = folder / ".installed"
    mark.unlink(missing_ok=True)
    if not python.exists() and not run([sys.executable, "-m", "venv", folder]):
        return False

    for name, command, environment in installers(python):
        print(f"{folder}: {name} installs {lock} …", flush=True)
        began = time.monotonic()

        done = run([*command, "-r", lock], environment)
        if done and project:
            done = run([*command, "--no-deps", "--editable", project], environment)

        if done:
            mark.touch()
            print(f"{folder}: installed in {time.monotonic() - began:.0f} s", flush=True)
            return True

    return False


def main(arguments: list[str]) -> int:
    """Status 0 when all is installed, 1 when not, 2 for wrong arguments."""
    if not 2 <= len(arguments) <= 3:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    folder, lock, *project = map(Path, arguments)
    return 0 if install(folder, lock, project[0] if project else None) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
