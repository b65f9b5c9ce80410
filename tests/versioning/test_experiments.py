"""`dvc repro` and `dvc exp`: only what is concerned runs, and nothing that was there is lost."""

from __future__ import annotations

import json

import pytest

from tests.conftest import jobs_in
from tests.versioning.conftest import SCORES
from tests.workflow.test_reruns import MAGNITUDE, SDP

pytestmark = pytest.mark.versioning
RATE = "config.yaml:plans.sdp.learning_rate"
TEN = [f"{number}.0e-5" for number in range(10, 20)]


def test_what_is_done_is_not_done_again(pulled):
    text = pulled.run("dvc", "repro")
    assert "Stage 'espalier' didn't change, skipping" in text and not jobs_in(text)


def test_an_experiment_runs_what_its_value_concerns(pulled):
    before = pulled.digests("results/small/minilm/rows/seed42/magnitude")
    text = pulled.run("dvc", "exp", "run", "--set-param", f"{RATE}=7.0e-5", "--name", "faster")
    assert jobs_in(text) == SDP
    assert pulled.digests("results/small/minilm/rows/seed42/magnitude") == before
    table = pulled.run("dvc", "exp", "show", "--csv")
    head, workspace, *rest = table.splitlines()
    assert "plans.sdp.learning_rate" in head and "7e-05" in workspace
    assert any("faster" in line and "7e-05" in line for line in rest) and any(
        "main" in line and "5e-05" in line for line in rest
    )
    assert pulled.jobs() == set(), "7e-05, as DVC writes it, is a number for us too"
    assert SCORES in pulled.run("dvc", "metrics", "show")
    difference = json.loads(pulled.run("dvc", "metrics", "diff", "--json", "first"))
    assert "score" in difference[SCORES]


def test_the_same_in_a_folder_of_its_own(pulled):
    before = pulled.digests()
    text = pulled.run("dvc", "exp", "run", "--temp", "--set-param", "config.yaml:plans.magnitude.path=[0.6]", "--name", "aside")
    assert jobs_in(text) == {job.replace("50", "60") for job in MAGNITUDE}
    assert pulled.digests() == before
    pulled.run("dvc", "exp", "apply", "aside")
    assert pulled.jobs() == set() and "60" in {path.name for path in pulled.folder.glob("results/small/*/*/*/magnitude/*")}


def test_ten_queued_experiments_leave_what_was_there(pulled):
    before = pulled.digests() | pulled.digests(".snakemake/metadata")
    cached = pulled.digests(".dvc/cache")
    pulled.run("dvc", "exp", "run", "--queue", "--set-param", f"config.yaml:plans.magnitude.learning_rate={','.join(TEN)}")
    pulled.run("dvc", "exp", "run", "--run-all", "--jobs", "2")
    assert pulled.digests() | pulled.digests(".snakemake/metadata") == before
    after = pulled.digests(".dvc/cache")
    assert cached.items() <= after.items()
    names = pulled.run("dvc", "exp", "list", "--name-only").split()
    assert len(names) == len(TEN)
    table = pulled.run("dvc", "exp", "show", "--csv")
    assert all(f",{float(rate)}," in table for rate in TEN)
    pulled.run("dvc", "exp", "apply", names[0])
    assert pulled.jobs() == set()


def test_plots_have_axes_with_names(pulled):
    page = pulled.folder / "plots"
    pulled.run("dvc", "plots", "diff", "first", "--out", str(page))
    shown = json.loads(pulled.run("dvc", "plots", "show", "--json"))
    assert "errors" not in shown and set(shown["data"]) == {"quality", "size", "speed"}
    axes = {name: plots[0]["content"]["encoding"] for name, plots in shown["data"].items()}
    assert axes["quality"]["x"]["title"] == "removed fraction of the encoder's weights"
    assert axes["speed"]["x"]["field"] == "speedup_b32" and axes["size"]["y"]["title"] == "score"
    assert (page / "index.html").is_file()
