"""Configurations of embedding tasks and of texts without labels: what is refused, in which words, and what is left aside."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from espalier.config import ConfigError, parse
from espalier.config.job_specs import compress_spec, export_spec, finetune_spec, prepare_spec, readers
from espalier.config.kinds.checks import left_aside
from espalier.config.layout import Layout, task_files
from espalier.config.reporting.specs import card_spec

VECTORS = {
    **{"kind": "embedding", "source": "files", "train": "t.csv", "text": ["a", "b"], "label": "score"},
    **{"validation": {"pairs": "p.csv", "search": "s.jsonl"}, "retrieval": {"search": ["query", "right"]}},
    **{"metric": "spearman", "also": ["recall-at-10"]},
}
CLASSES = {
    **{"kind": "classification", "source": "files", "train": "t.csv", "validation": "v.csv", "text": ["text"]},
    **{"label": "label", "metric": "accuracy", "unlabelled": {"files": ["more.csv"], "rows": 100, "share": 0.25}},
}
NUMBERS = CLASSES | {"kind": "regression", "metric": "spearman"}
GRADES = CLASSES | {"kind": "ranking", "metric": "ndcg", "text": ["query", "text"], "label": "grade"}
SPAN = {
    **{"kind": "span", "source": "files", "train": "t.jsonl", "validation": "v.jsonl", "text": ["question", "context"]},
    **{"label": "answers", "metric": "squad-f1"},
}
CORPUS = {"kind": "text", "source": "files", "train": "t.txt", "validation": "v.txt", "text": ["text"]}
MEAN = {"method": "sdp", "path": [0.5], "representation": "mean"}


def study(task: dict[str, Any], plans: dict[str, Any] | None = None, **others: Any) -> dict[str, Any]:
    content = {
        "project": "meant",
        "bases": {"tiny": {"source": "local", "path": "tiny"}},
        "tasks": {"mine": task},
        "plans": plans or {"sdp": MEAN},
    }
    return copy.deepcopy(content | others)


def without(block: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key not in keys}


PAIRS_ALONE = without(VECTORS, "retrieval") | {"validation": "p.csv", "also": []}
REFUSED = {
    "an unknown retrieval set": (
        study(VECTORS | {"retrieval": {"serch": ["query", "right"]}}),
        "tasks.mine: retrieval: got 'serch', which is no evaluation set; allowed: pairs, search",
    ),
    "one column twice": (
        study(VECTORS | {"retrieval": {"search": ["query", "query"]}}),
        "tasks.mine: retrieval.search: got 'query' twice; needed: the column of queries and another one",
    ),
    "three columns": (
        study(VECTORS | {"retrieval": {"search": ["query", "right", "wrong"]}}),
        "tasks.mine.retrieval.search: got",
    ),
    "pairs without a score": (
        study(without(VECTORS, "label")),
        "tasks.mine: evaluation set 'pairs' has pairs of texts with a score, which needs label and two columns of text",
    ),
    "pairs in one column": (
        study(VECTORS | {"text": ["a"]}),
        "tasks.mine: evaluation set 'pairs' has pairs of texts with a score, which needs label and two columns of text",
    ),
    "a score for retrieval alone": (
        study(VECTORS | {"validation": {"search": "s.jsonl"}, "metric": "recall-at-1", "also": []}),
        "tasks.mine: label: got 'score', but every evaluation set is one of retrieval, which has no scores",
    ),
    "a metric of the other form": (
        study(VECTORS | {"metric": "recall-at-1", "also": ["spearman"]}),
        "tasks.mine: metric: got 'recall-at-1'; the first evaluation set, 'pairs', is measured by one of spearman, pearson",
    ),
    "a set without a metric": (
        study(VECTORS | {"also": []}),
        "tasks.mine: also: no metric fits the evaluation set 'search'; add one of recall-at-1, recall-at-5, recall-at-10",
    ),
    "a metric without a set": (
        study(PAIRS_ALONE | {"also": ["recall-at-5"]}),
        "tasks.mine: also: got 'recall-at-5', which fits no evaluation set; validation have the other form",
    ),
    "a metric of another kind": (
        study(VECTORS | {"metric": "accuracy"}),
        "tasks.mine: metric 'accuracy' does not fit kind embedding; allowed: spearman, pearson, recall-at-1",
    ),
    "rows held out": (study(VECTORS | {"holdout": 0.1}), "tasks.mine: kind embedding with source files has no holdout"),
    "classes": (study(VECTORS | {"classes": ["x", "y"]}), "tasks.mine: kind embedding with source files has no classes"),
    "retrieval of another kind": (
        study(CLASSES | {"retrieval": {"validation": ["x", "y"]}}),
        "tasks.mine: kind classification with source files has no retrieval",
    ),
    "a method that learns from labels": (
        study(VECTORS, {"magnitude": {"method": "magnitude", "path": [0.5]}}),
        "; the tasks here are of kind embedding; it trains on labels, which rows of this kind do not have",
    ),
    "a small encoder of others": (
        study(
            VECTORS,
            {"ready": {"method": "ready-made", "base": "other"}, "sdp": MEAN},
            bases={name: {"source": "local", "path": name} for name in ("tiny", "other")},
        ),
        "another base has vectors of another space",
    ),
    "masked words": (
        study(VECTORS, {"homodistil": {"method": "homodistil", "path": [0.5]}}),
        "its students learn to guess masked words under a teacher that guesses them",
    ),
    "the first token": (
        study(VECTORS, {"sdp": without(MEAN, "representation")}),
        "plans.sdp.representation: got first-token; models of mine give the mean over all tokens; allowed: mean (for this task "
        "alone: per_task: {mine: {representation: mean}})",
    ),
    "distillation without weight": (
        study(VECTORS, {"distil": {"method": "distil", "path": [0.5], "alpha": 0.0}}),
        "plans.distil: method distil compares with no output of the teacher as it is set, and rows of mine have no labels",
    ),
    "a teacher that is not trained": (
        study(VECTORS, teacher={"per_task": {"mine": {"epochs": 1.0}}}),
        "; mine is of kind embedding",
    ),
    "texts beside questions": (
        study(SPAN | {"unlabelled": {"files": ["more.jsonl"]}}),
        "tasks.mine: unlabelled: a task of kind span has no texts without labels: its answers are places in a context",
    ),
    "texts beside a corpus": (
        study(CORPUS | {"unlabelled": {"files": ["more.csv"]}}, {"homodistil": {"method": "homodistil", "path": [0.5]}}),
        "tasks.mine: unlabelled: a task of kind text has no texts without labels: its own rows have no labels",
    ),
    "no file": (study(CLASSES | {"unlabelled": {"files": []}}), "tasks.mine.unlabelled.files: got []; needed: at least 1 item"),
    "a file of another format": (
        study(CLASSES | {"unlabelled": {"files": ["more.txt"]}}),
        "tasks.mine: unlabelled: file 'more.txt' has no known format; allowed: .parquet, .csv, .tsv, .jsonl",
    ),
    "half a pair": (
        study(CLASSES | {"text": ["a", "b"], "unlabelled": {"files": [{"path": "more.csv", "text": ["a"]}]}}),
        "tasks.mine: unlabelled: file 'more.csv': got 1 column of text; 2 columns make a row, so 2 are needed",
    ),
    "a column twice": (
        study(CLASSES | {"unlabelled": {"files": [{"path": "more.csv", "text": ["a", "a"]}]}}),
        "tasks.mine: unlabelled: file 'more.csv': a column of text occurs twice, got a, a",
    ),
    "nothing but texts": (
        study(CLASSES | {"unlabelled": {"files": ["m.csv"], "share": 1.0}}),
        "tasks.mine.unlabelled.share: got 1.0",
    ),
    "no texts at all": (study(CLASSES | {"unlabelled": {"files": ["m.csv"], "rows": 0}}), "tasks.mine.unlabelled.rows: got 0"),
    "a number for a file": (study(CLASSES | {"unlabelled": {"files": [3]}}), "got 3; allowed: a path, or {path: …, text: […]}"),
    "a key that is not there": (
        study(CLASSES | {"unlabelled": {"files": ["m.csv"], "shares": 0.5}}),
        "tasks.mine.unlabelled: unknown key 'shares'; did you mean 'share'?",
    ),
    "texts that nobody would read": (
        study(CLASSES, {"magnitude": {"method": "magnitude", "path": [0.5]}}),
        "tasks.mine.unlabelled: no plan on this task compares with the teacher's outputs, so nothing would read these texts; "
        "plans here: magnitude",
    ),
    "whole queries beside texts": (
        study(GRADES | {"loss": "pairwise"}),
        "unlabelled: loss pairwise fills batches with whole queries, among which texts without grades have no place; write",
    ),
    "gold grades": (
        study(GRADES, {"spd": {"method": "spd", "path": [0.5]}}),
        "plans.spd.pred.regression_target: got gold, the labels, which the texts of tasks.mine.unlabelled lack; allowed: tea",
    ),
    "gold numbers": (
        study(NUMBERS, {"spd": {"method": "spd", "path": [0.5]}}),
        "plans.spd.pred.regression_target: got gold, the labels, which the texts of tasks.mine.unlabelled lack; allowed: tea",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_before_any_job(name):
    content, message = REFUSED[name]
    with pytest.raises(ConfigError) as error:
        parse(content)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "task",
    [
        VECTORS,
        PAIRS_ALONE,
        without(VECTORS, "label") | {"text": ["a"], "validation": {"search": "s.jsonl"}, "metric": "recall-at-5", "also": []},
        VECTORS | {"unlabelled": {"files": ["more.csv", {"path": "other.csv", "text": ["x", "y", "z"]}]}},
        CLASSES,
        NUMBERS,
    ],
)
def test_what_can_be_is_taken(task):
    assert parse(study(task)).tasks["mine"].kind == task["kind"]


def test_texts_are_the_business_of_plans_that_distil():
    plans = {"sdp": MEAN, "magnitude": {"method": "magnitude", "path": [0.5]}, "distil": {"method": "distil", "path": [0.5]}}
    config = parse(study(CLASSES, plans | {"plain": plans["distil"] | {"alpha": 0.0}}))
    layout = Layout(config)
    texts = "results/meant/tiny/mine/tokens/unlabelled.parquet"
    read = {plan: texts in layout.training_tokens("tiny", "mine", plan) for plan in config.plans}
    assert read == {"sdp": True, "magnitude": False, "distil": True, "plain": False}
    shares = {plan: compress_spec(config, "mine", plan, 1, "50").goal.share for plan in config.plans}
    assert shares == {"sdp": 0.25, "magnitude": None, "distil": 0.25, "plain": None}
    assert set(readers(config, "mine")) == {"sdp", "distil"}, "stored outputs are for plans with these rows"
    assert layout.taught_tokens("tiny", "mine")[1:] == [texts]
    assert task_files(config, "mine")["unlabelled.files.[0]"] == "more.csv"


def test_the_teacher_and_the_rows_know_nothing_of_the_texts():
    with_texts, bare = parse(study(CLASSES)), parse(study(without(CLASSES, "unlabelled")))
    for make in (finetune_spec, lambda config, task, seed: prepare_spec(config, task)):
        assert make(with_texts, "mine", 1) == make(bare, "mine", 1)


def test_what_is_left_aside_is_said():
    plans = {"sdp": MEAN, "magnitude": {"method": "magnitude", "path": [0.5]}}
    said = (
        "plans.magnitude leaves tasks.mine.unlabelled aside: nothing in its loss compares with the teacher, so it trains on the"
    )
    [line] = left_aside(parse(study(CLASSES, plans)))
    assert line.startswith(said)
    both = study(without(CLASSES, "unlabelled"), plans)
    both["tasks"]["vectors"] = VECTORS
    assert left_aside(parse(both)) == [
        "plans.magnitude does not run on vectors, of kind embedding: it trains on labels, which rows of this kind do not have"
    ]


def test_a_base_that_teaches_is_trained_by_no_setting():
    plain, other = (parse(study(VECTORS, teacher=block)) for block in ({}, {"epochs": 7.0, "learning_rate": 1.0}))
    assert finetune_spec(plain, "mine", 1) == finetune_spec(other, "mine", 1)


def test_a_vector_is_that_of_one_text():
    config = parse(study(VECTORS))
    assert export_spec(config, "mine").text == ("a",)
    assert not card_spec(config, "tiny", "mine", "sdp", 1, "50").pair
    assert config.linear_tasks == []
