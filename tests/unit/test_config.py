"""The configuration is read strictly; what is wrong is said at once, with place, value and what is allowed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml

from espalier.config import ConfigError, parse
from espalier.config.base import Block
from espalier.config.methods import AnyPlan
from espalier.config.schema import schema
from espalier.config.specs import pack_spec, prepare_spec
from espalier.tasks import KNOWN

ROOT = Path(__file__).parents[2]
SHIPPED = (ROOT / "config.yaml").read_text()
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
    "missing block": ({"bases": None}, "bases: got None; needed: dictionary"),
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
    "seed twice": ({"seeds": [1, 1]}, "seeds: each seed once, got [1, 1]"),
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


def test_a_known_task_keeps_what_the_user_does_not_say(small):
    task = parse(small | {"tasks": {"rte": FILES}}).tasks["rte"]
    assert (task.text, task.metric, task.classes) == (("sentence1", "sentence2"), "accuracy", ("entailment", "not_entailment"))
    assert (task.source, task.id, task.revision) == ("files", None, None)


def test_numbers_may_lack_the_point(small):
    small["plans"]["sdp"]["learning_rate"] = yaml.safe_load("3e-5")
    assert parse(small).plans["sdp"].learning_rate == 3.0e-5


def test_settings_for_one_task_go_over_the_others(small):
    small["plans"]["sdp"]["per_task"] = {"docs-library": {"recover": {"epochs": 6.0}, "batch_size": 16}}
    plan = parse(small).plan_for("sdp", "docs-library")
    assert (plan.recover.epochs, plan.recover.learning_rate, plan.batch_size, plan.path) == (6.0, None, 16, (0.5, 0.9))


QUESTIONS = {"kind": "span", **FILES, "text": ["question", "context"], "label": "answers", "metric": "squad-f1"}
QUESTIONS |= {"train": "a.parquet", "validation": "b.jsonl"}


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ({"text": ["question"]}, "kind span reads two columns, question and context; text names 1: question"),
        ({"train": "a.csv"}, "file 'a.csv' has no known format; allowed: .parquet, .jsonl"),
        ({"metric": "f1"}, "metric 'f1' does not fit kind span; allowed: squad-f1, exact-match"),
        ({"classes": ["a", "b"]}, "kind span with source files has no classes"),
        ({"stride": 384}, "stride must be smaller than max_length; got 384 and 384"),
        ({"max_length": 128}, "stride must be smaller than max_length; got 128 and 128"),
    ],
)
def test_spans_are_configured_as_spans(small, block, problem):
    with pytest.raises(ConfigError) as error:
        parse(small | {"tasks": {"mine": QUESTIONS | block}})
    assert problem in str(error.value)


def test_spans_have_defaults_of_their_own(small):
    task = parse(small | {"tasks": {"mine": QUESTIONS | {"stride": None}}}).tasks["mine"]
    assert (task.max_length, task.stride, task.max_answer_length) == (384, 128, 30)
    assert parse(small).tasks["docs-library"].stride is None
    assert parse(small | {"tasks": {"mine": QUESTIONS | {"max_length": 64, "stride": 0}}}).tasks["mine"].stride == 0


def test_the_known_tasks_are_complete(small):
    tasks = parse(small | {"tasks": dict.fromkeys(KNOWN)}).tasks
    assert len(tasks) == 14
    assert list(tasks["mnli"].evaluation_sets) == ["matched", "mismatched"]


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ({"text": ["a", "b"]}, "kind text reads one column; text names 2: a, b"),
        ({"holdout": 0.1}, "kind text with source files has no holdout"),
        ({"metric": "accuracy"}, "kind text with source files has no metric"),
        ({"train": "a.doc"}, "file 'a.doc' has no known format; allowed: .parquet, .csv, .tsv, .jsonl, .txt"),
        ({"validation": None}, "kind text with source files needs validation"),
        ({"stride": 4}, "kind text with source files has no stride"),
    ],
)
def test_a_text_task_has_no_labels_and_one_column(small, block, problem):
    known = {"kind": "text", "source": "files", "train": "a.txt", "validation": "b.parquet", "text": ["text"]}
    small |= {"tasks": {"mine": known}, "plans": {}}
    assert parse(small).tasks["mine"].metrics == ("masked-accuracy", "perplexity")
    small["tasks"]["mine"] = known | block
    with pytest.raises(ConfigError, match=re.escape(f"tasks.mine: {problem}")):
        parse(small)


def test_only_text_is_read_from_text_files(small):
    small["tasks"] = {"rte": {"source": "files", "train": "a.txt", "validation": "b.csv"}}
    with pytest.raises(ConfigError, match=r"file 'a\.txt' has no known format; allowed: \.parquet, \.csv, \.tsv, \.jsonl"):
        parse(small)


def test_a_plan_needs_a_task_that_it_can_work_on(small):
    small["tasks"] = {"docs-corpus": None}
    with pytest.raises(ConfigError) as caught:
        parse(small)
    tail = "works on tasks of kind classification, regression, span; the tasks here are of kind text"
    assert caught.value.problems == [f"plans.{name}: method {name} {tail}" for name in ("magnitude", "sdp")]
    small["tasks"]["docs-pair"] = None
    parse(small)


def test_training_rows_of_spans_and_of_text_are_not_scored(small):
    small |= {"tasks": {"docs-corpus": None, "docs-pair": None, "docs-span": None}}
    for name in ("teacher", "pretrain"):
        small[name] = {"evaluate_train": True}
    small["plans"]["sdp"]["evaluate_train"] = True
    tail = "allowed for classification, regression"
    with pytest.raises(ConfigError) as caught:
        parse(small)
    places = {"teacher": "docs-span is of kind span", "pretrain": "docs-corpus is of kind text"}
    places = {**places, "plans.sdp": "docs-span is of kind span"}
    assert set(caught.value.problems) == {f"{place}.evaluate_train: task {what}; {tail}" for place, what in places.items()}
    without = {"per_task": {"docs-span": {"evaluate_train": False}}}
    small["teacher"] |= without
    small["plans"]["sdp"] |= without
    del small["pretrain"]
    assert parse(small).plan_for("sdp", "docs-pair").evaluate_train


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


def test_the_number_of_packed_rows_is_no_business_of_prepare(small):
    small |= {"tasks": {"docs-corpus": {"rows": 50}, "docs-pair": {"rows": 60}}}
    config = parse(small)
    assert prepare_spec(config, "docs-corpus").task.rows is None and pack_spec(config, "docs-corpus").rows == 50
    assert prepare_spec(config, "docs-pair").task.rows == 60


def test_the_shipped_configuration_is_good():
    raw = yaml.safe_load(SHIPPED)
    jsonschema.validate(raw, schema())
    assert [plan.method for plan in parse(raw).plans.values()] == ["dense", "magnitude", "sdp", "cofi", "spd"]


def blocks(block: type[Block] = Block) -> list[type[Block]]:
    """All blocks that a configuration is made of."""
    found = [found for child in block.__subclasses__() for found in (child, *blocks(child))]
    return [found for found in found if found.__module__ != "espalier.config.specs"]


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.__name__)
def test_the_shipped_configuration_shows_every_key(block):
    keys = re.findall(r"(?<![\w-])\w+(?=:)|(?<=^#   )\w+(?=  )", SHIPPED, re.MULTILINE)
    shared = re.search(r"^#   (.*): as for the teacher$", SHIPPED, re.MULTILINE)[1].split(", ")
    assert set(block.model_fields) <= {*keys, *shared}


def test_the_shipped_configuration_states_the_defaults(small):
    raw, default = yaml.safe_load(SHIPPED), parse(small)
    for name in ("teacher", "measure", "progress"):
        block, shipped = getattr(default, name), getattr(parse(small | {name: raw[name]}), name)
        for key in type(block).model_fields:
            if getattr(shipped, key) != getattr(block, key):
                stated = re.search(rf"^  {key}: .*\(default ([^,;)]+)", SHIPPED, re.MULTILINE)
                assert stated, f"{name}.{key} is not the default, and its comment does not state the default"
                assert yaml.safe_load(stated[1]) == getattr(block, key)
    commented = re.findall(r"^#   +(\w+): (.+?)  +#", SHIPPED, re.MULTILINE)
    settings = [(name, field.default) for block in blocks() for name, field in block.model_fields.items()]
    for name in ("dense_epochs", "prune_steps", "prune_schedule", "objective", "representation", "off_diagonal", "beta_cos"):
        stated = {yaml.safe_load(value) for key, value in commented if key == name}
        assert stated == {default for key, default in settings if key == name}, name  # methods may differ


def test_every_line_of_the_shipped_configuration_fits():
    assert max(map(len, SHIPPED.splitlines())) <= 128
    assert SHIPPED.startswith("# yaml-language-server: $schema=workflow/schemas/config.schema.json\n")


def test_the_schema_is_current():
    assert json.loads((ROOT / "workflow/schemas/config.schema.json").read_text()) == schema(), "run `make schema`"


@pytest.mark.parametrize("change", [{"sedes": [1]}, {"device": "gpu"}, {"tasks": {"mine": {}}}, {"tasks": {"A": OWN}}])
def test_the_schema_refuses_what_the_program_refuses(small, change):
    jsonschema.validate(small, schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(small | change, schema())
