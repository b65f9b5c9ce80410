"""A job that is killed says so in its log and in what Snakemake prints."""

from __future__ import annotations

import pytest

TASK = "results/small/prepared/docs-library/task.json"
LOG = "logs/prepare/results/small/prepared/docs-library.log"


@pytest.mark.parametrize(("number", "said"), [("SIGKILL", "because memory ran out"), ("SIGTERM", "a cluster's time limit")])
def test_a_killed_job_says_what_happened_and_what_helps(clone, number, said):
    """ngs-docs/2023-snakemake-book-draft#32: people miss "Killed"; RTXteam/RTX#1117: nothing says that it was memory."""
    kill = f"import os\nimport signal\n\nos.kill(os.getpid(), signal.{number})\n\n\ndef run("
    clone.edit("workflow/espalier/stages/data/prepare.py", "def run(", kill)
    result = clone.snakemake(TASK, "--cores", "1")
    told, log = result.stdout + result.stderr, (clone.folder / LOG).read_text()
    assert result.returncode != 0
    for text in (told, log):
        assert said in text and ("lower rows of the task" in text or "runtime" in text)
