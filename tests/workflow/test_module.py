"""Another workflow can import this one, and the catalogue of Snakemake workflows finds what it looks for."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.conftest import ROOT, SMALL, Clone, jobs_in

IMPORT = """
configfile: "study.yaml"

module espalier:
    snakefile: {snakefile!r}
    config: config["compression"]

use rule * from espalier as espalier_*

rule all:
    input: "model.txt"
    default_target: True

rule use_the_student:
    input: "results/small/minilm/docs-library/seed42/sdp/90/compact/model.safetensors"
    output: "model.txt"
    shell: "cp {{input}} {{output}}"
"""


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_another_workflow_imports_this_one(clone, tmp_path, snakefile):
    other = Clone(tmp_path / "other")
    other.folder.mkdir()
    (other.folder / "study.yaml").write_text(yaml.safe_dump({"compression": SMALL}))
    (other.folder / "Snakefile").write_text(IMPORT.format(snakefile=str(clone.folder / snakefile)))
    result = other.snakemake("--dry-run")
    assert result.returncode == 0, result.stdout + result.stderr
    jobs = jobs_in(result.stdout + result.stderr)
    assert {"use_the_student", "espalier_fetch", "espalier_compress sdp 50", "espalier_compress sdp 90"} <= jobs
    assert not [job for job in jobs if "magnitude" in job], "only what the other workflow asks for"


def test_a_workflow_that_imports_this_one_can_ask_for_everything(clone, tmp_path):
    other = Clone(tmp_path / "other")
    other.folder.mkdir()
    (other.folder / "study.yaml").write_text(yaml.safe_dump({"compression": SMALL}))
    (other.folder / "Snakefile").write_text(IMPORT.format(snakefile=str(clone.folder / "Snakefile")))
    jobs = {job.removeprefix("espalier_") for job in other.jobs("espalier_all")}
    assert jobs - {"all"} == clone.jobs()


def test_the_catalogue_s_place_of_the_workflow_is_the_same_workflow(clone):
    assert clone.jobs("--snakefile", "workflow/Snakefile") - {"everything"} == clone.jobs()


def test_the_catalogue_finds_its_settings():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"]["conda"] is True and usage["report"] is True
    assert {"snakemake", "workflow"} <= set(re.findall(r"\w+", (ROOT / "README.md").read_text().lower()))
