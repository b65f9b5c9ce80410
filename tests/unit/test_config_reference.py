"""docs/configuration.md: the committed page is the generated one, and every key is explained on it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import yaml

from espalier.config import parse
from espalier.config.blocks import Block
from espalier.config.explanations import ORIGINS, Explanation, as_sentences, explanation, read_explanation
from espalier.config.project import Config
from espalier.config.reference import PLANS, page
from espalier.config.reference_tables import as_yaml, range_of, slug, type_of
from espalier.config.schema import schema

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/configuration.md").read_text()


NO_SETTINGS = (
    *("espalier.config.job_specs", "espalier.config.deployment.specs", "espalier.config.teachers.specs"),
    *("espalier.config.reporting.specs", "espalier.config.kinds.specs"),
    "espalier.config.pictures",
)


def blocks(parent: type[Block] = Block) -> list[type[Block]]:
    """All settings classes: every block except specifications of jobs, and what methods declare for the report."""
    children = [block for child in parent.__subclasses__() for block in (child, *blocks(child))]
    return list(dict.fromkeys(block for block in children if block.__module__ not in NO_SETTINGS))


BLOCKS = blocks()


def keys(block: type[Block]) -> list[str]:
    """Keys that need an explanation: all but those with a single value, which select the class, such as `method: sdp`."""
    return [
        key
        for key, field in block.model_fields.items()
        if not (field.is_required() and get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1)
    ]


def test_the_committed_page_is_the_generated_one():
    assert page() == PAGE, "run `make docs-pages`"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_every_key_has_a_sentence_a_unit_or_a_range_and_an_origin(block):
    properties = block.model_json_schema()["properties"]
    sections = {known.__name__: known.__name__ for known in BLOCKS}
    for key in keys(block):
        said = explanation(block, key)
        assert re.match(r"[A-Z0-9].*\.$", said.sentence), (key, said)
        assert said.unit or range_of(properties[key], sections), (key, said)
        assert block.model_fields[key].is_required() != (said.origin in ORIGINS), (
            f"{key}: a default, and no key else, has an origin"
        )


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_every_key_is_on_the_page(block):
    for key in keys(block):
        sentence = explanation(block, key).sentence.replace("|", r"\|")
        assert re.search(rf"</a>`{key}` \|[^\n]*\| {re.escape(sentence)} \|$", PAGE, re.MULTILINE), key


def test_every_method_has_a_section_and_a_link_to_its_page():
    for method in PLANS:
        section = re.search(rf"^### Method {method}\n(.*?)(?=^### |\Z|^## )", PAGE, re.MULTILINE | re.DOTALL)
        assert section, method
        if (ROOT / f"docs/methods/{method}.md").is_file():
            assert f"](methods/{method}.md)" in section[1]


def test_every_link_leads_somewhere():
    anchors = {slug(title) for title in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)}
    anchors |= set(re.findall(r'<a id="([\w-]+)">', PAGE))
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert target[1:] in anchors if target.startswith("#") else (ROOT / "docs" / target).is_file(), target


def test_no_anchor_stands_twice():
    anchors = re.findall(r'<a id="([\w-]+)">', PAGE) + [slug(title) for title in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)]
    assert len(anchors) == len(set(anchors))


def test_the_messages_on_the_page_are_those_of_the_program(small):
    small["plans"]["sdp"]["objektive"] = "cc"
    with pytest.raises(ValueError, match="problems") as error:
        parse(small | {"seeds": 42})
    assert str(error.value) in PAGE


def test_the_schema_says_the_same():
    described = schema()["$defs"]["CofiPlan"]["properties"]["pruning_epochs"]["description"]
    said = "Unit: epochs. Origin of the default: paper (19 for large tasks, 96 for small ones)."
    assert described == f"Training with gates, in every stage. {said}"
    assert schema()["properties"]["project"]["description"] == as_sentences(Config.model_fields["project"].description)


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("A. [paper]", Explanation("A.", None, "paper")),
        ("A. [epochs]", Explanation("A.", "epochs")),
        ("A. [epochs; public code: B; C]", Explanation("A.", "epochs", "public code", "B; C")),
        ("A, such as\n    [1].", Explanation("A, such as [1].")),
    ],
)
def test_a_docstring_is_taken_apart(docstring, expected):
    assert read_explanation(docstring) == expected


@pytest.mark.parametrize("value", [3.0e-5, 0.5, 1.0, 32, None, True, "cc", (0.0,), {"epochs": 0.0}, (), {}])
def test_defaults_are_written_as_yaml_reads_them(value):
    assert yaml.safe_load(as_yaml(value)) == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize(
    ("properties", "type_said", "range_said"),
    [
        ({"type": "number", "minimum": 0.0, "maximum": 1.0}, "number", "0 … 1"),
        ({"type": "number", "minimum": 0.0, "exclusiveMaximum": 1.0}, "number", "0 ≤ x < 1"),
        ({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}, "whole number or null", "≥ 1"),
        ({"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1}, "list of choices", "`a`, `b`; at least 1 entry"),
        ({"$ref": "#/$defs/Recover"}, "block", "[recovery](#recovery)"),
    ],
)
def test_types_and_ranges_are_said_in_words(properties, type_said, range_said):
    assert (type_of(properties), range_of(properties, {"Recover": "Recovery"})) == (type_said, range_said)
