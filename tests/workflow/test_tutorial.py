"""docs/your-own-data.md: its script writes the rows that it says, and its configuration is planned on them."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from espalier.config import parse
from tests.conftest import Clone

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/your-own-data.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
CONFIG, OWN_TEACHER, NO_ANSWER, UNLABELLED = [block for language, block in BLOCKS if language == "yaml"]
SCRIPT, USE = (block for language, block in BLOCKS if language == "python")


@pytest.fixture
def mine(clone: Clone) -> Clone:
    """A clone with the rows and the configuration of the page."""
    (clone.folder / "my-rows.py").write_text(SCRIPT)
    (clone.folder / "my-config.yaml").write_text(CONFIG)
    subprocess.run([sys.executable, "my-rows.py"], cwd=clone.folder, check=True)
    return clone


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_script_writes_rows_of_three_topics(mine):
    train, validation = (rows_of(mine.folder / f"data/mine/{name}.csv") for name in ("train", "validation"))
    said = [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) (?:training|validation) rows", TEXT)]
    if sys.version_info[:2] == (3, 11):
        assert [len(train), len(validation)] == pytest.approx(said, rel=0.02), "patch releases change some docstrings"
    assert {row["topic"] for row in train} == {row["topic"] for row in validation} == {"files", "network", "numbers"}
    assert not {row["text"] for row in train} & {row["text"] for row in validation}


def test_the_configuration_is_planned(mine):
    jobs = mine.jobs("--configfile", "my-config.yaml", "--profile", str(ROOT / "profiles/local"))
    targets = [f"{plan} {percent}" for plan in ("cofi", "small") for percent in ("60", "90")]
    assert {f"compress {target}" for target in targets} | {"fetch", "prepare", "tokenise", "report"} <= jobs
    (mine.folder / "data/mine/train.csv").unlink()
    refused = mine.snakemake("results/mine/prepared/topics/task.json", "--dry-run", "--configfile", "my-config.yaml")
    assert refused.returncode and "data/mine/train.csv" in refused.stdout + refused.stderr


def test_the_model_that_is_opened_is_one_of_the_plan():
    study = parse(yaml.safe_load(CONFIG))
    base, task, seed, plan, percent = re.search(r"results/mine/(\w+)/(\w+)/seed(\d+)/(\w+)/(\d+)/compact", USE).groups()
    assert base in study.bases and task in study.tasks and int(seed) in study.seeds
    assert int(percent) / 100 in study.plans[plan].path


def test_the_code_can_be_read_by_python():
    for code in (SCRIPT, USE):
        compile(code, "docs/your-own-data.md", "exec")


def test_a_fine_tuned_model_of_one_s_own_is_a_configuration_of_five_lines():
    study = parse(yaml.safe_load(OWN_TEACHER))
    assert study.compressed_bases == ["own"] and len(OWN_TEACHER.splitlines()) <= 6
    assert (study.teacher.source, study.teacher.path) == ("local", study.bases["own"].path)


def test_the_task_with_questions_without_an_answer_is_one():
    study = parse(yaml.safe_load(CONFIG) | yaml.safe_load(NO_ANSWER))
    assert study.tasks["manual"].decides and "best-f1" in study.tasks["manual"].metrics


def test_more_texts_without_labels_are_a_line_of_the_task():
    document = yaml.safe_load(CONFIG)
    document["tasks"]["topics"] |= yaml.safe_load(UNLABELLED)
    assert parse(document).tasks["topics"].unlabelled.files == ("data/mine/more.csv",)
