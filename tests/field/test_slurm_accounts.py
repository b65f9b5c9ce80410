"""What the pinned SLURM plugin does about accounts, as profiles/slurm and docs/cluster.md say; sbatch and sacct are stubs."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import snakemake_executor_plugin_slurm as plugin
import yaml

from tests.conftest import ROOT, Clone

TOKENS = "results/small/minilm/docs-library/tokens/train.parquet"
PROFILE = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
SOURCE = "\n".join(path.read_text() for path in Path(plugin.__file__).parent.glob("*.py"))


def stub(folder: Path, name: str, text: str) -> None:
    """A program that stands before the real one in PATH, if there is one."""
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def submission(clone: Clone, stubs: Path, *arguments: str) -> str:
    """What sbatch is asked for when the first job is submitted."""
    stub(stubs, "sbatch", 'echo "$@" >> "$(dirname "$0")/asked"; echo refused >&2; exit 1')
    shutil.copy(ROOT / "tests/workflow/stand_in.py", clone.folder / "workflow/espalier/__main__.py")
    result = clone.snakemake(TOKENS, "--profile", "profiles/slurm", "--retries", "0", *arguments)
    assert (stubs / "asked").exists(), result.stdout + result.stderr
    return (stubs / "asked").read_text()


@pytest.fixture
def stubs(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "stubs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def test_without_accounting_jobs_are_submitted_without_an_account(clone, stubs):
    """snakemake/snakemake#2378: the account cannot be left out without guesses."""
    stub(stubs, "sacct", "echo Slurm accounting storage is disabled >&2; exit 1")
    asked = submission(clone, stubs)
    assert " -A" not in asked and "-p main" in asked.replace("'", "")


def test_an_account_that_is_given_is_used(clone, stubs):
    """snakemake/snakemake-executor-plugin-slurm#177: the list of accounts may be empty, and the given one is right."""
    stub(stubs, "sacctmgr", "exit 0")
    stub(stubs, "sshare", "exit 0")
    assert " -A mine" in submission(clone, stubs, "--default-resources", "slurm_account=mine", "slurm_partition=main")


@pytest.mark.parametrize(("answer", "argument"), [("exit 1", ""), ("echo none", ""), ("echo '(null)'", ""), ("echo", "")])
def test_answers_of_sacct_that_name_no_account(stubs, answer, argument):
    """snakemake/snakemake-executor-plugin-slurm#76: accounts are optional, and `(null)` is none."""
    stub(stubs, "sacct", answer)
    assert _account_argument() == argument


def test_without_a_program_sacct_submitting_fails(stubs, monkeypatch):
    """Own audit: that is why docs/cluster.md gives a sacct that answers "none"."""
    monkeypatch.setenv("PATH", str(stubs))
    with pytest.raises(FileNotFoundError):
        _account_argument()
    line = re.search(r"`(printf .*?sacct)`", (ROOT / "docs/cluster.md").read_text().replace("\n", " "))[1]
    assert "echo none" in line


def test_the_plugin_reads_every_option_of_the_profile():
    """Own audit: an option that is declared and never read has no effect, such as slurm-no-account."""
    options = [key.removeprefix("slurm-").replace("-", "_") for key in PROFILE if key.startswith("slurm-")]
    assert options and [name for name in options if not _is_read(name)] == []
    assert not _is_read("no_account"), "it has an effect now: say so in the profile and in docs/cluster.md"


def _is_read(option: str) -> bool:
    return bool(re.search(rf"""\.{option}\b|["']{option}["']""", SOURCE))


def _account_argument() -> str:
    executor = object.__new__(plugin.Executor)
    executor.logger = SimpleNamespace(warning=lambda text: None)
    executor._fallback_account_arg = None
    return next(executor.get_account_arg(SimpleNamespace(resources={})))
