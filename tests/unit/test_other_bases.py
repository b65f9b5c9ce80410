"""Plans whose students are made from another base: what is allowed, and where their files lie."""

from __future__ import annotations

import json
from typing import Any

import pytest

from espalier.config import parse
from espalier.config.blocks import ConfigError
from espalier.config.job_specs import compress_spec
from espalier.config.layout import Layout, check_files, needs_of
from espalier.config.project import Config
from espalier.config.reporting.specs import card_spec, report_spec
from espalier.provenance.job_environment import tell_jobs, told_needs
from tests.conftest import MINILM

HUB = {"source": "hub", "id": "who/what", "revision": 40 * "0", "licence": "MIT"}
TINY = {"method": "ready-made", "base": "tiny"}


@pytest.fixture
def study(small: dict[str, Any]) -> dict[str, Any]:
    """The small configuration with a second base and a plan on it."""
    small["bases"]["tiny"] = HUB
    small["plans"] |= {"tiny": TINY, "cofi": {"method": "cofi", "path": [0.6]}}
    return small


def problems(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        parse(raw)
    return error.value.problems


def test_a_base_of_such_a_plan_is_not_compressed(study):
    config = parse(study)
    layout = Layout(config)
    assert config.compressed_bases == ["minilm"] and config.ready_made == {"tiny": "tiny"}
    folders = layout.students()
    assert all(folder.startswith("results/small/minilm/") for folder in folders)
    assert "results/small/minilm/docs-library/seed42/tiny/0" in folders


def test_it_reads_the_other_base_s_tokens_and_starts_from_it(study):
    layout = Layout(parse(study))
    names = ("minilm", "docs-library", "42", "tiny", "0")
    assert layout.start(*names) == [f"results/small/bases/tiny/{file}" for file in ("config.json", "model.safetensors")]
    assert layout.tokens_read("minilm", "docs-library", "tiny")[0] == "results/small/tiny/docs-library/tokens/train.parquet"
    assert layout.tokens_read("minilm", "docs-library", "sdp")[0] == "results/small/minilm/docs-library/tokens/train.parquet"
    assert not layout.recovers("tiny", "docs-library")


def test_files_of_the_other_base_can_be_asked_for(study):
    layout = Layout(parse(study))
    assert layout.names_of({"base"}) == [{"base": "minilm"}, {"base": "tiny"}]
    assert {"base": "tiny", "task": "docs-library"} in layout.names_of({"base", "task"})
    assert not [names for names in layout.names_of({"base", "task", "seed"}) if names["base"] == "tiny"]


def test_the_other_base_needs_only_be_fine_tuned(study, monkeypatch):
    """CoFi cannot prune an mpnet, but an mpnet can be a rival of CoFi's students."""
    needs = needs_of(parse(study))
    assert set(needs["tiny"]) == {"method ready-made"} and "mpnet" in needs["tiny"]["method ready-made"]
    assert "mpnet" not in needs["minilm"]["method cofi"] and "method ready-made" not in needs["minilm"]
    monkeypatch.setenv("ESPALIER_BASE_USES", "")
    for variable in ("ESPALIER_PROCESSES", "ESPALIER_MEASURED_LENGTH"):
        monkeypatch.setenv(variable, "1")
    tell_jobs(1, 128, needs)
    assert told_needs("tiny") == needs["tiny"] and told_needs("minilm") == needs["minilm"]
    assert set(told_needs("another")) == {"teacher"}


def test_a_base_at_hand_is_checked_for_its_own_use(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results/small/bases"
    for base in ("tiny", "minilm"):
        (folder / base).mkdir(parents=True)
        (folder / base / "config.json").write_text(json.dumps({"model_type": "mpnet"}))
    with pytest.raises(ConfigError) as error:
        check_files(parse(study))
    [problem] = error.value.problems
    assert problem.startswith("bases.minilm: method cofi cannot work on model type 'mpnet'")


def test_specs_name_the_method_the_new_head_and_the_base(study):
    config = parse(study)
    spec = compress_spec(config, "docs-library", "tiny", 42, "0")
    assert spec.new_head and spec.before is None and spec.target == 0.0 and spec.plan.alpha == 0.5
    card = card_spec(config, "minilm", "docs-library", "tiny", 42, "0")
    assert (card.base, card.taught_by, card.licence) == ("tiny", "minilm", "MIT")
    assert card_spec(config, "minilm", "docs-library", "sdp", 42, "50").taught_by is None
    assert report_spec(config).methods["tiny"] == "ready-made"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no such base": (
        {"plans": {"a": TINY | {"base": "tinyy"}}},
        "plans.a.base: got 'tinyy'; allowed: minilm, tiny; did you mean 'tiny'?",
    ),
    "no base is left": (
        {"bases": {"tiny": HUB}, "plans": {"a": TINY}},
        "bases: every base is the start of a ready-made plan (a), so there is none to compress",
    ),
    "a target": (
        {"plans": {"a": TINY | {"path": [0.5]}}},
        "plans.a: a ready-made model is not made smaller, so its path is [0.0]; got [0.5]",
    ),
    "a recovery": (
        {"plans": {"a": TINY | {"recover": {"epochs": 1.0}}}},
        "plans.a: recover.epochs: got 1.0; nothing was removed, so raise epochs instead",
    ),
    "another start": ({"plans": {"a": TINY | {"start": "teacher"}}}, "plans.a.start: got 'teacher'; allowed: pretrained"),
    "another base for a task": (
        {"plans": {"a": TINY | {"per_task": {"docs-library": {"base": "minilm"}}}}},
        "plans.a.per_task.docs-library: base cannot differ between tasks; make another plan",
    ),
    "a start for others": (
        {"plans": {"a": TINY, "b": {"method": "sdp", "path": [0.5], "start": {"plan": "a", "at": 0.0}}}},
        "plans.b.start.plan: got 'a'; its students are made from another base, so nothing goes on from them",
    ),
    "analyses": (
        {"plans": {"a": TINY}, "analyses": {"a": ["weights"]}},
        "analyses.a: its students are made from another base; analyses compare layers of one base",
    ),
    "spans alone": (
        {"tasks": {"squad": None}, "plans": {"a": TINY}},
        "plans.a: method ready-made works on tasks of kind classification, multilabel, ranking, regression; "
        "the tasks here are of kind span; the tokenizer of another base cuts such texts into other rows than the teacher's",
    ),
    "the linear model's name": (
        {"plans": {"linear": {"method": "sdp", "path": [0.5]}}},
        "plans.linear: this name is taken by the linear model; choose another",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(small, case):
    changes, message = REFUSED[case]
    assert message in problems(small | {"bases": {"minilm": MINILM, "tiny": HUB}} | changes)


@pytest.mark.parametrize(("rivals", "expected"), [({}, ["docs-library", "stsb"]), ({"linear": False}, [])])
def test_linear_models_stand_beside_tasks_that_allow_them(small, rivals, expected):
    tasks = {"docs-library": None, "stsb": None, "squad": None, "docs-corpus": None}
    config: Config = parse(small | {"tasks": tasks, "rivals": rivals})
    assert config.linear_tasks == expected
    assert Layout(config).linear() == [f"results/small/prepared/{task}/linear.json" for task in expected]
