"""What a job asks for on a cluster. The jobs themselves run in tests/cluster."""

from __future__ import annotations

import re

import pytest
import yaml

from espalier.config.resources import NEEDS

SLURM = ("--profile", "profiles/slurm", "--dry-run")
WEIGHTS = "results/small/minilm/docs-library/seed42/teacher/0/model.safetensors"


def resources(clone, rule: str, *arguments: str) -> dict[str, str]:
    """The resources of the first job of a rule that a dry run shows."""
    result = clone.snakemake(*SLURM, "--forcerun", rule, *arguments)
    assert result.returncode == 0, result.stderr
    line = re.search(rf"^rule {rule}:\n(?:    .*\n)*?    resources: (.*)$", result.stdout + result.stderr, re.MULTILINE)
    return dict(pair.split("=", 1) for pair in line[1].split(", "))


@pytest.fixture
def profile(clone):
    """The profile as YAML."""
    return yaml.safe_load((clone.folder / "profiles/slurm/config.yaml").read_text())


def test_the_profile_speaks_of_rules_that_there_are(profile):
    wants_gpu = {rule for rule, needs in NEEDS.items() if needs.gpu}
    timed_without = {"linear", "deploy"}
    assert set(profile["set-resources"]) == wants_gpu | timed_without, "each of them names its partition"
    alone = {rule for rule, own in profile["set-resources"].items() if "--exclusive" in own.get("slurm_extra", "")}
    assert alone == {"latency", "measure", "linear", "deploy"}


def test_a_job_asks_for_what_its_model_needs(finished):
    with (finished.folder / WEIGHTS).open("r+b") as file:
        file.truncate(880_000_000)
    asked = resources(finished, "compress")
    assert asked["slurm_partition"] == "main" and asked["gpu"] == "1"
    assert (int(asked["mem_mb"]), int(asked["runtime"])) == (4000 + 24 * 880, 960)
    small = resources(finished, "tokenise")
    assert "gpu" not in small and (small["mem_mb"], small["runtime"]) == ("4000", "60")


def test_before_the_model_is_there_its_jobs_can_be_planned(clone):
    assert resources(clone, "compress")["mem_mb"] == "<TBD>"


def test_timings_want_a_node_for_themselves(clone):
    assert resources(clone, "measure")["slurm_extra"] == "--exclusive"


def test_resources_are_no_results(finished):
    result = finished.snakemake(
        *SLURM, "--default-resources", "mem_mb=1", "--set-resources", "compress:gpu=0", "--set-threads", "compress=1"
    )
    assert "Nothing to be done" in result.stdout + result.stderr


def test_a_job_s_own_values_can_be_given(finished):
    assert resources(finished, "compress", "--set-resources", "compress:runtime=7", "compress:gpu=2")["runtime"] == "7"
