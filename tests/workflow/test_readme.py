"""What README and the pages in docs/ tell people to type can be typed, and what they name is there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from dvc.cli.parser import get_main_parser
from snakemake.cli import get_argument_parser

from espalier.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text() for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
}
TARGETS = set(re.findall(r"^([a-z./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
SHELL = frozenset({"git", "tail", "cd", "export", ".", "squeue", "mkdir", "head"})
"""Programs whose options are not ours to check."""


def typed(text: str) -> Iterator[str]:
    """Commands of bash blocks, of lines that begin with a prompt, and of code in the text that begins with a program."""
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    yield from re.findall(r"`((?:make|\.venv/bin/\w+|dvc|snakemake) [^`]+)`", text)


def commands() -> list[tuple[str, str]]:
    """(page, command): without comments, several on a line apart, and without what stands for a word of one's own."""
    lines = [(page, line.partition(" #")[0]) for page, text in PAGES.items() for line in typed(text)]
    parts = [(page, part.strip()) for page, line in lines for part in line.split("&&")]
    return [(page, part) for page, part in dict.fromkeys(parts) if part and "…" not in part]


def check_snakemake(arguments: list[str]) -> None:
    options = get_argument_parser().parse_args(arguments)
    profiles = [Path(name) / "config.yaml" for name in options.profile or []]
    for file in (*(options.configfile or []), *profiles):
        assert (ROOT / file).is_file() or str(file).startswith("my-"), f"{file} is named and is not there"


def check_dvc(arguments: list[str]) -> None:
    get_main_parser().parse_args(arguments)
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    for path in re.findall(r"config\.yaml:([\w.-]+)=", " ".join(arguments)):
        block = config
        for key in path.split("."):
            assert key in block, f"config.yaml has no {path}"
            block = block[key]


def check_espalier(arguments: list[str]) -> None:
    assert arguments[:2] == ["-m", "espalier"] and arguments[2] in COMMANDS
    if arguments[2] == "evidence":
        assert all((ROOT / "workflow/experiments" / study / "config.yaml").is_file() for study in arguments[3:])


def test_commands_are_found_in_every_form():
    text = "```bash\nmake a && make b   # why\n```\n```\n$ dvc pull\nprinted\n```\nthe command `make c` and `make`\n"
    assert list(typed(text)) == ["make a && make b   # why", "dvc pull", "make c"]
    assert len(commands()) > 20


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_parses(page, command):
    words = shlex.split(command)
    while "=" in words[0]:  # variables before a command
        words.pop(0)
    program, arguments = words[0].removeprefix(".venv/bin/"), words[1:]
    if program == "make":
        assert {word for word in arguments if "=" not in word} <= TARGETS
    elif program == "snakemake":
        check_snakemake(arguments)
    elif program == "dvc":
        check_dvc(arguments)
    elif program == "espalier":
        import_module(f"espalier.commands.{arguments[0]}")._parser().parse_args(arguments[1:])
    elif program == "python" and arguments[0] == "-m":
        check_espalier(arguments)
    elif program == "python":
        assert arguments[0].startswith("my-") or arguments[0] == "-c"
    else:
        assert program in SHELL, f"{page}: {command}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_of_the_repository(page):
    without_code = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", without_code) if "://" not in link]
    targets = {(ROOT / page).parent.joinpath(link).resolve() for link in links if link}
    missing = {target.relative_to(ROOT).as_posix() for target in targets if not target.exists()}
    assert missing == set()


def test_the_front_page_is_short():
    assert len(README.splitlines()) <= 110


def test_the_front_page_leads_to_every_page():
    linked = set(re.findall(r"\]\((docs/[\w/-]+\.md)\)", README))
    pages = {page for page in PAGES if page.startswith("docs/") and "/decisions/" not in page and "/examples/" not in page}
    assert pages <= linked


def test_the_picture_is_one_of_a_committed_report():
    [picture] = re.findall(r"!\[[^]]*\]\((docs/images/[^)]+)\)", README)
    content = (ROOT / picture).read_bytes()
    assert content in [path.read_bytes() for path in ROOT.glob("workflow/experiments/*/figures/*.svg")]


def test_the_page_about_results_names_what_rules_write():
    rules = "\n".join(path.read_text() for path in ROOT.glob("workflow/rules/*.smk"))
    rows = re.findall(r"^\| (`[^|]+) \|", PAGES["docs/results.md"], re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`([^`{]+?)/?`", row)]
    config = ROOT / "workflow/espalier/config"
    layout = "records recovered" + "".join((config / name).read_text() for name in ("layout.py", "deployment/formats.py"))
    assert len(names) > 15
    assert [name for name in names if name not in rules and name not in layout] == []


@pytest.mark.parametrize("record", sorted(ROOT.glob("docs/decisions/*.md")), ids=lambda path: path.stem)
def test_a_decision_record_has_its_three_parts_and_names_files_that_exist(record):
    text = record.read_text()
    assert re.match(r"# \d+\. \S", text) and int(record.name[:4]) == int(re.match(r"# (\d+)", text)[1])
    assert [part for part in ("**Context.**", "**Decision.**", "**What it costs.**") if part not in text] == []
    assert len(text.splitlines()) <= 32

    places = (ROOT, ROOT / "workflow/espalier")
    files = re.findall(r"`([\w/]+/(?:[\w]+\.(?:py|yaml|lock))?)`", text)
    missing = [file for file in files if not any((place / file).exists() for place in places) and file != "work/"]
    assert missing == []
