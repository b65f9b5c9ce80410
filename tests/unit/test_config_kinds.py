"""What tasks with several labels, and tasks that rank, may say."""

from __future__ import annotations

import pytest

from espalier.config import ConfigError, parse

FILES = {"source": "files", "train": "a.jsonl", "validation": "b.parquet"}
TAGS = {"kind": "multilabel", **FILES, "text": ["title", "body"], "label": "tags", "metric": "micro-f1"}
GRADES = {"kind": "ranking", **FILES, "text": ["query", "title", "body"], "label": "grade", "metric": "ndcg@10"}


def problem_of(small: dict, task: dict, **changes: object) -> str:
    with pytest.raises(ConfigError) as error:
        parse(small | {"tasks": {"mine": task}} | changes)
    return str(error.value)


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        (
            {"label": None},
            "kind multilabel needs label, a column of lists, or classes, which without label are columns of 0 and 1",
        ),
        ({"train": "a.csv"}, "file 'a.csv' cannot hold lists; name the sign between labels as separator"),
        ({"label": None, "classes": ["a", "b"], "separator": ";"}, "separator is for one column of labels"),
        ({"label": None, "classes": ["a", "body"]}, "classes: got 'body', which is also a text column"),
        ({"holdout": 0.0}, "thresholds: global chooses on training rows that are held out, and holdout is 0.0"),
        ({"metric": "f1"}, "metric 'f1' does not fit kind multilabel; allowed: micro-f1, macro-f1, subset-accuracy"),
        ({"metric": None}, "kind multilabel with source files needs metric"),
        ({"query": "id"}, "kind multilabel with source files has no query"),
        ({"text": ["a", "b", "c", "d", "e"]}, "tasks.mine.text: got"),
        ({"template": ["{title}"]}, "template: no side names the text column 'body'"),
        ({"template": ["{title}", "{body}", "{title}"]}, "tasks.mine.template: got"),
    ],
)
def test_wrong_label_set_tasks_are_refused(small, block, problem):
    assert problem in problem_of(small, TAGS | block)


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ({"text": ["query"]}, "kind ranking reads two to four columns, the query first; text names 1: query"),
        ({"classes": ["a", "b"]}, "kind ranking with source files has no classes"),
        ({"metric": "ndcg@7"}, "tasks.mine.metric: got 'ndcg@7'; allowed: "),
        ({"query": "grade"}, "query: got 'grade', which is also the column of the labels"),
        ({"thresholds": "half"}, "kind ranking with source files has no thresholds"),
        ({"loss": "listwise"}, "tasks.mine.loss: got 'listwise'; allowed: pointwise, pairwise"),
    ],
)
def test_wrong_rankings_are_refused(small, block, problem):
    assert problem in problem_of(small, GRADES | block)


def test_keys_of_the_new_kinds_are_no_keys_of_others(small):
    task = {"kind": "classification", **FILES, "text": ["a"], "label": "b", "metric": "accuracy"}
    assert "kind classification with source files has no loss, thresholds" in problem_of(
        small, task | {"loss": "pairwise", "thresholds": "half"}
    )


@pytest.mark.parametrize("size", ["auto", 8])
def test_pairs_are_not_torn_by_micro_batches(small, size):
    task = GRADES | {"loss": "pairwise"}
    problem = problem_of(small, task, teacher={"micro_batch_size": size, "batch_size": 16})
    assert (
        f"teacher.micro_batch_size: got {size}; loss pairwise of task mine compares texts of a whole batch of 16 rows"
        in problem
    )
    parse(small | {"tasks": {"mine": GRADES}, "teacher": {"micro_batch_size": size, "batch_size": 16}})


@pytest.mark.parametrize("task", [TAGS, GRADES])
def test_what_needs_one_class_or_number_a_row_is_refused(small, task):
    allowed = "allowed for classification, regression"
    assert allowed in problem_of(small, task, teacher={"evaluate_train": True})
    assert "this plan runs on no task of kind" in problem_of(small, task, analyses={"sdp": ["weights"]})


def test_defaults_of_the_new_kinds(small):
    tasks = parse(small | {"tasks": {"tags": TAGS, "grades": GRADES}}).tasks
    assert (tasks["tags"].thresholds, tasks["tags"].holdout, tasks["tags"].loss) == ("global", 0.1, None)
    assert (tasks["grades"].loss, tasks["grades"].holdout, tasks["grades"].query) == ("pointwise", 0.0, None)
    assert tasks["tags"].columns == ("title", "body", "tags")


def test_xglue_s_search_tasks_can_be_said(small):
    """News classification, query and advertisement, pages of a web search, questions and answers."""
    pages = {"query": "query", "loss": "pointwise", "metric": "ndcg", "also": ["ndcg@5", "mrr"]}
    blocks = {
        "nc": {"kind": "classification", "text": ["news_title", "news_body"], "label": "news_category", "metric": "accuracy"},
        "qadsm": {
            **{"kind": "classification", "text": ["query", "ad_title", "ad_description"], "label": "relevance_label"},
            **{"classes": ["Bad", "Good"], "metric": "accuracy"},
        },
        "wpr": {
            "kind": "ranking",
            "text": ["query", "web_page_title", "web_page_snippet"],
            "label": "relevance_label",
            **pages,
        },
        "qam": {"kind": "classification", "text": ["question", "answer"], "label": "label", "metric": "accuracy"},
    }
    tasks = parse(small | {"tasks": {name: FILES | block for name, block in blocks.items()}}).tasks
    assert tasks["wpr"].metrics == ("ndcg", "ndcg@5", "mrr")
