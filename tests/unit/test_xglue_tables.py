"""XGLUE as known tasks: languages, splits, numbers of rows, what users may replace, and rows that are not the official ones."""

from __future__ import annotations

import json

import pytest

from espalier.config import ConfigError, parse
from espalier.config.benchmarks.xglue import XGLUE
from espalier.config.job_specs import prepare_spec
from espalier.kinds.base import read_task
from espalier.runtime.errors import UserError
from tests import xglue

ROWS = {
    "xglue-ner": (14_042, (3_252, 2_874, 1_923, 2_895), (3_454, 3_007, 1_523, 5_202), "en de es nl"),
    "xglue-nc": (100_000, (10_000,) * 5, (10_000,) * 5, "en de es fr ru"),
    "xglue-mlqa": (87_599, (1_148, 512, 517, 500, 507, 511, 504), (11_590, *[None] * 6), "en de ar es hi vi zh"),
    "xglue-xnli": (392_702, (2_490,) * 15, (5_010,) * 15, "en ar bg de el es fr hi ru sw th tr ur vi zh"),
    "xglue-paws-x": (49_401, (2_000,) * 4, (2_000,) * 4, "en de es fr"),
    "xglue-qadsm": (100_000, (10_000,) * 3, (10_000,) * 3, "en de fr"),
    "xglue-wpr": (99_997, (None,) * 7, (None,) * 7, "en de es fr it pt zh"),
    "xglue-qam": (100_000, (10_000,) * 3, (10_000,) * 3, "en de fr"),
}
"""Task → rows for training, validation and test as the work list gives them, and languages; POS stands below."""


def task_of(small, name, **block):
    return parse(small | {"tasks": {name: block}}).tasks[name]


@pytest.mark.parametrize("name", ROWS)
def test_rows_and_languages_are_the_official_ones(small, name):
    task, (train, validation, test, languages) = task_of(small, name), ROWS[name]
    codes = languages.split()
    assert task.language == tuple(codes) and task.counts["train"] == train
    assert list(task.evaluation_sets) == [f"{part}-{code}" for part in ("validation", "test") for code in codes]
    assert list(task.evaluation_sets.values()) == [f"{part}.{code}" for part in ("validation", "test") for code in codes]
    for part, wanted in (("validation", validation), ("test", test)):
        for code, rows in zip(codes, wanted, strict=True):
            assert rows in (None, task.counts[f"{part}-{code}"])
            assert rows is not None or 1_000 < task.counts[f"{part}-{code}"] < 12_000
    assert task.averaged == tuple(f"test-{code}" for code in codes), "the score is the mean over the languages of the test"


def test_parts_of_speech_have_the_languages_of_the_card(small):
    task = task_of(small, "xglue-pos")
    assert task.counts["train"] == 25_376 and len(task.language) == 17 and len(task.classes) == 17
    assert set(task.counts) == {"train", *task.evaluation_sets}


def test_every_task_is_pinned_and_has_its_metric(small):
    tasks = parse(small | {"tasks": dict.fromkeys(XGLUE)}).tasks
    assert {(task.id, task.revision) for task in tasks.values()} == {
        ("hgissbkh/xglue", "de1926389545bc73d13a5b850f2596bdaf463f72")
    }
    own = {"xglue-ner": "entity-f1", "xglue-mlqa": "mlqa-f1", "xglue-wpr": "xglue-ndcg"}
    assert {name: task.metric for name, task in tasks.items()} == {name: own.get(name, "accuracy") for name in XGLUE}


def test_files_of_ones_own_have_no_official_rows_and_keep_the_mean_where_their_names_fit(small):
    files = {"source": "files", "train": "a.parquet", "validation": {"test-en": "b.parquet", "test-de": "c.parquet"}}
    task = task_of(small, "xglue-xnli", **files)
    assert (task.id, task.counts, task.averaged) == (None, None, ("test-en", "test-de"))
    assert task.classes == ("entailment", "neutral", "contradiction")
    plain = task_of(small, "xglue-xnli", **files | {"validation": "b.parquet"})
    assert (plain.averaged, list(plain.evaluation_sets)) == ((), ["validation"])


def test_rows_of_the_sets_that_are_left_are_compared(small):
    task = task_of(small, "xglue-ner", validation={"validation-de": "validation.de", "test-en": "validation.en"}, rows=500)
    assert task.counts == {"train": 14_042, "validation-de": 2_874}, "test-en names another split"
    assert task.averaged == ("test-en",)
    assert task_of(small, "xglue-ner", counts=None).counts is None
    other = task_of(small, "xglue-ner", validation={"own": "validation.de"})
    assert (other.mean, other.averaged) == (None, ())


@pytest.mark.parametrize(
    ("name", "block", "problem"),
    [
        ("xglue-nc", {"mean": "dev"}, "mean: no evaluation set has a name that begins with 'dev-'; got validation-en, "),
        ("xglue-nc", {"counts": {"tests-en": 5}}, "counts: got 'tests-en'; allowed: train, validation-en, "),
        ("xglue-nc", {"validation": {"mean": "test.en"}}, "'train', 'selection' and 'mean' are not allowed as names"),
        ("docs-pair", {"counts": {"train": 5}}, "kind classification with source builtin has no counts"),
        ("docs-corpus", {"mean": "test"}, "kind text with source builtin has no mean"),
        (
            "xglue-mlqa",
            {"validation": {"test-fr": "test.fr"}},
            "from the end of its name, as in test-de; got 'test-fr'; allowed: ar",
        ),
        (
            "xglue-mlqa",
            {"no_answer": True},
            "mlqa-f1 is for questions that all have an answer; leave no_answer out, or use squad-f1",
        ),
    ],
)
def test_what_does_not_fit_is_refused(small, name, block, problem):
    with pytest.raises(ConfigError) as error:
        parse(small | {"plans": {}, "tasks": {name: block}})
    assert problem in str(error.value)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    xglue.work_in(xglue.write_hub(tmp_path, "xglue-qam"), monkeypatch)
    return tmp_path


def test_other_rows_than_the_official_ones_are_refused_with_all_splits_and_a_way_out(hub, small):
    with pytest.raises(UserError) as error:
        read_task("xglue-qam", task_of(small, "xglue-qam"))
    said = str(error.value)
    assert "hgissbkh/xglue split 'train': got 20 rows; needed: 100,000" in said
    assert "hgissbkh/xglue split 'test.fr': got 6 rows; needed: 10,000" in said
    assert said.endswith(
        "if the rows are right, counts: null in the task goes on with these rows, and rows: N takes a sample of them"
    )


def test_a_sample_counts_as_the_whole_that_it_is_of(hub, small):
    config = parse(small | {"tasks": {"xglue-qam": {"rows": 8, "counts": {"train": 20, "test-de": 6}}}})
    tables = read_task("xglue-qam", prepare_spec(config, "xglue-qam").task)
    assert tables.train.num_rows == 20, "the sample is drawn afterwards"
    assert json.loads(prepare_spec(config, "xglue-qam").model_dump_json())["task"]["counts"] == {"train": 20, "test-de": 6}


def test_local_files_are_read_whatever_their_numbers_of_rows(hub, small):
    task = task_of(small, "xglue-qam", **xglue.files(hub, "xglue-qam"))
    tables = read_task("xglue-qam", task)
    assert (tables.train.num_rows, len(tables.evaluation), tables.classes) == (20, 6, ("False", "True"))
