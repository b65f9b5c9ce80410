"""Messages about the configuration speak of YAML, not of Python."""

from __future__ import annotations

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
        ({"seeds": None}, ["seeds: got None; needed: a list"]),
        ({"seeds": ["a"]}, ["seeds.[0]: got 'a'; needed: a whole number"]),
        ({"project": 5}, ["project: got 5; needed: a text"]),
        ({"plans": {"sdp": {"method": "sdp", "path": 0.5}}}, ["plans.sdp.path: got 0.5; needed: a list, such as [0.5]"]),
        ({"plans": {"sdp": 5}}, ["plans.sdp: got 5; needed: a block of keys"]),
        ({"teacher": None}, ["teacher: got None; needed: a block of keys"]),
        ({"teacher": {"evaluate_train": 3}}, ["teacher.evaluate_train: got 3; needed: true or false"]),
        ({"bases": [1]}, ["bases: got [1]; needed: a block of keys"]),
        ({"bases": {"x": HUB}}, ["bases.x.id: got 'a b'; allowed: a name on the hub: owner/name, or name"]),
        ({"bases": {"x": WHEEL}}, ["bases.x.package: got 'x'; allowed: a pinned requirement: name==version"]),
        (
            {"bases": {"x": {"source": "local", "path": "x", "licence": "a b"}}},
            ["bases.x.licence: got 'a b'; allowed: an SPDX identifier such as Apache-2.0"],
        ),
        (
            {"tasks": {"mine": MINE | {"validation": 5}}},
            ["tasks.mine.validation: got 5; needed: a text", "tasks.mine.validation: got 5; needed: a block of keys"],
        ),
        ({"tasks": {"mine": MINE | {"validation": {"a": 1}}}}, ["tasks.mine.validation.a: got 1; needed: a text"]),
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
