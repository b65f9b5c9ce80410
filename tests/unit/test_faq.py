"""docs/faq.md: quoted messages are those of the program, and the tests that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/faq.md").read_text()
SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "workflow/espalier").rglob("*.py")))


@pytest.mark.parametrize("message", re.findall(r"^> (.+)$", TEXT, re.MULTILINE))
def test_a_message_is_the_program_s(message):
    assert message in SOURCE


@pytest.mark.parametrize(("file", "name"), re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT))
def test_a_named_test_exists(file, name):
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_every_answer_follows_a_question():
    questions = re.findall(r"^\*\*[^*]+[.?]\*\* \S", TEXT, re.MULTILINE)
    assert len(questions) > 30 and len(questions) == len(re.findall(r"^\*\*", TEXT, re.MULTILINE))
