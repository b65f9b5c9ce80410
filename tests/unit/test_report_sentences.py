"""What the page says of studies that differ: of their seeds, checkpoints, commits, heads, tasks and timings."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_report import SMALL, edit, make_report, study, words
from test_table import found

from espalier.results.summary import selections

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("head", "trained", "said"),
    [
        (
            "new",
            "head",
            "One was trained on the corpus for the teacher, the encoder left as it is",
        ),
        ("new", "all", "One was trained on the corpus for the teacher, together with the encoder"),
        ("own", "nothing", "the base brings its own head and is the teacher as it is"),
        ("own", "all", "the base brings its own head; for the teacher the whole model was trained on the corpus"),
    ],
)
def test_the_page_tells_how_a_text_task_s_teacher_came_by_its_head(tmp_path: Path, head: str, trained: str, said: str) -> None:
    root = study(tmp_path)
    assert "Heads for masked-language modelling" not in words(make_report(root))
    for path in found(root, "run.json"):
        if path.parent.parent.name == "teacher":
            edit(path, head=head, trained=trained)
    assert words(make_report(root)).count(said) == 1


def test_one_seed_without_recovery_shows_no_spread(tmp_path):
    root = study(tmp_path, seeds=(7,), recovered=False, scores=SMALL)
    text = words(make_report(root))
    assert "sdp-cc (sdp) 50 % 1 0.887 −0.020 86.1 50.0 % 30.0 % 700 40 1 min 40 s" in text
    assert "1 seed (7)" in text


def test_rows_that_select_and_score_are_called_so(tmp_path):
    root = study(tmp_path, seeds=(1,), scores=SMALL)
    edit(root / "base/tiny/seed1/dense/0/run.json", selected={"checkpoint": "best", "set": "validation", "step": 20})
    edit(root / "base/tiny/seed1/teacher/0/run.json", selected={"checkpoint": "best", "set": "selection", "step": 20})
    text = words(make_report(root))
    assert "1 run of dense: the best evaluation on validation was kept, and the same rows give the score." in text
    assert "1 run of teacher: the best evaluation on selection was kept; the score comes from validation, whose rows" in text
    assert "runs of sdp-cc: the weights of the last step were kept" in text


def test_rows_that_are_in_training_and_evaluation_are_told(tmp_path):
    root = study(tmp_path, seeds=(1,), scores=SMALL)
    said = "Of the task’s rows 12 stand in training and in evaluation"
    assert said not in words(make_report(root))
    edit(root / "prepared/tiny/task.json", leaked={"validation": 12})
    assert said in words(make_report(root))


def test_a_run_outside_git_or_with_changes_says_so(tmp_path):
    root = study(tmp_path, seeds=(1,), scores=SMALL)
    edit(root / "base/tiny/seed1/sdp-cc/50/run.json", git_commit=None)
    edit(root / "base/tiny/seed1/teacher/0/run.json", git_commit="abc+")
    text = words(make_report(root))
    assert "git commit not in a git repository" in text
    assert "git commit abc+ with changes to tracked files" in text


@pytest.mark.parametrize(
    ("speedup", "total", "sentence"),
    [
        (1.02, 1000, "gain nothing from unstructured sparsity"),
        (1.4, 1000, "take a difference for timing noise"),
        (1.4, 500, "with smaller matrices of up to 50 % ran at 1.40"),
    ],
)
def test_latency_is_told_as_it_was_measured(tmp_path, speedup, total, sentence):
    root = study(tmp_path, seeds=(1,), scores=SMALL)
    for path in found(root, "cost.json"):
        if path.parent.parent.name == "sdp-cc":
            edit(path, speedup={"1": speedup}, params_total=total)
    text = words(make_report(root))
    assert sentence in text
    assert ("That is no speed-up" in text) == (speedup == 1.02)


def test_no_records_no_selections():
    assert selections([], {}) == []
