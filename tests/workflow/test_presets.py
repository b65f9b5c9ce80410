"""The papers' studies, which were not run yet: they can be planned, and their costs are those of the script."""

from __future__ import annotations

import csv
from pathlib import Path

import jsonschema
import pytest
import yaml

from benchmarks.preset_cost import BASE_GB, cost_of, sentence
from espalier.commands.evidence import study_page
from espalier.config import parse
from espalier.config.chains import students_of
from espalier.config.schema import schema
from espalier.config.targets import percent_of

FOLDER = Path(__file__).parents[2] / "workflow/experiments"
PLANNED = {
    "sdp-glue": {"finetune 44", "compress cc 90", "recover 43 mp-global 90", "compress 44 random 90", "report"},
    "sdp-xglue": {"finetune", "compress 43 cc 70", "recover 44 mp-layer 70", "report"},
    "spd-glue": {"finetune", "compress spd 95", "compress 44 no-grafting 50", "recover 43 magnitude 90", "report"},
    "homodistil-glue-squad": {
        *("pretrain", "pack", "compress homobert-tiny 7485696-parameters"),
        *("specialise 43 on-base 47775744-parameters", "report"),
    },
    "cofi-glue-squad": {"finetune 57", "compress 57 cofi 60", "recover 57 cofi 95", "report"},
}
"""Study → some of the jobs that its plan must contain."""
PAPERS = ("cofi-glue-squad",)
"""Studies of papers some of whose numbers could be verified."""


@pytest.fixture(params=PLANNED)
def folder(request):
    return FOLDER / request.param


def test_a_study_is_good_and_its_bases_and_rows_are_pinned(folder):
    raw = yaml.safe_load((folder / "config.yaml").read_text())
    jsonschema.validate(raw, schema())
    config = parse(raw)
    assert config.project == folder.name
    assert all(base.source == "hub" and base.id in BASE_GB for base in config.bases.values())
    assert all(task.source == "hub" and task.revision for task in config.tasks.values())


def test_a_study_can_be_planned_without_the_hub(folder, clone):
    assert clone.jobs("--configfile", str(folder / "config.yaml")) >= PLANNED[folder.name]


def test_the_page_says_what_a_study_costs_and_that_it_was_not_run(folder):
    cost = cost_of(parse(yaml.safe_load((folder / "config.yaml").read_text())))
    page = (folder / "README.md").read_text()
    assert sentence(cost) in page and page.count("**Not run yet.**") == 1
    assert page == study_page(folder), "run `python -m espalier evidence`"


@pytest.mark.parametrize("name", PAPERS)
def test_numbers_of_the_paper_have_a_source_and_a_student(name):
    config = parse(yaml.safe_load((FOLDER / name / "config.yaml").read_text()))
    students = {(student.task, student.plan, student.percent) for student in students_of(config)}
    with (FOLDER / name / "paper.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 10
    for row in rows:
        assert row["base"] in config.bases and row["metric"] in config.tasks[row["task"]].metrics
        assert row["plan"] == "teacher" or (row["task"], row["plan"], row["percent"]) in students
        assert 0.0 < float(row["paper"]) < 1.0 and row["source"].strip()
    assert all(percent_of(target) in {row["percent"] for row in rows} for target in (0.6, 0.95))


def test_no_other_study_claims_numbers():
    assert {path.parent.name for path in FOLDER.glob("*/paper.csv")} == set(PAPERS)


def test_costs_are_the_arithmetic(small):
    """One epoch of 2,490 rows of 128 tokens and one evaluation of 277, twice: hours by hand."""
    block = {"bert": {"source": "hub", "id": "google-bert/bert-base-uncased", "revision": "0" * 40}}
    plans = {"magnitude": {"method": "magnitude", "path": [0.5], "dense_epochs": 0.0, "recover": {"epochs": 0.0}}}
    small |= {"bases": block, "tasks": {"rte": None}, "teacher": {"epochs": 1.0}, "plans": plans, "seeds": [1, 2]}
    cost = cost_of(parse(small | {"deploy": {"formats": ["onnx"]}}))
    row = 128 * (2 * 84_934_656 + 4 * 128 * 768 * 12)
    # teacher and student: three passes over the rows, two over the evaluation rows
    assert cost.hours == pytest.approx(2 * 2 * (3 * 2_490 + 2 * 277) * row / 40e12 / 3600)
    assert cost.jobs == 4 and cost.gigabytes == pytest.approx(0.44 + 2 * 2 * 3 * 0.44)
    assert cost_of(parse(small | {"deploy": {"formats": ["onnx-int8"]}})).gigabytes == pytest.approx(0.44 + 2 * 2 * 3.25 * 0.44)
