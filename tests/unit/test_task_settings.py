"""Settings of tasks that could never work, or never take effect, are refused."""

from __future__ import annotations

import re

import pytest

from espalier.config import ConfigError, parse
from espalier.config.kinds import FINE_TUNED, LABELLED

ALL = ", ".join(sorted(LABELLED))
TRAINED = ", ".join(sorted(FINE_TUNED))

MINE = {
    "kind": "classification",
    "source": "files",
    "train": "a.csv",
    "validation": "b.csv",
    "text": ["text"],
    "label": "label",
    "metric": "accuracy",
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "f1", "classes": ["a", "b", "c"]}, "metric f1 needs 2 classes; got 3; use macro-f1"),
        ({"also": ["f1"], "classes": ["a", "b", "c"]}, "metric f1 needs 2 classes; got 3; use macro-f1"),
        ({"classes": ["a", "b", "a"]}, "classes: a name occurs 2 times: 'a'"),
        ({"text": ["text", "text"]}, "text: a name occurs 2 times: 'text'"),
        ({"text": ["text", "label"]}, "label: got 'label', which is also a text column; name the column of the labels"),
    ],
)
def test_a_task_that_cannot_be(small, changes, message):
    small["tasks"]["mine"] = MINE | changes
    with pytest.raises(ConfigError, match=re.escape(f"tasks.mine: {message}")):
        parse(small)


def test_two_classes_have_an_f1(small):
    small["tasks"]["mine"] = MINE | {"metric": "f1", "classes": ["a", "b"]}
    assert parse(small).tasks["mine"].metrics == ("f1",)


@pytest.mark.parametrize("name", ["rte", "docs-libary"])
def test_what_is_not_built_in(small, name):
    small["tasks"][name] = {"kind": "classification", "source": "builtin", "text": ["a"], "label": "b", "metric": "accuracy"}
    with pytest.raises(ConfigError, match=f"tasks.{name}.source: there is no built-in task of this name") as error:
        parse(small)
    assert "built in: docs-library, docs-pair, docs-order, docs-span, docs-corpus" in str(error.value)


@pytest.mark.parametrize(
    ("place", "task", "message"),
    [
        ("teacher", "docs-corpus", f"works on tasks of kind {TRAINED}; docs-corpus is of kind text"),
        ("pretrain", "docs-library", "works on tasks of kind text; docs-library is of kind classification"),
        ("plans.sdp", "docs-corpus", f"works on tasks of kind {ALL}; docs-corpus is of kind text"),
    ],
)
def test_per_task_of_a_kind_that_never_runs(small, place, task, message):
    small["tasks"]["docs-corpus"] = None
    owner = small["plans"]["sdp"] if place == "plans.sdp" else small.setdefault(place, {})
    owner["per_task"] = {task: {"epochs": 1.0}}
    with pytest.raises(ConfigError, match=re.escape(f"{place}.per_task.{task}: {place} {message}")):
        parse(small)
