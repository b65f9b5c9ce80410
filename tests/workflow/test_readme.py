"""What the README says can be typed and found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from snakemake.cli import get_argument_parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = [line.split("#")[0].strip() for line in re.search(r"```bash\n(.*?)```", README, re.DOTALL)[1].splitlines()]
INLINE = re.findall(r"`((?:make|\.venv/bin/\w+) [^`]+)`", README)
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", [*COMMANDS, *INLINE])
def test_a_command_parses(command):
    program, *arguments = command.split()
    if program == "make":
        assert set(arguments) <= set(TARGETS)
    elif program == ".venv/bin/snakemake":
        options = get_argument_parser().parse_args(arguments)
        profiles = [Path(name) / "config.yaml" for name in options.profile or []]
        for file in (*(options.configfile or []), *profiles):
            assert (ROOT / file).is_file(), f"{file} is named in the README and is not there"
    elif program == ".venv/bin/python":
        assert arguments[:3] == ["-m", "espalier", "evidence"]
        assert all((ROOT / "workflow/experiments" / study / "config.yaml").is_file() for study in arguments[3:])
    else:
        assert program == ".venv/bin/dvc"


def test_it_is_short():
    assert len(README.splitlines()) <= 210


def test_the_tree_is_the_tree():
    tree = re.search(r"## The tree\n\n```\n(.*?)```", README, re.DOTALL)[1]
    top = re.findall(r"(?:^|  )([A-Z]\w+|\w+\.yaml|\w+/)(?=  )", tree, re.MULTILINE)
    inner = re.findall(r"^ +(\w+/|\w+\.py) ", tree, re.MULTILINE)
    places = (ROOT, ROOT / "workflow", ROOT / "workflow/espalier")
    assert len(top) >= 8 and len(inner) >= 8
    missing = [name for name in {*top, *inner} if not any((place / name).exists() for place in places)]
    assert not missing
