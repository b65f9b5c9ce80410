"""Settings of tasks that could never work, or never take effect, are refused."""

from __future__ import annotations

import re

import pytest

from espalier.config import ConfigError, parse

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
    ],
)
def test_a_task_that_cannot_be(small, changes, message):
    small["tasks"]["mine"] = MINE | changes
    with pytest.raises(ConfigError, match=re.escape(f"tasks.mine: {message}")):
        parse(small)


def test_two_classes_have_an_f1(small):
    small["tasks"]["mine"] = MINE | {"metric": "f1", "classes": ["a", "b"]}
    assert parse(small).tasks["mine"].metrics == ("f1",)
