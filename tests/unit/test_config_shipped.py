"""The shipped configuration is good and short, and its comments are true; the schema is current."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
import yaml
from test_config import OWN

from espalier.config import parse
from espalier.config.known_tasks import KNOWN
from espalier.config.methods import METHODS
from espalier.config.project import Config
from espalier.config.schema import schema
from espalier.config.training import Training

ROOT = Path(__file__).parents[2]
SHIPPED = (ROOT / "config.yaml").read_text()


def test_the_shipped_configuration_is_good():
    raw = yaml.safe_load(SHIPPED)
    jsonschema.validate(raw, schema())
    assert [plan.method for plan in parse(raw).plans.values()] == ["sdp", "cofi", "ready-made"]


def test_it_is_short_and_names_its_schema():
    lines = SHIPPED.splitlines()
    assert len(lines) <= 80 and max(map(len, lines)) <= 128
    assert lines[0] == "# yaml-language-server: $schema=workflow/schemas/config.schema.json"


def test_it_says_where_the_other_keys_are_explained():
    assert "docs/configuration.md" in SHIPPED
    for path in re.findall(r"docs/[\w./-]*\w", SHIPPED):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"[\w-]+\.yaml", SHIPPED):
        assert (ROOT / "docs/config-examples" / name).is_file(), name


def test_its_comments_name_every_method_and_every_known_task():
    comments = " ".join(line.partition("#")[2] for line in SHIPPED.splitlines())
    missing = [name for name in [*METHODS, *KNOWN] if not re.search(rf"(?<![\w-]){name}(?![\w-])", comments)]
    assert not missing


def test_the_choices_in_its_comments_are_those_of_the_schema():
    stated = dict(re.findall(r"^ *(\w+): \w+ +# (\w+(?: \| \w+)+)$", SHIPPED, re.MULTILINE))
    allowed = {"device": Config, "precision": Config, "checkpoint": Training}
    assert stated == {key: " | ".join(get_args(block.model_fields[key].annotation)) for key, block in allowed.items()}


def test_what_it_comments_out_can_be_used():
    uncommented = re.sub(r"^( *)# (?= *[\w-]+:(?: |$))", r"\1", SHIPPED.partition("\n")[2], flags=re.MULTILINE)
    raw = yaml.safe_load(uncommented)
    assert "analyses" in raw and "max_length" in raw["tasks"]["docs-order"]
    parse(raw)


def test_the_schema_is_current():
    assert json.loads((ROOT / "workflow/schemas/config.schema.json").read_text()) == schema(), "run `make schema`"


@pytest.mark.parametrize("change", [{"sedes": [1]}, {"device": "gpu"}, {"tasks": {"mine": {}}}, {"tasks": {"A": OWN}}])
def test_the_schema_refuses_what_the_program_refuses(small, change):
    jsonschema.validate(small, schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(small | change, schema())
