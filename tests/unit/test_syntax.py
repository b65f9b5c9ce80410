"""Configuration files are looked at as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from espalier.config import ConfigError
from espalier.config.syntax import check_syntax

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("teacher: {epochs: 1}\nplans: {}\nteacher: {}\n", ["3: the key 'teacher' stands in line 1 already"]),
        (
            "plans:\n  a: {method: sdp}\n  b: {path: 1, path: 2}\n  a: {}\n",
            ["3: the key 'path' stands in line 3 already", "4: the key 'a' stands in line 2 already"],
        ),
        ("list:\n- {a: 1}\n- {b: 1,\n   b: 2}\n", ["4: the key 'b' stands in line 3 already"]),
        ("a: [1\nb: 2\n", ["2, column 2: this is not YAML: while parsing a flow sequence; expected ',' or ']', but got ':'"]),
        ("a:\n\tb: 1\n", ["2, column 1: this is not YAML: while scanning for the next token; found character '\\t'"]),
        ("a: *b\n", ["1, column 4: this is not YAML: found undefined alias 'b'"]),
    ],
)
def test_what_is_refused(tmp_path, text, problems):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        check_syntax([file])
    assert len(error.value.problems) == len(problems)
    for got, wanted in zip(error.value.problems, problems, strict=True):
        assert got.startswith(f"{file}, line {wanted}")


def test_bytes_that_are_no_text(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_bytes(b"a: \xff\n")
    with pytest.raises(ConfigError, match="this is not YAML"):
        check_syntax([file])


def test_what_merge_keys_bring_may_be_written_again(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, x: 4}\nd: &d [*a, *a, *d]\n")
    check_syntax([file])


def test_the_configurations_of_the_repository():
    check_syntax([ROOT / "config.yaml", *ROOT.glob("workflow/experiments/*/config.yaml"), ROOT / "missing.yaml"])
