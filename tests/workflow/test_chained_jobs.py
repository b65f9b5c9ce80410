"""Plans that start from students of others: the jobs, their inputs, and what an edit of the source runs again."""

from __future__ import annotations

import pytest
import yaml

from tests.conftest import SMALL, Clone
from tests.workflow.test_jobs import inputs_of

FOLDER = "results/small/minilm"
NO_RECOVERY = {"recover": {"epochs": 0.0}}
STUDENT = ("export", "evaluate", "measure", "card")


def stages(rule: str, plan: str, *percents: str) -> set[str]:
    return {f"{each} {plan} {percent}" for each in (rule, *STUDENT) for percent in percents}


def chained(small: dict) -> dict:
    small["tasks"] = {"docs-corpus": {"rows": 64}, "docs-library": {"rows": 64}}
    small["plans"] = {
        "narrow": {"method": "homodistil", "path": [0.5, 0.75]},
        "special": {"method": "specialise", "path": [0.75], "start": {"plan": "narrow"}},
        "cofi": {"method": "cofi", "path": [0.8, 0.9], "start": {"plan": "narrow", "at": 0.5}, **NO_RECOVERY},
        "sdp": {"method": "sdp", "path": [0.5], **NO_RECOVERY},
    }
    return small


@pytest.fixture(scope="module")
def _done(make_clone, tmp_path_factory) -> Clone:
    clone = make_clone(tmp_path_factory.mktemp("chained") / "clone")
    clone.write_config(chained(yaml.safe_load(yaml.safe_dump(SMALL))))
    clone.pretend_all()
    return clone


@pytest.fixture
def chained_clone(_done, tmp_path) -> Clone:
    """A clone in which every job of the chained configuration has been done, by a stand-in."""
    return _done.copied_to(tmp_path / "elsewhere")


CHAINED = stages("specialise", "special", "75") | stages("compress", "cofi", "80", "90")


def test_every_student_has_its_jobs(clone, small):
    clone.write_config(chained(small))
    jobs = clone.jobs()
    students = {job for job in jobs if job.startswith(("compress", "specialise", "recover"))}
    narrow = {"compress narrow 50", "compress narrow 75"}
    assert students == narrow | {"specialise special 75", "compress cofi 80", "compress cofi 90", "compress sdp 50"}
    assert jobs >= CHAINED


def test_a_chained_stage_reads_the_other_plan_s_student_and_its_own_task(clone, small):
    clone.write_config(chained(small))
    for student, before in (("special/75", "narrow/75"), ("cofi/80", "narrow/50")):
        inputs = inputs_of(clone, f"{FOLDER}/docs-library/seed42/{student}/model.safetensors")
        assert f"{FOLDER}/docs-corpus/seed42/{before}/masks.safetensors" in inputs
        assert f"{FOLDER}/docs-library/seed42/teacher/0/model.safetensors" in inputs
        assert f"{FOLDER}/docs-library/tokens/train.parquet" in inputs and "docs-corpus/tokens" not in inputs
    assert "docs-corpus" not in inputs_of(clone, f"{FOLDER}/docs-library/seed42/cofi/90/model.safetensors")


def test_editing_the_source_runs_what_started_from_it(chained_clone, small):
    small = chained(small)
    small["plans"]["narrow"]["epochs"] = 1.0
    chained_clone.write_config(small)
    jobs = chained_clone.jobs()
    assert jobs == stages("compress", "narrow", "50", "75") | CHAINED | {"table", "report"}


def test_editing_the_chained_plan_runs_that_plan_alone(chained_clone, small):
    small = chained(small)
    small["plans"]["special"]["epochs"] = 1.0
    chained_clone.write_config(small)
    assert chained_clone.jobs() == stages("specialise", "special", "75") | {"table", "report"}


def test_a_further_target_of_the_source_runs_no_other_plan(chained_clone, small):
    small = chained(small)
    small["plans"]["narrow"]["path"] = [0.5, 0.75, 0.9]
    chained_clone.write_config(small)
    assert chained_clone.jobs() == stages("compress", "narrow", "90") | {"table", "report"}


def test_a_circle_is_refused_before_the_first_job(clone, small):
    small = chained(small)
    small["plans"]["cofi"]["start"] = {"plan": "cofi", "at": 0.8}
    clone.write_config(small)
    result = clone.snakemake("--dry-run")
    assert result.returncode != 0
    assert "plans.cofi.start.plan: plans start from each other: cofi → cofi" in result.stdout + result.stderr
