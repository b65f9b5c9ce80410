"""The whole study, for real, through profiles/slurm; and training jobs that SLURM stops, on two-layer models."""

from __future__ import annotations

import itertools
import signal
import subprocess

import pandas as pd
import pytest

from espalier.runtime.files import read_json, sha256
from tests import tiny
from tests.cluster.cluster import recorded, said, wait_for
from tests.e2e.test_pipeline import CONFIG, FAST, write_rows

pytestmark = pytest.mark.cluster
STUDY = CONFIG | {
    "tasks": {"grades": CONFIG["tasks"]["grades"]},
    "analyses": {},
    "plans": {name: {**CONFIG["plans"][name], "path": [0.5], "recover": {"epochs": 0.0}} for name in ("sdp", "cofi")},
}
LONG = STUDY | {"plans": {}, "teacher": {"epochs": 150.0, **FAST, "evaluate_every": 50.0}}
"""2,250 steps of a teacher: half a minute."""
SEED = "results/whole/tiny/grades/seed1"
FOLDER = f"{SEED}/teacher/0"


@pytest.fixture(scope="module")
def real(make_clone, tmp_path_factory):
    """Make a clone with a base, rows and a configuration; its stages are the real ones."""

    def make(config):
        clone = make_clone(tmp_path_factory.mktemp("real") / "clone")
        tiny.write_base(clone.folder / "tiny")
        for seed, (name, count) in enumerate([("train", 240), ("first", 60)]):
            write_rows(clone.folder / f"{name}.csv", count, seed)
        clone.write_config(config)
        return clone

    return make


@pytest.fixture(scope="module")
def whole(slurm, real):
    """The study, done; its two students began side by side.

    They are asked for first, without the rest: a job that wants the node for itself and comes into the queue between
    them would keep the second one waiting for as long as the first is held.
    """
    cluster = recorded(real(STUDY))
    cluster.hold("compress")
    process = cluster.start(*(f"{SEED}/{plan}/50/model.safetensors" for plan in STUDY["plans"]))
    try:
        wait_for(lambda: len(cluster.seen("compress")) == 2)
    except TimeoutError:
        process.kill()
        subprocess.run(["scancel", "--user", "root"], check=True)  # or the tests after this one wait for its jobs
        raise
    cluster.release("compress")
    told, _ = process.communicate()
    assert process.returncode == 0, told[-6000:]
    cluster.submit()
    return cluster


def test_every_result_is_there(whole):
    assert len(pd.read_csv(whole.folder / "results/whole/table.csv")) == 3
    assert (whole.folder / "results/whole/report.html").read_text().rstrip().endswith("</html>")
    assert whole.jobs() == set(), "on the submitting machine, without the profile, there is nothing to do either"


def test_jobs_side_by_side_have_gpus_of_their_own(whole):
    with_gpu = [note for note in whole.seen() if note["devices"]]
    assert {note["stage"] for note in with_gpu} == {"finetune", "teach", "compress", "evaluate", "measure"}
    assert {note["devices"] for note in whole.seen("compress")} == {"0", "1"}
    for one, other in itertools.combinations(with_gpu, 2):
        apart = one["ended"] < other["began"] or other["ended"] < one["began"]
        assert apart or one["devices"] != other["devices"], (one, other)


def test_a_model_is_timed_alone_on_its_node(whole):
    jobs = [note for note in whole.seen() if note["job"]]
    for timed in whole.seen("measure"):
        assert [note for note in jobs if note["began"] < timed["ended"] and timed["began"] < note["ended"]] == [timed]


def test_quick_jobs_and_those_that_need_the_network_stay_at_home(whole):
    assert {note["stage"] for note in whole.seen() if not note["job"]} == {"fetch", "prepare", "card", "table"}


@pytest.fixture(scope="module")
def undisturbed(real):
    """Digest of the weights that a teacher has when nothing goes wrong."""
    clone = real(LONG)
    result = clone.snakemake("--cores", "1", f"{FOLDER}/model.safetensors")
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return sha256(clone.folder / FOLDER / "model.safetensors")


@pytest.fixture
def training(slurm, real):
    """A cluster that trains a teacher, and Snakemake; training has been saved at least once."""
    cluster = recorded(real(LONG))
    process = cluster.start(f"{FOLDER}/model.safetensors")
    wait_for(lambda: list((cluster.folder / "work").rglob("history.jsonl")))
    wait_for(lambda: max(len(file.read_text()) for file in (cluster.folder / "work").rglob("history.jsonl")) > 4000)
    yield cluster, process, cluster.seen("finetune")[0]["job"]
    process.kill()


@pytest.mark.parametrize(
    ("command", "jobs"),
    [(("scancel",), 2), (("scontrol", "requeue"), 1)],
    ids=["cancelled, retried by Snakemake", "pre-empted, started again by SLURM"],
)
def test_a_stopped_training_job_goes_on_where_it_was(training, undisturbed, command, jobs):
    cluster, process, job = training
    subprocess.run([*command, job], check=True)
    told, _ = process.communicate()
    assert process.returncode == 0, told[-6000:]
    assert len({note["job"] for note in cluster.seen("finetune")}) == jobs and len(cluster.seen("finetune")) == 2
    assert read_json(cluster.folder / FOLDER / "run.json")["resumed_at"]
    assert sha256(cluster.folder / FOLDER / "model.safetensors") == undisturbed


def test_an_orphan_and_the_next_run_do_not_train_in_one_folder(training, undisturbed):
    """The worst that a person can do after `kill -9` of Snakemake: unlock and go on at once, with the old job alive."""
    cluster, process, job = training
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert cluster.snakemake("--unlock").returncode == 0
    again = cluster.start("--retries", "0", f"{FOLDER}/model.safetensors")
    told, _ = again.communicate()
    if again.returncode:
        assert "is in use by process" in told
    wait_for(lambda: job not in said("squeue", "-h", "-o", "%i", "-t", "running").split())
    cluster.submit(f"{FOLDER}/model.safetensors")
    assert sha256(cluster.folder / FOLDER / "model.safetensors") == undisturbed
