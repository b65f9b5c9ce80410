"""Values given on Snakemake's command line arrive as they were meant."""

from __future__ import annotations

import pytest

from tests.workflow.test_refusals import refusal

FINETUNE = "--until", "finetune"


def specs(clone, *arguments: str) -> str:
    """What a dry run says about jobs, with the settings that each reads."""
    result = clone.snakemake("--dry-run", "--printshellcmds", *FINETUNE, "--config", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_lists_and_nested_values(clone):
    """snakemake/snakemake#963: a key of a block cannot be given on the command line; #709: leaves arrive as text."""
    said = specs(clone, "seeds=[1,2]", "teacher={epochs: 9.0, per_task: {docs-library: {batch_size: 8}}}")
    assert "seed1/teacher" in said and "seed2/teacher" in said and "seed42" not in said
    assert said.count('"epochs":9.0') == 2 and '"batch_size":8' in said


def test_a_quoted_number_is_a_text(clone):
    """snakemake/snakemake#3650: quotes do not keep a value from becoming a number."""
    assert "results/2024/" in specs(clone, 'project="2024"')
    assert "project: got 2024; needed: a text, in quotes: '2024'" in refusal(clone, "--config", "project=2024")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("seeds=[1,", "--config seeds, line 1, column 4: this is not YAML"),
        ("seeds=7", "seeds: got 7; needed: a list, such as [7]"),
        ("plans={sdp: {sparsty: 1}}", "plans.sdp: unknown key 'sparsty'"),
    ],
)
def test_a_wrong_value_is_refused_like_one_in_the_file(clone, value, problem):
    """Own audit."""
    assert problem in refusal(clone, "--config", value)
