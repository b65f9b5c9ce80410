"""A file that the configuration does not make is refused with one sentence that names what there is, for every rule."""

from __future__ import annotations

import pytest
import yaml

from tests.conftest import SMALL, Clone
from tests.workflow.test_module import IMPORT
from tests.workflow.test_refusals import refusal

STUDENT = "results/small/minilm/docs-library/seed42/sdp/50"
FILES = "config.json, model.safetensors"
UNKNOWN = {
    STUDENT.replace("50", "70") + "/run.json": "seed42/sdp has no '70' with this configuration; it has 50, 90",
    STUDENT.replace("sdp", "spd") + "/run.json": "seed42 has no 'spd' with this configuration; did you mean 'sdp'?",
    STUDENT.replace("sdp/50", "magnitude/90") + "/scores.json": "seed42/magnitude has no '90' with this configuration",
    STUDENT.replace("42", "7") + "/compact/README.md": "docs-library has no 'seed7' with this configuration",
    STUDENT.replace("docs-library", "docs-order") + "/cost.json": "small/minilm has no 'docs-order' with this configuration",
    STUDENT.replace("minilm", "bert") + "/run.json": "results/small has no 'bert' with this configuration",
    STUDENT.replace("small", "other") + "/run.json": "results has no 'other' with this configuration",
    STUDENT + "/rum.json": "sdp/50 has no 'rum.json' with this configuration; did you mean 'run.json'?",
    STUDENT + "/analysis.json": "sdp/50 has no 'analysis.json' with this configuration",
    STUDENT.replace("sdp/50", "teacher/50") + "/run.json": "seed42/teacher has no '50' with this configuration",
    STUDENT.replace("sdp/50", "teacher/0") + "/recovered/run.json": "teacher/0 has no 'recovered' with this configuration",
    STUDENT: f"{STUDENT} is a folder; name a file in it: {FILES}",
    "results/small/minilm/docs-library/tokens/train.arrow": "tokens has no 'train.arrow' with this configuration",
    "results/small/prepared/rte/task.json": "results/small/prepared has no 'rte' with this configuration",
    "results/small/bases/bert/config.json": "results/small/bases has no 'bert' with this configuration",
    "results/small/latency/bert/b1-l64.json": "results/small has no 'latency' with this configuration",
    "results/small/reprt.html": "results/small has no 'reprt.html' with this configuration; did you mean 'report.html'?",
    "reslts/small/report.html": "there is no 'reslts' with this configuration; did you mean 'results'?",
}


def test_all_wrong_files_are_named_together(clone):
    message = refusal(clone, *UNKNOWN)
    lines = {line.partition(" ")[0].rstrip(":"): line for line in message.splitlines()}
    assert "KeyError" not in message and "ValueError" not in message
    for path, said in UNKNOWN.items():
        assert said in lines[path]


@pytest.mark.parametrize("words", [[STUDENT.replace("50", "70") + "/run.json"], ["--until", f"{STUDENT}/rum.json"]])
def test_one_wrong_file(clone, words):
    """nextstrain/ncov#956: a build that the configuration does not have ends in an unhelpful KeyError."""
    message = refusal(clone, *words)
    assert "with this configuration" in message and "KeyError" not in message


def test_files_that_there_are_and_rules_are_not_refused(clone):
    wanted = [f"{STUDENT}/run.json", f"./{STUDENT}/compact/README.md", "results/small/latency/minilm/b1-l64.json", "table"]
    assert {"compress sdp 50", "latency", "table"} <= clone.jobs(*wanted)


def test_another_workflow_that_asks_for_too_much_is_told_the_file(clone, tmp_path):
    """harvardinformatics/snparcher#250: an input function that fails with KeyError says nothing to a user."""
    other = Clone(tmp_path / "other")
    other.folder.mkdir()
    (other.folder / "study.yaml").write_text(yaml.safe_dump({"compression": SMALL}))
    text = IMPORT.format(snakefile=str(clone.folder / "Snakefile")).replace("sdp/90", "sdp/70")
    (other.folder / "Snakefile").write_text(text)
    result = other.snakemake("--dry-run")
    message = result.stdout + result.stderr
    assert result.returncode != 0 and "KeyError" not in message and "Traceback" not in message
    assert "MissingInputException in rule use_the_student" in message and "sdp/70/compact/model.safetensors" in message
