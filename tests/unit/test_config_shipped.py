"""The shipped configuration is good and shows every key and default; the schema is current."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from test_config import OWN

from espalier.config import parse
from espalier.config.blocks import Block
from espalier.config.schema import schema

ROOT = Path(__file__).parents[2]
SHIPPED = (ROOT / "config.yaml").read_text()


def test_the_shipped_configuration_is_good():
    raw = yaml.safe_load(SHIPPED)
    jsonschema.validate(raw, schema())
    assert [plan.method for plan in parse(raw).plans.values()] == ["dense", "magnitude", "sdp", "cofi", "spd"]


def blocks(block: type[Block] = Block) -> list[type[Block]]:
    """All blocks that a configuration is made of."""
    found = [found for child in block.__subclasses__() for found in (child, *blocks(child))]
    return [found for found in found if found.__module__ != "espalier.config.job_specs"]


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
