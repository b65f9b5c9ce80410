"""Values of the command line are read as YAML and written over the file's."""

from __future__ import annotations

import pytest
import yaml

from espalier.config import ConfigError
from espalier.config.command_line import take_command_line


def taken(*arguments: str, file: str = "") -> dict:
    """What is left of a configuration after these arguments."""
    configuration = yaml.safe_load(file) or {}
    take_command_line(configuration, arguments)
    return configuration


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("seeds=[1,2]", {"seeds": [1, 2]}),
        ("teacher={epochs: 9.0, checkpoint: best}", {"teacher": {"epochs": 9.0, "checkpoint": "best"}}),
        ("processes=2", {"processes": 2}),
        ("micro=null", {"micro": None}),
        ("micro=", {"micro": None}),
        ("flag=true", {"flag": True}),
        (
            "plans={sdp: {path: [0.5, 0.9], recover: {epochs: 0.0}}}",
            {"plans": {"sdp": {"path": [0.5, 0.9], "recover": {"epochs": 0.0}}}},
        ),
        ('project="2024"', {"project": "2024"}),
        ("project='2024'", {"project": "2024"}),
        ("tasks={mine: {classes: ['1', '2']}}", {"tasks": {"mine": {"classes": ["1", "2"]}}}),
        ("path=a=b", {"path": "a=b"}),
        ("tasks={mine: {path: 'a: b, [c]'}}", {"tasks": {"mine": {"path": "a: b, [c]"}}}),
    ],
)
def test_a_value_is_yaml(argument, value):
    assert taken(argument) == value


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["teacher={epochs: 9.0}"], {"teacher": {"epochs": 9.0, "batch_size": 32}, "seeds": [42]}),
        (["teacher={epochs: 9.0}", "teacher={batch_size: 8}"], {"teacher": {"epochs": 9.0, "batch_size": 8}, "seeds": [42]}),
        (["seeds=[1]"], {"teacher": {"epochs": 4.0, "batch_size": 32}, "seeds": [1]}),
        (["teacher=null"], {"teacher": None, "seeds": [42]}),
        (["teacher=null", "teacher={epochs: 1.0}"], {"teacher": {"epochs": 1.0}, "seeds": [42]}),
    ],
)
def test_blocks_are_merged_and_the_rest_is_replaced(arguments, value):
    assert taken(*arguments, file="{teacher: {epochs: 4.0, batch_size: 32}, seeds: [42]}") == value


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("seeds=[1, 2", "--config seeds, line 1, column 6: this is not YAML: while parsing a flow sequence"),
        ("teacher={epochs: 1.0, epochs: 2.0}", "--config teacher, line 1: the key 'epochs' stands in line 1 already"),
        ("project=*x", "--config project, line 1, column 1: this is not YAML: found undefined alias 'x'"),
    ],
)
def test_what_is_refused(argument, problem):
    with pytest.raises(ConfigError) as error:
        taken(argument)
    assert error.value.problems[0].startswith(problem)
