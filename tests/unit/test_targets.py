"""Targets: their words in paths, their order, and the sparsity that they ask for."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError

from espalier.config import ConfigError, parse
from espalier.config.job_specs import CompressSpec, TaskGoal, compress_spec, recover_spec
from espalier.config.methods.structured import CofiPlan
from espalier.config.targets import PERCENT, Latency, Parameters, Speedup, Target, percent_of, position, stage_of
from espalier.models.files import write_model
from espalier.pruning.aims import aim_of, sparsity_target
from espalier.results.places import Place
from espalier.results.summary import SUMMARISED, groups
from espalier.runtime.errors import UserError
from tests import tiny

READ = TypeAdapter(Target)
WORDS = [
    (0.0, "0"),
    (0.5, "50"),
    (0.975, "97.5"),
    ({"parameters": 5_000_000}, "5M-parameters"),
    ({"parameters": "5M"}, "5M-parameters"),
    ({"parameters": "5.5M"}, "5500k-parameters"),
    ({"parameters": "800k"}, "800k-parameters"),
    ({"parameters": "1000k"}, "1M-parameters"),
    ({"parameters": 1_234_567}, "1234567-parameters"),
    ({"latency_ms": 12.5}, "12.5ms"),
    ({"latency_ms": 1234.567}, "1234.567ms"),
    ({"speedup": 4}, "4x"),
    ({"speedup": 10.0, "batch_size": 1, "length": 64}, "10x"),
]


@pytest.mark.parametrize(("item", "word"), WORDS, ids=[str(item) for item, _ in WORDS])
def test_a_target_has_one_word(item, word):
    target = READ.validate_python(item)
    assert percent_of(target) == word
    assert re.fullmatch(PERCENT, word)
    assert READ.validate_json(READ.dump_json(target)) == target


@pytest.mark.parametrize("word", ["", "x", "4xx", "5M", "5", "5G-parameters", "1.5M-parameters", "-1", "a", ".5", "5.", "ms"])
def test_other_words_stand_for_no_target(word):
    assert bool(re.fullmatch(PERCENT, word)) == (word == "5")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ([0.5, 0.9, 0.975], ["50", "90", "97.5"]),
        (
            [{"parameters": "10M"}, {"parameters": "5M"}, {"parameters": "800k"}, {"parameters": 9}],
            ["10M-parameters", "5M-parameters", "800k-parameters", "9-parameters"],
        ),
        ([{"latency_ms": 100.0}, {"latency_ms": 12.5}, {"latency_ms": 9.0}], ["100ms", "12.5ms", "9ms"]),
        ([{"speedup": 1.5}, {"speedup": 4.0}, {"speedup": 10.0}], ["1.5x", "4x", "10x"]),
    ],
    ids=["sparsity", "parameters", "latency", "speed-up"],
)
def test_positions_and_table_rows_follow_the_path_and_not_the_alphabet(path, words):
    targets = TypeAdapter(tuple[Target, ...]).validate_python(path)
    assert [percent_of(target) for target in targets] == words
    assert all(earlier < later for earlier, later in pairwise(map(position, words)))
    places = [Place("b", "t", 1, "p", word) for word in words]
    shuffled = places[1:] + places[:1]
    assert sorted(shuffled, key=lambda place: place.order) == places
    assert [place.target for place in places] == (path if isinstance(path[0], float) else [None] * len(path))


def table(**columns: list) -> pd.DataFrame:
    names = dict.fromkeys(("base", "task", "plan", "method", "metric"), "x")
    values = dict.fromkeys((*SUMMARISED, "teacher_score"), 0.5)
    return pd.DataFrame([names | values] * 2).assign(**columns)


def test_groups_are_named_by_the_word_of_their_target():
    found = groups(table(target=[None, None], stage=["2x", "10x"]))
    assert [(group.target, group.percent) for group in found] == [(None, "2x"), (None, "10x")]
    found = groups(table(target=[0.5, 0.975], stage=["50", "97.5"]))
    assert [(group.target, group.percent) for group in found] == [(0.5, "50"), (0.975, "97.5")]


def test_tables_of_before_the_words_still_have_groups():
    assert [group.percent for group in groups(table(target=[0.5, 0.975]))] == ["50", "97.5"]


def test_a_stage_knows_the_target_before():
    path = (Speedup(speedup=2.0), Speedup(speedup=4.0))
    assert stage_of(path, "2x") == (path[0], None)
    assert stage_of(path, "4x") == (path[1], path[0])


@pytest.mark.parametrize("item", [None, True, "0.5", [0.5], {"parameters": 5e6}, {"parameters": True}, {"latency_ms": 0}])
def test_what_is_no_target_is_refused(item):
    with pytest.raises(ValidationError):
        READ.validate_python(item)


@pytest.mark.parametrize("make", [compress_spec, recover_spec])
def test_a_job_reads_its_target_and_the_one_before(small, make):
    small["plans"]["sdp"]["path"] = [{"parameters": "5M"}, {"parameters": "800k"}]
    config = parse(small)
    assert make(config, "docs-library", "sdp", 42, "5M-parameters").before is None
    spec = make(config, "docs-library", "sdp", 42, "800k-parameters").model_dump_json()
    wanted = CompressSpec.model_validate_json(spec)
    assert (wanted.before, wanted.target) == (Parameters(parameters=5_000_000), Parameters(parameters=800_000))
    assert wanted.plan.path == (Parameters(parameters=800_000),), "a job has no other target of the path"
    assert type(wanted.plan) is type(config.plans["sdp"])


def test_a_speed_must_be_measured_where_it_is_asked_for(small):
    small["plans"] = {"fast": {"method": "cofi", "path": [{"speedup": 4, "batch_size": 8, "length": 64}]}}
    with pytest.raises(ConfigError) as caught:
        parse(small)
    assert caught.value.problems == [
        "plans.fast.path: batch_size 8 is not measured; write measure.batch_sizes: [1, 8, 32]",
        "plans.fast.path: length 64 is not measured; write measure.length: 64, or length: 128 here",
    ]
    small["measure"] = {"batch_sizes": [8], "length": 64}
    assert parse(small).plans["fast"].path == (Speedup(speedup=4.0, batch_size=8, length=64),)


def test_the_latency_table_s_folder_is_no_base(small):
    small["bases"] = {"latency": small["bases"]["minilm"]}
    with pytest.raises(ConfigError, match=r"bases.latency: this name is taken by the project itself"):
        parse(small)


def spec(before: Target | None, target: Target) -> CompressSpec:
    plan, goal = CofiPlan(method="cofi", path=(target,)), TaskGoal(kind="classification", metric="accuracy")
    return CompressSpec.model_construct(before=before, plan=plan, goal=goal)


def test_a_size_is_a_sparsity_of_the_dense_model():
    assert sparsity_target(0.6, 0) == 0.6
    assert sparsity_target(Parameters(parameters=250), 1000) == 0.75
    with pytest.raises(UserError, match=r"parameters: got 1,000; the dense encoder's matrices have 1,000, ask for fewer"):
        sparsity_target(Parameters(parameters=1000), 1000)


def test_sizes_are_counted_in_the_teacher(tmp_path):
    files = [tmp_path / "config.json", tmp_path / "model.safetensors"]
    write_model(tiny.classifier(), *files)
    dense = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    aim = aim_of(spec(Parameters(parameters=dense // 2), Parameters(parameters=dense // 8)), files, [])
    assert aim == (0.5, 0.875, None, 0.0)


def test_a_sparsity_needs_no_file():
    assert aim_of(spec(None, 0.6), [], []) == (0.0, 0.6, None, 0.0)


def test_a_speed_up_is_a_part_of_the_table_s_dense_latency(tmp_path):
    curve = {"sizes": [0, 4], "times_ms": [0.0, 20.0]}
    (tmp_path / "table.json").write_text(json.dumps({"layers": 2, "attention": curve, "ffn": curve, "rest_ms": 20.0}))
    for before, target in [(None, Speedup(speedup=4.0)), (Speedup(speedup=2.0), Latency(latency_ms=25.0))]:
        aim = aim_of(spec(before, target), [], [tmp_path / "table.json"])
        assert (aim.before, aim.target) == (0.5 if before else 0.0, 0.75)
        assert (aim.latency.target_ms, aim.latency.table.dense_ms) == (25.0, 100.0)
    for target in (Latency(latency_ms=100.0), Speedup(speedup=5.0)):
        with pytest.raises(UserError, match=r"allowed: above 20.0 ms \(embeddings and head alone\), below 100.0 ms"):
            aim_of(spec(None, target), [], [tmp_path / "table.json"])
