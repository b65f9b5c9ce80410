"""Messages about the configuration speak of YAML, not of Python."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from functools import reduce
from operator import getitem

import pytest

from espalier.config import ConfigError, parse

MINE = {
    "kind": "classification",
    "source": "files",
    "train": "a.csv",
    "text": ["text"],
    "label": "label",
    "metric": "accuracy",
}
HUB = {"source": "hub", "id": "a b", "revision": 40 * "0"}
WHEEL = {"source": "package", "package": "x", "folder": "x", "sha256": 64 * "0"}


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"seeds": 42}, ["seeds: got 42; needed: a list, such as [42]"]),
        ({"seeds": [1, 1]}, ["seeds: a seed occurs twice, got [1, 1]"]),
        ({"seeds": None}, ["seeds: got nothing; needed: a list"]),
        ({"seeds": ["a"]}, ["seeds.[0]: got 'a'; needed: a whole number"]),
        ({"project": 5}, ["project: got 5; needed: a text, in quotes: '5'"]),
        ({"plans": {"sdp": {"method": "sdp", "path": 0.5}}}, ["plans.sdp.path: got 0.5; needed: a list, such as [0.5]"]),
        ({"plans": {"sdp": 5}}, ["plans.sdp: got 5; needed: a block of keys"]),
        ({"teacher": None}, ["teacher: got nothing; needed: a block of keys"]),
        ({"teacher": {"evaluate_train": 3}}, ["teacher.evaluate_train: got 3; needed: true or false"]),
        ({"bases": [1]}, ["bases: got [1]; needed: a block of keys"]),
        ({"bases": {}}, ["bases: got {}; needed: at least 1 entry"]),
        ({"tasks": {"mine": MINE | {"text": []}}}, ["tasks.mine.text: got []; needed: at least 1 item"]),
        ({"tasks": {"mine": MINE | {"classes": ["a"]}}}, ["tasks.mine.classes: got ['a']; needed: at least 2 items"]),
        ({"teacher": {"epochs": None}}, ["teacher.epochs: got nothing; needed: a number"]),
        ({"measure": {"repeats": [{"a": True}]}}, ["measure.repeats: got [{a: true}]; needed: a whole number"]),
        ({"plans": {}, "analyses": {"sdp": ["weights"]}}, ["analyses.sdp: there are no plans"]),
        ({"bases": {"x": HUB}}, ["bases.x.id: got 'a b'; allowed: a name on the hub: owner/name, or name"]),
        ({"bases": {"x": WHEEL}}, ["bases.x.package: got 'x'; allowed: a pinned requirement: name==version"]),
        (
            {"bases": {"x": {"source": "local", "path": "x", "licence": "a b"}}},
            ["bases.x.licence: got 'a b'; allowed: an SPDX identifier such as Apache-2.0"],
        ),
        (
            {"tasks": {"mine": MINE | {"validation": 5}}},
            [
                "tasks.mine.validation: got 5; needed: a text, in quotes: '5'",
                "tasks.mine.validation: got 5; needed: a block of keys",
            ],
        ),
        (
            {"tasks": {"mine": MINE | {"validation": {"a": 1}}}},
            ["tasks.mine.validation.a: got 1; needed: a text, in quotes: '1'"],
        ),
        (
            {"tasks": {"mine": MINE | {"validation": {"str": {}}}}},
            ["tasks.mine.validation.str: got {}; needed: a text"],
        ),
    ],
)
def test_what_is_said(small, changes, problems):
    with pytest.raises(ConfigError) as error:
        parse(small | changes)
    assert error.value.problems == problems


WHOLE = {
    "project": "p",
    "seeds": [1],
    "bases": {"one": WHEEL | {"package": "x==1"}, "two": {"source": "local", "path": "x"}, "three": HUB | {"id": "a/b"}},
    "tasks": {"mine": MINE | {"validation": {"a": "b.csv"}, "classes": ["a", "b"], "rows": 5}},
    "teacher": {"epochs": 1.0, "per_task": {"mine": {"epochs": 2.0}}},
    "plans": {
        "sdp": {"method": "sdp", "path": [0.5], "start": "teacher", "recover": {"epochs": 1.0}},
        "cofi": {"method": "cofi", "path": [{"speedup": 2.0}], "gates": ["heads"]},
        "next": {"method": "magnitude", "path": [0.9], "start": {"plan": "sdp", "at": 0.5}},
    },
    "analyses": {"sdp": ["weights"]},
    "measure": {"batch_sizes": [1], "length": 128},
}
WRONG = [None, {}, [], "", "x", 5, 1.5, True, [None], {"a": 1}, {"a": {}}, [{}], [[]], float("inf")]
OF_PYDANTIC = re.compile(r"[Ii]nput|after validation|Dictionary|Tuple|String|valid |'\w+': ")
OF_PYTHON = re.compile(r"\b(None|True|False|str|int|dict|tuple)\b")


def test_no_wrong_value_brings_out_the_words_of_pydantic():
    """Every value of a configuration, replaced by empty blocks, nothing, lists in place of blocks and the like."""
    said = {problem for place in _places(WHOLE) for value in WRONG for problem in _problems(_replaced(WHOLE, place, value))}
    assert len(said) > 300 and [problem for problem in said if OF_PYDANTIC.search(problem) or OF_PYTHON.search(problem)] == []


def _places(value: object, place: tuple = ()) -> Iterator[tuple]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*place, key)
        yield from _places(inner, (*place, key))


def _replaced(configuration: dict, place: tuple, value: object) -> dict:
    changed = copy.deepcopy(configuration)
    *parents, last = place
    reduce(getitem, parents, changed)[last] = value
    return changed


def _problems(configuration: dict) -> list[str]:
    try:
        parse(configuration)
    except ConfigError as error:
        return error.problems
    return []
