"""Rows that are longer than a base's positions are refused before anything is trained."""

from __future__ import annotations

import json
import re

import pytest

from espalier.config import ConfigError, parse
from espalier.config.layout import check_files
from espalier.config.lengths import longest_row
from espalier.data.tokenizer import open_tokenizer
from espalier.provenance.job_environment import MEASURED_LENGTH
from espalier.runtime.errors import UserError
from tests import tiny


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "camembert", "max_position_embeddings": 40, "pad_token_id": 0}, 39),
        ({"model_type": "deberta-v2", "max_position_embeddings": 512, "position_biased_input": False}, None),
        ({"model_type": "t5"}, None),
    ],
)
def test_positions(model, most):
    assert longest_row(model) == most


@pytest.mark.parametrize(("source", "folder"), [("local", "mine"), ("package", "results/small/bases/minilm")])
def test_a_base_at_hand_is_looked_into_before_the_first_job(small, tmp_path, monkeypatch, source, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / folder).mkdir(parents=True)
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / folder / name).touch()
    (tmp_path / folder / "config.json").write_text(json.dumps({"model_type": "bert", "max_position_embeddings": 512}))
    if source == "local":
        small["bases"] = {"minilm": {"source": "local", "path": folder}}
    check_files(parse(small))
    small["measure"] = {"length": 1024}
    small["tasks"]["docs-pair"] = {"max_length": 513}
    small["plans"]["spd"] = {"method": "spd", "path": [0.5], "pad_to": 600}
    with pytest.raises(ConfigError) as error:
        check_files(parse(small))
    assert error.value.problems == [
        "tasks.docs-pair.max_length: got 513; the base minilm takes at most 512 tokens",
        "measure.length: got 1024; the base minilm takes at most 512 tokens",
        "plans.spd.pad_to: got 600; the base minilm takes at most 512 tokens",
    ]


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_broken_base_is_left_to_fetch(small, tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).touch()
    (tmp_path / "config.json").write_text(content)
    small["bases"] = {"mine": {"source": "local", "path": str(tmp_path)}}
    check_files(parse(small))


@pytest.mark.parametrize(
    ("max_length", "measured", "message"),
    [
        (41, 16, "max_length: got 41; the base base takes at most 40 tokens"),
        (40, 41, "measure.length: got 41; the base base takes at most 40 tokens"),
    ],
)
def test_the_tokenizer_of_a_fetched_base(tmp_path, monkeypatch, max_length, measured, message):
    base = tiny.write_base(tmp_path / "base")
    assert open_tokenizer([base / "tokenizer.json"], 40), "a stage by itself is not told what will be measured"
    monkeypatch.setenv(MEASURED_LENGTH, str(measured))
    with pytest.raises(UserError, match=re.escape(message)):
        open_tokenizer([base / "tokenizer.json"], max_length)


def test_a_batch_is_not_padded_to_fewer_tokens_than_a_row_may_have(small):
    small["tasks"] = {"docs-library": {"max_length": 96}, "docs-pair": {"max_length": 64}}
    spd = {"method": "spd", "path": [0.5], "pad_to": 96}
    parse(small | {"plans": {"spd": spd}})
    with pytest.raises(ConfigError) as error:
        parse(small | {"plans": {"spd": spd | {"pad_to": 80, "per_task": {"docs-pair": {"pad_to": 32}}}}})
    assert error.value.problems == [
        f"plans.spd.pad_to: got {got}, but rows of {task} have up to {most} tokens; allowed: {most} or more, or null; or lower "
        f"tasks.{task}.max_length"
        for got, task, most in ((80, "docs-library", 96), (32, "docs-pair", 64))
    ]
