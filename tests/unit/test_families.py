"""Which methods work on which families: the tables are what the code can do, and other bases are refused before training."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

from espalier.config import ConfigError, parse
from espalier.config.families import ENCODERS, HEADED, NARROWED, RECORDABLE, STRUCTURED, families_with, family_problems
from espalier.config.layout import check_files, needs_of
from espalier.models.encoder import prunable_weights
from espalier.models.modeling_espalier import FAMILIES
from espalier.models.onnx import write_onnx
from espalier.provenance.job_environment import tell_jobs
from espalier.pruning.widths import SUPPORTED
from espalier.runtime.errors import UserError
from espalier.stages.data import fetch
from tests import tiny

HEADS = (
    *(AutoModelForSequenceClassification, AutoModelForQuestionAnswering, AutoModelForMaskedLM),
    AutoModelForTokenClassification,
)
OTHERS = [family for family in ENCODERS if family not in STRUCTURED]
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24}
TOKENS = {"vocab_size": 60, "max_position_embeddings": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MORE = {"mobilebert": {"embedding_size": 16, "true_hidden_size": 16, "intra_bottleneck_size": 16}}
"""Further sizes of a family."""
PLANS = {
    "sdp": {"method": "sdp", "path": [0.5]},
    "tight": {"method": "cofi", "path": [0.5]},
    "grafted": {"method": "spd", "path": [0.5]},
    "sublayers": {"method": "cofi", "path": [0.5], "gates": ["units", "attention", "ffn", "hidden"]},
    "units": {"method": "heads", "path": [0.5], "parts_to_prune": ["units"]},
    "plain": {"method": "spd", "path": [0.5], "attention_weight": 0.0},
    "narrow": {"method": "homodistil", "path": [0.5]},
}
TEXT = {"kind": "text", "source": "files", "train": "a.txt", "validation": "a.txt", "text": ["text"]}


def study(tmp_path: Path, model: dict | None, *plans: str):
    """A study of these plans whose base has this config.json."""
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).touch()
    (tmp_path / "a.txt").write_text("a text")
    if model is not None:
        (tmp_path / "config.json").write_text(json.dumps(model))
    words = {"words": {**TEXT, "train": str(tmp_path / "a.txt"), "validation": str(tmp_path / "a.txt")}}
    return parse(
        {
            "project": "families",
            "bases": {"mine": {"source": "local", "path": str(tmp_path)}},
            "tasks": {"docs-library": {}, **(words if "narrow" in plans else {})},
            "plans": {name: PLANS[name] for name in plans},
        }
    )


def problems(config) -> list[str]:
    try:
        check_files(config)
    except ConfigError as error:
        return error.problems
    return []


def test_the_tables_are_those_of_the_code():
    assert tuple(FAMILIES) == STRUCTURED and SUPPORTED == NARROWED
    assert tuple(name for name, family in FAMILIES.items() if family.dispatches) == RECORDABLE
    assert tuple(name for name, family in FAMILIES.items() if not family.head_table) == HEADED
    assert ENCODERS[: len(STRUCTURED)] == STRUCTURED


@pytest.mark.parametrize("family", OTHERS)
def test_other_encoders_have_every_head_and_all_their_matrices_are_found(family):
    config = AutoConfig.for_model(family, **SIZES, **TOKENS, **MORE.get(family, {}))
    for auto in HEADS:
        if family not in families_with(auto.__name__):
            with pytest.raises(ValueError, match="Unrecognized configuration class"):
                auto.from_config(config)
            continue
        model = auto.from_config(config)
        logits = model(**tiny.padded_batch())[0]
        assert torch.isfinite(logits).all()
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert prunable_weights(model).keys() == {name for name in linear if re.search(r"\.layers?\.\d+\.", name)}


@pytest.mark.parametrize("family", STRUCTURED)
def test_families_of_the_table_have_the_heads_that_are_said(family):
    known = {auto.__name__ for auto in HEADS if FAMILIES[family].config in auto._model_mapping}
    assert known == {auto.__name__ for auto in HEADS if family in families_with(auto.__name__)}


@pytest.mark.slow
@pytest.mark.parametrize("family", OTHERS)
def test_other_encoders_can_be_exported(family, tmp_path):
    torch.manual_seed(0)
    write_onnx(
        AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, **SIZES, **TOKENS, **MORE.get(family, {}))),
        tmp_path / "m.onnx",
    )


@pytest.mark.parametrize(
    ("family", "plans", "said"),
    [
        ("mpnet", ["tight"], "method cofi cannot work on model type 'mpnet'; supported: bert, roberta, xlm-roberta,"),
        ("mpnet", ["grafted"], "method spd cannot work on model type 'mpnet'; supported: bert, roberta,"),
        ("mpnet", ["narrow"], "method homodistil cannot work on model type 'mpnet'; supported: bert, roberta,"),
        ("gte", ["narrow"], "reason: it rotates the dimensions of a head in pairs"),
        ("new", ["sdp"], "'new'; supported: bert"),
        ("new", ["sdp"], "; reason: the code of such a model comes with it, and none is ever run"),
        ("deberta-v2", ["grafted"], "method spd cannot work on model type 'deberta-v2'; supported: bert, roberta,"),
        ("modernbert", ["narrow"], "method homodistil cannot work on model type 'modernbert'; supported: bert, roberta,"),
        ("albert", ["sdp"], "teacher and method sdp cannot work on model type 'albert'; supported: bert, roberta,"),
        ("gpt2", ["sdp", "tight"], "teacher, method sdp and method cofi cannot work on model type 'gpt2'; supported: bert,"),
        ("squeezebert", ["sdp"], "cannot work on model type 'squeezebert'; supported: bert,"),
        ("t5", ["sdp"], "cannot work on model type 't5'; supported: bert,"),
        ("bart", [], "teacher cannot work on model type 'bart'; supported: bert,"),
        ("no-such-thing", ["sdp"], "cannot work on model type 'no-such-thing'; supported: bert,"),
    ],
)
def test_a_base_that_a_method_cannot_work_on_is_refused_before_the_first_job(tmp_path, family, plans, said):
    (problem,) = problems(study(tmp_path, {"model_type": family}, *plans))
    assert problem.startswith("bases.mine: ") and said in problem


@pytest.mark.parametrize(
    ("model", "plans"),
    [
        ({"model_type": "mpnet"}, ["sdp", "plain", "sublayers", "units"]),
        ({"model_type": "gte"}, ["sdp", "tight", "grafted"]),
        ({"model_type": "eurobert"}, ["sdp", "plain"]),
        ({"model_type": "deberta-v2"}, ["sdp", "tight", "plain"]),
        ({"model_type": "modernbert"}, ["sdp", "tight", "grafted"]),
        ({"model_type": "bert"}, list(PLANS)),
        ({"model_type": "compact-bert"}, ["tight"]),
        ({"model_type": "electra", "embedding_size": 64, "hidden_size": 64}, ["narrow"]),
    ],
)
def test_a_base_that_all_methods_work_on_is_taken(tmp_path, model, plans):
    assert problems(study(tmp_path, model, *plans)) == []


@pytest.mark.parametrize(
    ("model", "plans", "said"),
    [
        (
            {"model_type": "bert", "is_decoder": True},
            ["sdp"],
            "this bert model is no encoder, so teacher and method sdp cannot",
        ),
        (
            {"model_type": "deberta-v2", "conv_kernel_size": 3},
            ["tight"],
            "method cofi cannot work on a deberta-v2 model with conv",
        ),
        ({"model_type": "deberta-v2", "relative_attention": True}, ["tight"], "without layer_norm in norm_rel_ebd"),
        (
            {"model_type": "electra"},
            ["narrow"],
            "method homodistil cannot work on an electra model that projects its embeddings",
        ),
        ({"model_type": "bert", "auto_map": {"AutoModel": "own.Own"}}, ["sdp"], "'auto_map' asks to run code"),
    ],
)
def test_parts_that_stand_in_the_way_are_named(tmp_path, model, plans, said):
    (problem,) = problems(study(tmp_path, model, *plans))
    assert problem.startswith("bases.mine: ") and said in problem


def test_settings_of_one_task_count_too(tmp_path):
    config = study(tmp_path, {"model_type": "mpnet"}, "plain")
    changed = json.loads(config.model_dump_json(exclude_none=True))
    changed["plans"]["plain"]["per_task"] = {"docs-library": {"attention_weight": 1.0}}
    (problem,) = problems(parse(changed))
    assert "method spd cannot work on model type 'mpnet'" in problem


def test_a_base_that_is_fetched_already_is_looked_into(tmp_path, monkeypatch, small):
    monkeypatch.chdir(tmp_path)
    folder = Path("results/small/bases/minilm")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (problem,) = problems(parse(small))
    assert "bases.minilm: teacher, method magnitude and method sdp cannot work on model type 'gpt2'" in problem


def test_fetch_refuses_what_the_methods_of_the_study_cannot_work_on(tmp_path, monkeypatch):
    """Of a base in a wheel or on the hub, planning knows nothing."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    tiny.write_base(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"model_type": "mpnet"}))
    tell_jobs(1, 128, needs_of(study(tmp_path, None, "tight", "sdp")))
    with pytest.raises(UserError, match=r"method cofi cannot work on model type 'mpnet'; supported: bert, roberta"):
        get(tmp_path)


def get(base: Path) -> Path:
    """Fetch a base from a folder."""
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "source.json")
    out = base / "out/mine"
    paths = {Path(name).stem.replace("model", "weights"): out / name for name in names}
    fetch.run(json.dumps({"base": {"source": "local", "path": str(base)}}), **paths)
    return out


def test_fetch_alone_refuses_decoders(tmp_path):
    tiny.write_base(tmp_path)
    config = GPT2Config(vocab_size=64, n_embd=8, n_layer=1, n_head=1, n_positions=16)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"teacher cannot work on model type 'gpt2'; supported: bert"):
        get(tmp_path)


def test_one_message_for_methods_with_the_same_families():
    said = family_problems("bases.x", {"model_type": "mpnet"}, {"method cofi": HEADED, "method heads": HEADED})
    assert len(said) == 1 and said[0].startswith("bases.x: method cofi and method heads cannot work on model type 'mpnet'")
