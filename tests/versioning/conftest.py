"""A study under git and DVC, done once by a stand-in and pushed to a store; every test works in a clone of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from espalier.runtime.files import sha256
from tests.conftest import ROOT, SMALL, Clone

BIN = Path(sys.executable).parent
ENVIRONMENT = {
    "HOME": "/nowhere",
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    "SNAKEMAKE_PROFILE": "profiles/local",
    "OMP_NUM_THREADS": "1",
    "SLURM_CONF": os.devnull,
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
}
SCORES = "results/small/metrics.json"
MODEL = "results/small/minilm/rows/seed42/sdp/50"
VERSIONED: dict[str, Any] = {
    **SMALL,
    "tasks": {
        "rows": {
            "kind": "classification",
            "source": "files",
            "train": "data/rows.csv",
            "validation": "data/rows.csv",
            "text": ["text"],
            "label": "label",
            "metric": "accuracy",
        }
    },
    "plans": {
        "magnitude": {"method": "magnitude", "path": [0.5], "learning_rate": 5.0e-5},
        "sdp": {"method": "sdp", "path": [0.5, 0.9], "learning_rate": 5.0e-5},
    },
}


@dataclass(frozen=True)
class Study(Clone):
    """A clone under git and DVC."""

    def run(self, *command: str, fails: bool = False, **environment: str) -> str:
        """What a command prints; it must end well, or `fails`."""
        program = BIN / command[0] if (BIN / command[0]).exists() else command[0]
        everything = {**ENVIRONMENT, "HOME": str(self.folder.parent), **environment}
        result = subprocess.run(
            [program, *command[1:]], cwd=self.folder, env=everything, capture_output=True, text=True, check=False
        )
        assert (result.returncode != 0) == fails, result.stdout[-3000:] + result.stderr[-3000:]
        return result.stdout + result.stderr

    def commit(self, message: str) -> None:
        """All that git follows."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def espalier(self, name: str, *arguments: str, fails: bool = False) -> str:
        """A command of `python -m espalier`, whose `__main__` the stand-in has taken here."""
        code = f"import sys; from espalier.commands.{name} import main; sys.exit(main(sys.argv[1:]))"
        return self.run("python", "-c", code, *arguments, fails=fails, PYTHONPATH="workflow")

    def clone(self, folder: Path, store: Path | str, link: str = "copy") -> Study:
        """What a person would have who clones this repository and knows the store."""
        self.run("git", "clone", "--quiet", str(self.folder), str(folder))
        other = Study(folder)
        other.run("dvc", "remote", "add", "--local", "--default", "--force", "store", str(store))
        other.run("dvc", "config", "--local", "cache.type", link)
        return other

    def digests(self, place: str = "results") -> dict[str, str]:
        """File → SHA-256."""
        return {str(path.relative_to(self.folder)): sha256(path) for path in files_in(self.folder / place)}


def files_in(place: Path) -> list[Path]:
    """A file itself, or all files in a folder."""
    return [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def _pushed(make_clone: Callable[[Path], Clone], tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    root = tmp_path_factory.mktemp("versioned")
    study = Study(make_clone(root / "origin").folder)
    for name in (".dvcignore", ".gitignore", "dvc.yaml"):
        shutil.copy2(ROOT / name, study.folder)
    shutil.copytree(ROOT / ".dvc", study.folder / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "config.local"))
    best = study.folder / "workflow/experiments/demo/best.json"
    best.parent.mkdir(parents=True)
    shutil.copy2(ROOT / "workflow/experiments/demo/best.json", best)
    shutil.copy2(ROOT / "tests/workflow/stand_in.py", study.folder / "workflow/espalier/__main__.py")
    (study.folder / "data").mkdir()
    (study.folder / "data/rows.csv").write_text("text,label\na,b\n")
    study.write_config(VERSIONED)
    study.run("git", "init", "--quiet", "--initial-branch", "main")
    study.run("dvc", "add", "data/rows.csv")
    study.commit("Start")
    study.run("dvc", "repro")
    study.commit("First results")
    study.run("git", "tag", "first")
    shutil.copytree(study.folder, root / "alone", symlinks=True)
    study.run("dvc", "remote", "add", "--local", "--default", "--force", "store", str(root / "store"))
    study.run("dvc", "push")
    return study, root / "store"


@pytest.fixture
def origin(_pushed: tuple[Study, Path]) -> Study:
    """The study in which everything was done; not to be changed."""
    return _pushed[0]


@pytest.fixture
def alone(_pushed: tuple[Study, Path], tmp_path: Path) -> Study:
    """The study before anybody named a store; a test may change it."""
    shutil.copytree(_pushed[1].parent / "alone", tmp_path / "alone", symlinks=True)
    return Study(tmp_path / "alone")


@pytest.fixture
def store(_pushed: tuple[Study, Path]) -> Path:
    """Where it was pushed."""
    return _pushed[1]


@pytest.fixture(scope="session")
def _pulled(_pushed: tuple[Study, Path], tmp_path_factory: pytest.TempPathFactory) -> Study:
    origin, store = _pushed
    study = origin.clone(tmp_path_factory.mktemp("clone") / "pulled", store)
    study.run("dvc", "pull")
    return study


@pytest.fixture
def pulled(_pulled: Study, tmp_path: Path) -> Study:
    """A clone with all results, on a person's own disk; a test may change it."""
    shutil.copytree(_pulled.folder, tmp_path / "pulled", symlinks=True)
    return Study(tmp_path / "pulled")


def configured(**changes: Any) -> dict[str, Any]:
    """The study's configuration with other blocks."""
    return {**yaml.safe_load(yaml.safe_dump(VERSIONED)), **changes}
