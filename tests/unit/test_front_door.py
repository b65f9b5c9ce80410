"""What newcomers read first names files and commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "workflow/espalier"
TARGETS = set(re.findall(r"^([a-z./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PAPERS = {"2109.15014": "sdp", "2110.08190": "spd", "2302.09632": "homodistil", "2204.00408": "cofi"}
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "benchmarks/README.md"])
def test_a_page_names_make_targets_that_exist(page):
    named = set(re.findall(r"(?:^|`)make ([a-z./-]+)", (ROOT / page).read_text(), re.MULTILINE))
    assert named and named <= TARGETS


def test_the_guide_names_files_that_exist():
    words = re.findall(r"`([\w./-]+)`", CONTRIBUTING)
    paths = [
        word for word in words if re.search(r"/|\.(py|md|yaml|lock)$", word) and "NAME" not in word and ".venv" not in word
    ]
    missing = [path for path in paths if not any((root / path).exists() for root in (ROOT, PACKAGE, PACKAGE / "methods"))]
    assert len(paths) > 20 and not missing


def test_the_guide_names_every_package():
    listed = re.findall(r"^\| `(\w+)/` \|", CONTRIBUTING.partition("The packages of")[2], re.MULTILINE)
    assert sorted(listed) == sorted(folder.parent.name for folder in PACKAGE.glob("*/__init__.py"))


def test_every_change_says_what_it_runs_again():
    entries = re.findall(r"^- .*\n(?:  .*\n)*", CHANGELOG, re.MULTILINE)
    assert entries and [entry for entry in entries if not re.search(r"\n  re-runs: \S.*\n\Z", entry)] == []


def test_the_citation_names_this_version_and_the_four_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert f'version = "{citation["version"]}"' in (ROOT / "pyproject.toml").read_text()
    found = {reference["url"].removeprefix("https://arxiv.org/abs/"): reference for reference in citation["references"]}
    assert {paper: reference["notes"] for paper, reference in found.items()} == {
        paper: f"method {method}" for paper, method in PAPERS.items()
    }
    for paper, method in PAPERS.items():
        assert paper in (PACKAGE / f"methods/{method}.py").read_text()


def test_the_hooks_before_a_commit_run_what_is_installed():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        if hook["entry"].startswith("make "):
            assert hook["entry"].removeprefix("make ") in TARGETS


def test_every_script_that_measures_has_its_line():
    text = (ROOT / "benchmarks/README.md").read_text()
    listed = re.findall(r"^\| `(\w+)", text, re.MULTILINE)
    assert sorted(listed) == sorted(file.stem for file in (ROOT / "benchmarks").glob("*.py"))
