"""Rivals in the graph: which jobs they add, what these read, and what an edit runs again."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.conftest import MINILM, SMALL, Clone
from tests.workflow.test_jobs import DATA, SUMMARY, TEACHER, inputs_of

FOLDER = "results/small/minilm/docs-library/seed42/tiny/0"
OTHER_TOKENS = "results/small/tiny/docs-library/tokens"
TINY = {f"{rule} tiny 0" for rule in ("adopt", "export", "evaluate", "measure", "card")}


def with_rivals(small: dict[str, Any]) -> dict[str, Any]:
    """One teacher, a linear model, and a plan on another base, which is the same encoder under another name."""
    small["bases"]["tiny"] = MINILM
    return small | {"plans": {"tiny": {"method": "ready-made", "base": "tiny"}}, "rivals": {}}


@pytest.fixture(scope="module")
def _done(make_clone, tmp_path_factory) -> Clone:
    clone = make_clone(tmp_path_factory.mktemp("rivals") / "clone")
    clone.write_config(with_rivals(yaml.safe_load(yaml.safe_dump(SMALL))))
    clone.pretend_all()
    return clone


@pytest.fixture
def done(_done, tmp_path) -> Clone:
    """A clone in which every job has been done, by a stand-in."""
    return _done.copied_to(tmp_path / "elsewhere")


def test_every_rival_has_its_jobs_and_the_other_base_no_more(clone, small):
    clone.write_config(with_rivals(small))
    assert clone.jobs() == DATA | TEACHER | TINY | {"linear"} | SUMMARY


def test_a_ready_made_student_reads_rows_in_its_own_tokens_and_its_teacher_in_others(clone, small):
    clone.write_config(with_rivals(small))
    inputs = inputs_of(clone, f"{FOLDER}/model.safetensors").split(", ")
    assert {f"{OTHER_TOKENS}/{split}.parquet" for split in ("train", "evaluation")} <= {*inputs}
    assert "results/small/minilm/docs-library/tokens/train.parquet" in inputs
    assert "results/small/minilm/docs-library/tokens/evaluation.parquet" not in inputs
    assert {"results/small/bases/tiny/model.safetensors", FOLDER.replace("tiny/0", "teacher/0/model.safetensors")} <= {*inputs}
    assert f"{OTHER_TOKENS}/evaluation.parquet" in inputs_of(clone, f"{FOLDER}/scores.json")
    assert "results/small/bases/tiny/tokenizer.json" in inputs_of(clone, f"{FOLDER}/compact/model.safetensors")
    assert "results/small/bases/tiny/source.json" in inputs_of(clone, f"{FOLDER}/compact/README.md")


def test_they_are_turned_off_in_the_configuration_alone(clone, small):
    clone.write_config(with_rivals(small) | {"rivals": {"linear": False}})
    assert "linear" not in clone.jobs()


def test_kinds_without_a_linear_model_have_none(clone, small):
    small |= {"tasks": {"docs-span": {"rows": 64}, "docs-corpus": {"rows": 64}}, "plans": {}, "rivals": {}}
    clone.write_config(small)
    assert "linear" not in clone.jobs()


def test_formats_add_a_job_for_each_model_and_a_table(clone, small):
    clone.write_config(with_rivals(small) | {"deploy": {}})
    more = {"deploy teacher 0", "deploy tiny 0", "gather"}
    assert clone.jobs() == DATA | TEACHER | TINY | {"linear"} | SUMMARY | more
    inputs = inputs_of(clone, f"{FOLDER}/deploy/compact.json").split(", ")
    dense = f"{FOLDER.replace('tiny/0', 'teacher/0')}/compact"
    assert {f"{dense}/onnx/model_int8.onnx", f"{dense}/tokenizer.json", f"{FOLDER}/predictions.parquet"} <= {*inputs}
    assert "results/small/prepared/docs-library/train.parquet" in inputs


def test_another_guard_renews_what_shows_it_and_converts_nothing(clone, small):
    clone.write_config(with_rivals(small) | {"deploy": {}})
    clone.pretend_all()
    assert clone.jobs() == set()
    clone.write_config(with_rivals(small) | {"deploy": {"max_drop": 0.02}})
    assert {job.split()[0] for job in clone.jobs()} == {"gather", "card", "report"}
    clone.write_config(with_rivals(small) | {"deploy": {"embeddings": "fp32"}})
    assert {job.split()[0] for job in clone.jobs()} == {"deploy", "gather", "card", "report"}


def test_a_second_run_has_nothing_to_do(done):
    assert done.jobs() == set()


def test_turning_them_off_renews_table_and_report_alone(done, small):
    done.write_config(with_rivals(small) | {"rivals": {"linear": False}})
    assert done.jobs() == SUMMARY


def test_editing_the_linear_model_runs_it_again_and_no_training(done):
    done.edit("workflow/espalier/evaluation/linear_kinds.py", "MOST_ITERATIONS = 2000", "MOST_ITERATIONS = 2001")
    assert done.jobs() == {"linear"} | SUMMARY


def test_editing_a_rival_runs_that_one_again(done, small):
    changed = with_rivals(small)
    changed["plans"]["tiny"] = {**changed["plans"]["tiny"], "alpha": 0.0}
    done.write_config(changed)
    assert done.jobs() == TINY | SUMMARY


def test_files_of_the_other_base_are_known_and_its_students_are_not(done):
    assert done.jobs(f"{OTHER_TOKENS}/train.parquet", "results/small/prepared/docs-library/linear.json") == set()
    result = done.snakemake("--dry-run", "results/small/tiny/docs-library/seed42/teacher/0/model.safetensors")
    assert result.returncode != 0 and "with this configuration" in result.stdout + result.stderr
