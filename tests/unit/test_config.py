"""The configuration is read strictly; what is wrong is said at once, with place, value and what is allowed."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import yaml

from espalier.config import ConfigError, parse
from espalier.config.methods import AnyPlan

FILES = {"source": "files", "train": "a.csv", "validation": "b.csv"}
OWN = {"kind": "classification", **FILES, "text": ["text"], "label": "label", "metric": "accuracy"}
SDP = {"method": "sdp", "path": [0.5]}
NAMES = [get_args(plan.model_fields["method"].annotation)[0] for plan in get_args(get_args(AnyPlan)[0])]

BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    # kind of error: (blocks that replace those of a good configuration, message)
    "unknown key": ({"sedes": [1]}, "(top level): unknown key 'sedes'; did you mean 'seeds'?"),
    "unknown key in a plan": (
        {"plans": {"sdp": SDP | {"objektive": "cc"}}},
        "plans.sdp: unknown key 'objektive'; did you mean 'objective'?",
    ),
    "unknown key, two blocks deep": (
        {"plans": {"sdp": SDP | {"cc": {"lamda": 1.0}}}},
        "plans.sdp.cc: unknown key 'lamda'; allowed: beta, centre, normalise, off_diagonal",
    ),
    "missing block": ({"bases": None}, "bases: got nothing; needed: a block of keys"),
    "missing key": ({"plans": {"sdp": {"method": "sdp"}}}, "plans.sdp.path: missing; this key is required"),
    "missing method": ({"plans": {"sdp": {"path": [0.5]}}}, "plans.sdp.method: missing; this key is required"),
    "unknown method": (
        {"plans": {"sdp": {"method": "homodistill", "path": [0.5]}}},
        f"plans.sdp.method: got 'homodistill'; allowed: {', '.join(NAMES)}; did you mean 'homodistil'?",
    ),
    "unknown choice": ({"device": "gpu"}, "device: got 'gpu'; allowed: auto, cpu, cuda"),
    "text for a number": (
        {"teacher": {"learning_rate": "small"}},
        "teacher.learning_rate: got the text 'small'; a number is needed",
    ),
    "number out of range": ({"plans": {"sdp": SDP | {"path": [1.5]}}}, "plans.sdp.path.[0]: got 1.5; needed: less than 1"),
    "path of words": (
        {"plans": {"sdp": SDP | {"path": ["x"]}}},
        "plans.sdp.path.[0]: got the text 'x'; allowed: a sparsity such as 0.6, {parameters: 5M}, {latency_ms: 12.5} or",
    ),
    "target with a misspelt key": (
        {"plans": {"sdp": SDP | {"path": [{"speeedup": 4}]}}},
        "plans.sdp.path.[0]: unknown key 'speeedup'; did you mean 'speedup'?",
    ),
    "half a character": (
        {"plans": {"sdp": SDP | {"start": "\ud800"}}},
        r"plans.sdp.start: got '\ud800'; allowed: whole Unicode characters",
    ),
    "half a character in a name": ({"tasks": {"\udfff": {}}}, r"tasks: got '\udfff'; allowed: whole Unicode characters"),
    "target with an unknown key": (
        {"plans": {"sdp": SDP | {"path": [{"parameters": "5M", "batch_size": 1}]}}},
        "plans.sdp.path.[0]: unknown key 'batch_size'; allowed: parameters",
    ),
    "target without a number": (
        {"plans": {"sdp": SDP | {"path": [{"batch_size": 1}]}}},
        "plans.sdp.path.[0]: got no target; one of parameters, latency_ms, speedup is needed",
    ),
    "two targets in one": (
        {"plans": {"sdp": SDP | {"path": [{"speedup": 4, "parameters": "5M"}]}}},
        "plans.sdp.path.[0]: got parameters and speedup; one of parameters, latency_ms, speedup is needed",
    ),
    "speed-up that slows down": (
        {"plans": {"sdp": SDP | {"path": [{"speedup": 0.5}]}}},
        "plans.sdp.path.[0].speedup: got 0.5; needed: greater than 1",
    ),
    "no whole number of parameters": (
        {"plans": {"sdp": SDP | {"path": [{"parameters": "0.0005k"}]}}},
        "plans.sdp.path.[0].parameters: got '0.0005k'; allowed: a whole number such as 5000000, 800k or 5M",
    ),
    "no amount of parameters": (
        {"plans": {"sdp": SDP | {"path": [{"parameters": "5G"}]}}},
        "plans.sdp.path.[0].parameters: got '5G'; allowed: a whole number such as 5000000, 800k or 5M",
    ),
    "path of two kinds": (
        {"plans": {"sdp": SDP | {"path": [0.5, {"speedup": 4}]}}},
        "plans.sdp: path must have one kind of target, got sparsity and speedup",
    ),
    "path at two batch sizes": (
        {"plans": {"sdp": SDP | {"path": [{"speedup": 2}, {"speedup": 4, "batch_size": 1}]}}},
        "plans.sdp: path must keep to one batch_size and length, got 32 x 128 and 1 x 128",
    ),
    "sizes that grow": (
        {"plans": {"sdp": SDP | {"path": [{"parameters": "800k"}, {"parameters": "5M"}]}}},
        "plans.sdp: path must descend, got 5000000 after 800000",
    ),
    "speed-ups that fall": (
        {"plans": {"sdp": SDP | {"path": [{"speedup": 4}, {"speedup": 4}]}}},
        "plans.sdp: path must ascend, got 4.0 after 4.0",
    ),
    "latency too fine": (
        {"plans": {"sdp": SDP | {"path": [{"latency_ms": 12.3456}]}}},
        "plans.sdp: path has at most three decimals, got 12.3456",
    ),
    "speed-up of single weights": (
        {"plans": {"sdp": SDP | {"path": [{"speedup": 4}]}}},
        "plans.sdp: method sdp cannot aim at speedup; allowed: parameters, sparsity",
    ),
    "dense model of a size": (
        {"plans": {"d": {"method": "dense", "path": [{"parameters": "5M"}]}}},
        "plans.d: method dense removes nothing, so its path is [0.0]; got [5000000]",
    ),
    "path that falls": ({"plans": {"sdp": SDP | {"path": [0.9, 0.5]}}}, "plans.sdp: path must ascend, got 0.5 after 0.9"),
    "path too fine": ({"plans": {"sdp": SDP | {"path": [0.12345]}}}, "plans.sdp: path has at most three decimals, got 0.12345"),
    "dense that prunes": ({"plans": {"d": {"method": "dense", "path": [0.5]}}}, "plans.d: method dense removes nothing"),
    "name that is no path": ({"project": "../x"}, "project: got '../x'; allowed: lower-case letters, digits and hyphens"),
    "plan name that is no path": (
        {"plans": {"A b": SDP}},
        "plans.A b: got 'A b'; allowed: lower-case letters, digits",
    ),
    "reserved plan": ({"plans": {"teacher": SDP}}, "plans.teacher: this name is taken by the teacher itself"),
    "seed twice": ({"seeds": [1, 1]}, "seeds: a seed occurs twice, got [1, 1]"),
    "unknown task": ({"tasks": {"docs-libary": None}}, "tasks.docs-libary: not a known task; did you mean 'docs-library'?"),
    "metric of another kind": (
        {"tasks": {"mine": OWN | {"metric": "pearson"}}},
        "tasks.mine: metric 'pearson' does not fit kind classification; allowed: accuracy, f1, macro-f1, matthews",
    ),
    "file without a format": ({"tasks": {"mine": OWN | {"train": "a.xlsx"}}}, "tasks.mine: file 'a.xlsx' has no known format"),
    "files without files": (
        {"tasks": {"rte": {"source": "files"}}},
        "tasks.rte: kind classification with source files needs",
    ),
    "short commit": (
        {"bases": {"bert": {"source": "hub", "id": "google-bert/bert-base-uncased", "revision": "main"}}},
        "bases.bert.revision: got 'main'; allowed: a full git commit: 40 hexadecimal digits",
    ),
    "folder outside the wheel": (
        {"bases": {"b": {"source": "package", "package": "a==1", "folder": "../etc", "sha256": "0" * 64}}},
        "bases.b: folder '../etc' must lie inside the wheel",
    ),
    "statistic of part of a batch": (
        {"plans": {"sdp": SDP | {"micro_batch_size": 8}}},
        "plans.sdp: objective 'cc' is a statistic of the whole batch: micro_batch_size 8 below batch_size 32",
    ),
    "settings for a task that is not there": (
        {"teacher": {"per_task": {"docs-libary": {"epochs": 1.0}}}},
        "teacher.per_task.docs-libary: no such task; did you mean 'docs-library'?",
    ),
    "bad settings for one task": (
        {"teacher": {"per_task": {"docs-library": {"epoch": 1.0}}}},
        "teacher.per_task.docs-library: unknown key 'epoch'; did you mean 'epochs'?",
    ),
}


def problems(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(raw)
    return caught.value.problems


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_configuration_is_refused(small, change, message):
    found = problems(small | change)
    assert len(found) == 1
    assert found[0].startswith(message)


def test_all_problems_are_said_at_once(small):
    small |= {"sedes": [1], "device": "gpu", "project": "A", "tasks": {"nothing-known": {}}}
    small["plans"] = {"a": SDP | {"objektive": "cc"}, "b": {"method": "magnitude"}}
    found = problems(small)
    places = ["tasks.nothing-known", "project", "device", "plans.a", "plans.b.path", "(top level)"]
    assert sorted(line.split(":")[0] for line in found) == sorted(places)
    assert str(ConfigError(found)).splitlines()[0] == "the configuration has 6 problems:"


def test_numbers_may_lack_the_point(small):
    small["plans"]["sdp"]["learning_rate"] = yaml.safe_load("3e-5")
    assert parse(small).plans["sdp"].learning_rate == 3.0e-5


def test_settings_for_one_task_go_over_the_others(small):
    small["plans"]["sdp"]["per_task"] = {"docs-library": {"recover": {"epochs": 6.0}, "batch_size": 16}}
    plan = parse(small).plan_for("sdp", "docs-library")
    assert (plan.recover.epochs, plan.recover.learning_rate, plan.batch_size, plan.path) == (6.0, None, 16, (0.5, 0.9))


@pytest.mark.parametrize(
    ("task", "analyses", "problem"),
    [
        ("docs-pair", {"sdpp": ["errors"]}, "analyses.sdpp: no such plan; did you mean 'sdp'?; allowed: magnitude, sdp"),
        ("docs-span", {"sdp": ["errors"]}, "analyses.sdp: this plan runs on no task of kind classification, regression"),
        (
            "docs-pair",
            {"sdp": ["error"]},
            "analyses.sdp.[0]: got 'error'; allowed: representations, errors, weights; did you mean 'errors'?",
        ),
    ],
)
def test_an_analysis_that_would_never_run_is_refused(small, task, analyses, problem):
    with pytest.raises(ConfigError) as caught:
        parse(small | {"tasks": {task: None}, "analyses": analyses})
    assert caught.value.problems == [problem]


def test_pretraining_can_differ_between_tasks(small):
    small |= {"tasks": {"docs-corpus": None, "docs-pair": None}}
    small["pretrain"] = {"train": "all", "per_task": {"docs-corpus": {"epochs": 2.0}}}
    config = parse(small)
    assert config.pretrain.epochs is None and config.pretrain_for("docs-corpus").epochs == 2.0
    small["pretrain"]["per_task"]["docs-corpus"] = {"train": "heads"}
    with pytest.raises(ConfigError, match=r"pretrain\.per_task\.docs-corpus\.train: got 'heads'; allowed: head, all"):
        parse(small)
