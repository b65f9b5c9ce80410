"""A teacher's outputs are jobs of their own, one for all plans that read the same."""

from __future__ import annotations

import re

import pytest

from tests.workflow.test_jobs import SUMMARY, students

COFI = {"method": "cofi", "path": [0.5], "recover": {"epochs": 0.0}}
KLD = {"method": "sdp", "path": [0.5], "objective": "kld", "recover": {"epochs": 0.0}}
BARE = ("compress", "export", "evaluate", "measure", "card")
NOTE = r"seed42/teacher/0/outputs/([\w-]+)\.json"


def notes_of(clone, *targets: str) -> dict[str, list[str]]:
    """Output → the notes on stored outputs that its job waits for."""
    result = clone.snakemake("--dry-run", *targets)
    blocks = re.findall(r"input: (.*)\n    output: (.*)\n", result.stdout + result.stderr)
    return {outputs.split(", ")[0]: notes for inputs, outputs in blocks if (notes := re.findall(NOTE, inputs))}


def test_jobs_of_plans_that_read_the_teacher_wait_for_it(clone, small):
    small["plans"] |= {"cofi": COFI, "kld": KLD}
    clone.write_config(small)
    folder = "results/small/minilm/docs-library/seed42"
    waiting = {output.removeprefix(f"{folder}/"): notes for output, notes in notes_of(clone).items()}
    assert waiting == {
        **{f"sdp/{percent}/{place}config.json": ["first-token"] for percent in (50, 90) for place in ("", "recovered/")},
        "cofi/50/config.json": ["layers-4"],
        "kld/50/config.json": ["logits"],
    }


@pytest.mark.parametrize(
    ("plan", "settings"),
    [
        ({"method": "magnitude", "path": [0.5]}, {}),
        ({"method": "spd", "path": [0.5]}, {}),  # compares attention maps: the teacher runs
        (KLD, {"store": "never"}),
    ],
    ids=["no distillation", "attention", "never"],
)
def test_without_a_reader_there_is_no_such_job(clone, small, plan, settings):
    clone.write_config(small | {"plans": {"one": plan}, "teacher_outputs": settings})
    result = clone.snakemake("--dry-run", "--printshellcmds")
    said = result.stdout + result.stderr
    assert "rule compress:" in said and "rule teach:" not in said
    assert re.search(r"--outputs \s*\\\n", said)


def test_the_command_counts_passes_and_names_what_is_read(clone, small):
    small["plans"] = {
        "cofi": {**COFI, "path": [0.5, 0.8], "pruning_epochs": 4.0, "teacher_layers": 3, "recover": {"epochs": 2.0}}
    }
    clone.write_config(small)
    result = clone.snakemake("--dry-run", "--printshellcmds", "--until", "teach")
    said = result.stdout + result.stderr
    assert '"passes":13.0}' in said, "one epoch before pruning, four with gates and two of recovery for each target"
    assert '"reads":{"representation":null,"layers":3,"pad_to":null},"precision":"fp32"}' in said


def test_what_runs_again(clone, small):
    small["plans"] = {"kld": KLD, "few": {**COFI, "teacher_layers": 2}}
    clone.write_config(small)
    clone.pretend_all()
    few = students("few", "50", rules=BARE) | SUMMARY

    # Budget, another plan and more passes leave what is there alone, and what it was made from.
    new = {"new": {**COFI, "teacher_layers": 3}}
    clone.write_config(small | {"plans": small["plans"] | new, "teacher_outputs": {"budget_gib": 1.0, "store": "always"}})
    assert clone.jobs() == {"teach"} | students("new", "50", rules=BARE) | SUMMARY
    clone.write_config(small | {"plans": small["plans"] | {"few": {**COFI, "teacher_layers": 2, "pruning_epochs": 40.0}}})
    assert clone.jobs() == few

    # How exactly layers are stored concerns those who read them.
    clone.write_config(small | {"teacher_outputs": {"precision": "bf16"}})
    assert clone.jobs() == {"teach"} | few


def test_another_teacher_is_asked_again(finished, small):
    small["teacher"] = {"learning_rate": 1.0e-4}
    finished.write_config(small)
    assert {"finetune", "teach", "compress sdp 50"} <= finished.jobs()
