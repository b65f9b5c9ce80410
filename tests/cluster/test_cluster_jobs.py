"""What SLURM is asked for, and what becomes of jobs and of Snakemake when something goes wrong; stand-ins for the stages."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest

from tests.cluster.cluster import said, wait_for

pytestmark = pytest.mark.cluster
TEACHER = "results/small/minilm/docs-library/seed42/teacher/0/model.safetensors"


def asked(job: str, name: str) -> str:
    """A field of a job as SLURM knows it."""
    return re.search(rf"\b{name}=(\S+)", said("scontrol", "-o", "show", "job", job))[1]


def submitted(told: str) -> list[str]:
    return re.findall(r"submitted with SLURM jobid (\d+)", told)


def held(cluster) -> tuple[subprocess.Popen[str], str]:
    """Snakemake, and the job of its teacher, which waits to be released."""
    cluster.hold("finetune")
    process = cluster.start(TEACHER)
    return process, wait_for(lambda: cluster.seen("finetune"))[0]["job"]


def test_a_failed_job_is_tried_again_with_more_of_everything(cluster):
    cluster.fail_once("finetune")
    told = cluster.submit(TEACHER, "--set-resources", "finetune:gpu=2")
    tokenise, first, second = submitted(told)
    assert [note["devices"] for note in cluster.seen()] == ["", "", "", "0,1", "0,1"]
    assert [asked(job, "TimeLimit") for job in (tokenise, first, second)] == ["01:00:00", "08:00:00", "16:00:00"]
    assert [asked(job, "MinMemoryNode") for job in (tokenise, first, second)] == ["4000M", "4001M", "8001M"]
    assert "failed once, as a test wants it" in told, "the job's log is shown"


def test_accounting_may_tell_what_became_of_jobs(cluster, tmp_path, monkeypatch):
    """The other status command. There is no slurmdbd here: a stand-in answers from SLURM's memory, as sacct would."""
    answer = 'touch asked\nexec squeue -h -t all --name "${@: -1}" -o "%i|%T"\n'
    (tmp_path / "sacct").write_text(f"#!/usr/bin/env bash\n{answer}")
    (tmp_path / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    cluster.edit("profiles/slurm/config.yaml", "slurm-status-command: squeue", "slurm-status-command: sacct")
    cluster.submit(TEACHER)
    assert (cluster.folder / "asked").exists()


def test_a_second_snakemake_on_the_folder_is_refused(cluster):
    first, _ = held(cluster)
    second = cluster.start(TEACHER)
    told, _ = second.communicate()
    assert second.returncode == 1 and "locked" in told and "--unlock" in told
    cluster.release("finetune")
    told, _ = first.communicate()
    assert first.returncode == 0, told
    assert len(cluster.seen("finetune")) == 1 and (cluster.folder / TEACHER).exists()


def test_after_kill_9_of_snakemake_its_jobs_end_and_the_next_run_goes_on(cluster):
    killed, orphan = held(cluster)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert asked(orphan, "JobState") == "RUNNING", "SLURM knows nothing of Snakemake"
    refused = cluster.start(TEACHER)
    assert "--unlock" in refused.communicate()[0] and refused.returncode == 1
    cluster.release("finetune")
    wait_for(lambda: asked(orphan, "JobState") == "COMPLETED")
    assert cluster.snakemake("--unlock").returncode == 0
    told = cluster.submit(TEACHER)
    assert "Nothing to be done" in told, f"jobs keep their own records: what the orphan made counts\n{told}"


def test_a_stopped_snakemake_takes_its_jobs_back(cluster):
    process, job = held(cluster)
    process.send_signal(signal.SIGINT)
    process.communicate()
    wait_for(lambda: asked(job, "JobState") == "CANCELLED")
    cluster.release("finetune")
    cluster.submit(TEACHER)
