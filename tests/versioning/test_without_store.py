"""Where nobody has named a store, everything local works (treeverse/dvc#1075: a default remote that is not there)."""

from __future__ import annotations

from base64 import urlsafe_b64decode

import pytest

from tests.conftest import ROOT, jobs_in
from tests.versioning.conftest import SCORES, configured
from tests.versioning.test_sharing import share
from tests.workflow.test_reruns import SDP

pytestmark = pytest.mark.versioning
RATE = "config.yaml:plans.sdp.learning_rate"


def test_the_repository_names_no_store():
    text = (ROOT / ".dvc/config").read_text()
    assert "remote" not in text and "url" not in text


def test_looking_and_going_back(alone):
    assert "up to date" in alone.run("dvc", "status")
    assert "No changes" in alone.run("dvc", "data", "status")
    assert SCORES in alone.run("dvc", "metrics", "show")
    alone.run("dvc", "metrics", "diff", "first")
    alone.run("dvc", "params", "diff", "first")
    assert "learning_rate" in alone.run("dvc", "exp", "show", "--csv")
    (alone.folder / SCORES).unlink()
    alone.run("dvc", "checkout")
    assert (alone.folder / SCORES).is_file() and alone.jobs() == set()


def test_an_experiment_runs_and_a_refused_one_says_why(alone):
    assert jobs_in(alone.run("dvc", "exp", "run", "--set-param", f"{RATE}=7.0e-5", "--name", "faster")) == SDP
    assert "faster" in alone.run("dvc", "exp", "list")
    alone.run("git", "checkout", "--quiet", "--force", "first")
    alone.run("dvc", "checkout", "--force")
    before = (alone.folder / "config.yaml").read_text()
    assert jobs_in(alone.run("dvc", "exp", "run", "--temp", "--set-param", f"{RATE}=9.0e-5")) == SDP
    assert (alone.folder / "config.yaml").read_text() == before


def test_a_clone_without_results_makes_them(alone, tmp_path):
    """What everybody does first: clone, look, run."""
    fresh = type(alone)(tmp_path / "fresh")
    alone.run("git", "clone", "--quiet", str(alone.folder), str(fresh.folder))
    (fresh.folder / "data/rows.csv").write_text((alone.folder / "data/rows.csv").read_text())
    fresh.run("dvc", "data", "status")
    fresh.run("dvc", "exp", "show", "--csv")
    fresh.run("dvc", "exp", "run", "--set-param", f"{RATE}=5.0e-5")
    assert fresh.jobs() == set()


def test_sharing_names_the_store_afterwards(alone, tmp_path):
    alone.write_config(configured(seeds=[7]))
    assert alone.snakemake("--cores", "1", "--quiet").returncode == 0
    share(alone, str(tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere/files").is_dir()
    assert "remote" not in (alone.folder / ".dvc/config").read_text()


def test_results_of_a_project_that_a_version_does_not_know(alone):
    """A checkout takes the notes of another project's results away, and leaves the results."""
    other = configured(project="other")
    alone.write_config(other)
    alone.run("snakemake", "--quiet")
    alone.run("git", "checkout", "--quiet", "--force", "first")
    alone.run("dvc", "checkout", "--force")
    notes = [urlsafe_b64decode(path.name) for path in (alone.folder / ".snakemake/metadata").iterdir()]
    assert notes and not [note for note in notes if b"results/other/" in note]
    assert (alone.folder / "results/other/report.html").is_file()
    alone.write_config(other)
    assert alone.jobs() == set(), "what is there is what the configuration asks for"
    other["plans"]["sdp"]["learning_rate"] = 1.0e-4
    alone.write_config(other)
    assert alone.jobs() == SDP
