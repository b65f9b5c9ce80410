"""What the user can put right is said before the first job, in plain words."""

from __future__ import annotations

import json

import pytest


def refusal(clone, *arguments: str) -> str:
    result = clone.snakemake("--dry-run", *arguments)
    assert result.returncode != 0
    message = result.stdout + result.stderr  # a dry run says everything on stdout, errors too
    assert "Building DAG" not in message
    assert "Traceback" not in message
    return message


def test_a_bad_configuration_is_refused_with_all_its_problems(clone, small):
    small["sedes"] = [1]
    small["plans"]["sdp"]["objective"] = "cca"
    small["plans"]["magnitude"]["sparsty"] = 0.5
    clone.write_config(small)
    message = refusal(clone)
    assert "the configuration has 3 problems:" in message
    assert "(top level): unknown key 'sedes'; did you mean 'seeds'?" in message
    assert "plans.sdp.objective: got 'cca'; allowed: kld, cos, cc, cc+kld" in message
    assert "plans.magnitude: unknown key 'sparsty'" in message


def test_missing_files_are_named_together(clone, small):
    small["bases"]["mine"] = {"source": "local", "path": "models/mine"}
    small["tasks"]["rte"] = {"source": "files", "train": "no/train.parquet", "validation": {"easy": "no/easy.csv"}}
    clone.write_config(small)
    message = refusal(clone)
    assert f"tasks.rte.train: no such file: {clone.folder}/no/train.parquet" in message
    assert f"tasks.rte.validation.easy: no such file: {clone.folder}/no/easy.csv" in message
    assert f"bases.mine.path: no such file: {clone.folder}/models/mine/config.json" in message


@pytest.mark.parametrize("name", ["config.yaml", "other.yaml"])
def test_a_key_that_stands_twice_is_refused(clone, small, name):
    file = clone.write_config(small, name)
    file.write_text(file.read_text() + "project: again\n")
    lines = len(file.read_text().splitlines())
    message = refusal(clone, *(["--configfile", name] if name != "config.yaml" else []))
    assert f"{name}, line {lines}: the key 'project' stands in line " in message


def test_a_syntax_error_is_said_with_its_line(clone):
    (clone.folder / "config.yaml").write_text("project: [\n")
    assert "config.yaml, line 2, column 1: this is not YAML: " in refusal(clone)


@pytest.mark.parametrize("text", ["", "- a list\n"])
def test_a_file_that_is_no_configuration_is_refused(clone, text):
    (clone.folder / "config.yaml").write_text(text)
    assert "onfig file" in refusal(clone)


@pytest.mark.parametrize("family", ["mpnet", "gpt2", "t5", "no-such-family"])
def test_a_base_that_no_method_of_the_study_works_on_is_refused(clone, small, family):
    folder = clone.folder / "mine"
    folder.mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        (folder / name).touch()
    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    small["bases"] = {"mine": {"source": "local", "path": "mine"}}
    small["plans"]["tight"] = {"method": "cofi", "path": [0.5]}
    clone.write_config(small)
    message = refusal(clone)
    assert (
        "bases.mine: " in message and f"method cofi cannot work on model type '{family}'; supported: bert, roberta" in message
    )
