"""docs/config-examples: every file is a good configuration that Snakemake can plan."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from espalier.config import Config, parse
from espalier.config.layout import task_files
from espalier.config.schema import schema

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/config-examples"
EXAMPLES = sorted(FOLDER.glob("*.yaml"))

PLANNED = {
    "own-data": {"finetune", "compress cofi 90", "compress dense 0", "recover cofi 90", "report"},
    "tokens": {"finetune", "compress sdp 90", "recover cofi 60", "report"},
    "several-labels": {"finetune", "decide sdp 80", "export cofi 90", "linear", "report"},
    "ranking": {"finetune", "compress small 90", "export cofi 90", "linear", "report"},
    "own-teacher": {"admit", "compress cofi 90", "export teacher 0", "report"},
    "hub": {"finetune", "compress sdp 80", "recover magnitude 50", "report"},
    "cluster": {"finetune 43", "compress 44 cofi 95", "recover 43 magnitude 70", "report"},
    "speed-target": {"latency", "compress faster 8x", "compress smaller 2M-parameters", "report"},
    "homodistil-then-cofi": {"pretrain", "compress narrow 50", "specialise fine-tuned 30", "compress cofi 80", "report"},
    "sentence-encoder": {"collect", "finetune", "compress sdp 75", "export_vectors cofi 75", "report"},
    "few-labels": {"collect", "finetune", "compress cofi 90", "compress magnitude 60", "report"},
}
"""Example → some of the jobs that its plan must contain."""


def read(example: Path) -> Config:
    return parse(yaml.safe_load(example.read_text()))


def test_every_example_is_planned_here_and_named_in_the_readme():
    readme = (FOLDER / "README.md").read_text()
    assert {example.stem for example in EXAMPLES} == set(PLANNED)
    assert re.findall(r"\]\(([\w-]+\.yaml)\)", readme) == [f"{name}.yaml" for name in PLANNED]
    assert len(readme.splitlines()) <= 20


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_good(example):
    text = example.read_text()
    jsonschema.validate(yaml.safe_load(text), schema())
    assert read(example).project == example.stem
    assert max(map(len, text.splitlines())) <= 128
    assert (example.parent / re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)[1]).is_file()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_can_be_planned(clone, example):
    config = read(example)
    for task in config.tasks:
        for path in task_files(config, task).values():
            pretend(clone.folder / path)
    for base in config.bases.values():
        if base.source == "local":
            for name in ("config.json", "model.safetensors", "tokenizer.json"):
                pretend(clone.folder / base.path / name)

    jobs = clone.jobs("--configfile", str(example))
    assert jobs >= PLANNED[example.stem]


def pretend(file: Path) -> None:
    """An empty JSON file in place of a user's file; planning does not look inside."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{}")
