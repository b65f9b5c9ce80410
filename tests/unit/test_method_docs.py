"""docs/methods: every section that the code cites exists, and numbers on the pages are those that the code computes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import BaseModel, TypeAdapter

from espalier.analyses.statistics import class_separability, signal_to_noise_db
from espalier.config.methods import METHODS as METHOD_CLASSES
from espalier.config.methods import AnyPlan
from espalier.config.project import Analysis
from espalier.config.training import Teacher
from espalier.kinds.base import soft_label_loss, task_loss
from espalier.losses.terms import correlation_matrix, cross_correlation_loss, soft_cross_entropy
from espalier.pruning.schedules import sparsity_steps

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs/methods"
PACKAGE = ROOT / "workflow/espalier"
METHODS = ("cofi", "grain", "homodistil", "kprune", "kwon", "obs", "sdp", "spd")
OUTSIDE = "shared/" + "methods"
"""Where the specifications were before: outside the repository, so a clone does not have it."""

NUMBER = r"\d+(?:\.\d+)*"
CITATION = re.compile(
    rf"docs/methods/(?P<page>\w+)\.md`?"
    rf"(?:,?\s+(?P<list>(?:§|sections?\s){{1,2}}\s?{NUMBER}(?:(?:,\s(?:and\s)?|\sand\s|\sto\s|-|–)§?{NUMBER})*))?"
)
"""A page, and the sections after it: `§2.2`, `§2.2 to 2.5`, `section 2`, `sections 2, 3.2 and 3.3`."""
OTHER_PAGE = re.compile(rf"docs/[\w-]+\.md`?,? §\s?{NUMBER}")
SECTION_SIGN = re.compile(rf"§+\s?({NUMBER})")


def plain(text: str) -> str:
    """Text on one line, so that a citation may go over the end of a line, in comments too."""
    return re.sub(r"\s*\n\s*(?:#\s*)?", " ", text)


def cited(text: str) -> Iterator[tuple[str, str | None]]:
    """Each cited page with each section that is named after it; None where the page alone is named."""
    for match in CITATION.finditer(plain(text)):
        sections = re.findall(NUMBER, match["list"] or "")
        yield from ((match["page"], section) for section in sections or [None])


def headings(page: str) -> list[str]:
    """Section numbers of a page, in order."""
    return re.findall(rf"^##+ ({NUMBER}) \S", (PAGES / f"{page}.md").read_text(), re.MULTILINE)


def section(page: str, number: str) -> str:
    """A section without its heading, whitespace made single."""
    text = (PAGES / f"{page}.md").read_text()
    body = re.search(rf"^(##+) {re.escape(number)} .*\n((?:(?!##).*\n?)*)", text, re.MULTILINE)
    assert body, f"{page}.md has no section {number}"
    return re.sub(r"\s+", " ", body[2])


SOURCES = sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".j2"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Source: docs/methods/sdp.md §2.2.", [("sdp", "2.2")]),
        ("docs/methods/sdp.md §2.2 to 2.5 and more", [("sdp", "2.2"), ("sdp", "2.5")]),
        ("docs/methods/sdp.md §2.2, §2.3 and §6", [("sdp", "2.2"), ("sdp", "2.3"), ("sdp", "6")]),
        ("docs/methods/cofi.md, sections 2, 3.2 and 3.3: x", [("cofi", "2"), ("cofi", "3.2"), ("cofi", "3.3")]),
        ("docs/methods/cofi.md,\n    # section 3.7, exact", [("cofi", "3.7")]),
        ("`docs/methods/spd.md`\n    §7.7, and docs/methods/sdp.md §1", [("spd", "7.7"), ("sdp", "1")]),
        ("`docs/methods/spd.md` is the specification", [("spd", None)]),
    ],
)
def test_citations_are_read_in_every_form(text: str, expected: list[tuple[str, str | None]]) -> None:
    assert list(cited(text)) == expected


def test_every_cited_section_exists() -> None:
    missing = []
    for path in SOURCES:
        for page, number in cited(path.read_text()):
            if page not in METHODS or number not in (None, *headings(page)):
                missing.append(f"{path.relative_to(ROOT)}: docs/methods/{page}.md §{number}")
    assert not missing, "\n".join(missing)


def test_every_section_sign_belongs_to_a_page() -> None:
    """In a method's own file its page need not be named again."""
    missing = []
    for path in SOURCES:
        rest = OTHER_PAGE.sub("", CITATION.sub("", plain(path.read_text())))
        own = path.stem if path.parent.name == "methods" and path.stem in METHODS else None
        for number in SECTION_SIGN.findall(rest):
            if own is None or number not in headings(own):
                missing.append(f"{path.relative_to(ROOT)}: §{number}, of docs/methods/NAME.md with which NAME?")
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("page", METHODS)
def test_section_numbers_are_unique_and_ascend(page: str) -> None:
    found = [tuple(map(int, number.split("."))) for number in headings(page)]
    assert found == sorted(set(found)) and found[0] == (1,)
    assert {number[0] for number in found} == set(range(1, found[-1][0] + 1)), "no gap between main sections"


@pytest.mark.parametrize("page", METHODS)
def test_paths_on_the_pages_exist(page: str) -> None:
    text = (PAGES / f"{page}.md").read_text()
    for path in re.findall(r"`(espalier/[\w/]+\.py)`", text):
        assert (ROOT / "workflow" / path).is_file(), f"{page}.md names {path}"
    for path in re.findall(r"`((?:tests|workflow)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), f"{page}.md names {path}"


@pytest.mark.parametrize("page", METHODS)
def test_links_between_the_pages_lead_somewhere(page: str) -> None:
    text = (PAGES / f"{page}.md").read_text()
    for target, anchor in re.findall(r"\]\((\w+)\.md(?:#([\w-]+))?\)", text):
        titles = re.findall(r"^##+ (.+)$", (PAGES / f"{target}.md").read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, f"{page}.md links to {target}.md#{anchor}"


def test_no_file_names_the_folder_outside_the_repository() -> None:
    files = [path for folder in ("workflow", "tests", "docs") for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix != ".pyc" and OUTSIDE.encode() in path.read_bytes()]


# Numbers of SDP


TEACHER = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [1.0, 3.0]])
STUDENT = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 2.0]])


def decimals(text: str) -> list[float]:
    """Numbers with six decimals, in order."""
    return [float(number) for number in re.findall(r"\d+\.\d{6}", text)]


def test_vectors_of_sdp_are_what_the_code_computes() -> None:
    options = {"off_diagonal": 0.005, "epsilon": 0.0}
    matrix = correlation_matrix(STUDENT, TEACHER, epsilon=0.0)
    diagonal = matrix.diagonal()
    on, off = (1 - diagonal).square().sum(), matrix.square().sum() - diagonal.square().sum()
    total, scaled = (cross_correlation_loss(STUDENT, TEACHER, normalise=each, **options) for each in (False, True))

    logits, teacher = torch.tensor([[1.0, 0.5, -1.0]]), torch.tensor([[2.0, 0.0, -1.0]])
    soft = soft_label_loss(logits, teacher, temperature=2.0, kind="classification")
    task = task_loss(logits, torch.tensor([0]), "classification")

    # row 1: no loss; row 2: C without its zero, on, off, sums; row 3: divergence, terms, objective
    assert cross_correlation_loss(TEACHER, TEACHER, **options).abs() < 1e-6
    assert matrix[1, 0].abs() < 1e-6
    second = [matrix[0, 0], matrix[0, 1], matrix[1, 1], on, off, total, scaled]
    third = [soft / 4, soft, task, 0.5 * task + 0.5 * soft]
    assert decimals(section("sdp", "2.6")) == pytest.approx([float(each) for each in second + third], abs=1e-6)


def test_check_values_of_sdp_s_analyses() -> None:
    vectors, labels = torch.tensor([[1.0, 0.0], [1.0, 0.2], [0.0, 1.0], [0.3, 1.0]]), torch.tensor([0, 0, 1, 1])
    assert decimals(section("sdp", "6.1")) == pytest.approx([float(class_separability(vectors, labels))], abs=1e-6)
    assert f"`{signal_to_noise_db(STUDENT, TEACHER):.4f}` dB" in section("sdp", "6.2")


def test_floors_and_schedules_of_sdp() -> None:
    page = section("sdp", "2.5")
    floors = {rows: 768**2 / (rows - 1) - 768 for rows in (16, 32, 64, 256)}
    for rows, floor in floors.items():
        assert re.search(rf"\b{round(floor)} for `n = {rows}`", page), rows
    assert f"`n = 32` is {0.005 / 768 * floors[32]:.3f}" in page.replace("floor for ", "")
    remaining = [1.0 - each for each in sparsity_steps(0.0, 1.0 - 0.9**22, 22, "geometric")]
    expected = f"{100 * remaining[10]:.1f} % remain after 11 removals and {100 * remaining[21]:.2f} % after 22"
    assert expected in section("sdp", "3.3")


# Numbers of SPD


def test_vectors_of_spd_are_what_the_code_computes() -> None:
    teacher, student = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    value, floor = (soft_cross_entropy(each, teacher, temperature=1.0, reduction="mean") for each in (student, teacher))
    summed = soft_cross_entropy(student, teacher, temperature=1.0, reduction="batchmean")
    assert decimals(section("spd", "2.2")) == pytest.approx([float(each) for each in (value, summed, floor)], abs=1e-6)


@pytest.mark.parametrize(("removals", "digits"), [(11, 3), (12, 4)])
def test_ramps_of_spd(removals: int, digits: int) -> None:
    ramp = " ".join(f"{each:.{digits}f}" for each in sparsity_steps(0.0, 0.9, removals, "cubic"))
    assert f"`{ramp}`" in section("spd", "3.5")


def test_draws_of_spd() -> None:
    page = section("spd", "3.2")
    assert f"{0.8 * 12:.1f} of 12 layers" in page and f"with probability {0.8**12:.3f}" in page


@pytest.mark.parametrize("page", ["sdp", "spd"])
def test_weights_of_bert_base(page: str) -> None:
    weights = 12 * (4 * 768**2 + 2 * 768 * 3072)
    assert f"72 matrices, {weights:,} weights" in section(page, "3.2" if page == "sdp" else "3.4")


# Defaults


def default_of(plan: BaseModel, option: str) -> object:
    value = Teacher() if option.startswith("teacher.") else plan
    for key in option.removeprefix("teacher.").split("."):
        value = getattr(value, key)
    return value


@pytest.mark.parametrize(("page", "options"), [("sdp", 19), ("spd", 20)])
def test_defaults_in_the_tables_of_hyper_parameters(page: str, options: int) -> None:
    plan = TypeAdapter(AnyPlan).validate_python({"method": page, "path": [0.5]})
    lines = (PAGES / f"{page}.md").read_text().split("## 4 ")[1].split("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("|")]
    rows = [(row[-3].strip("`"), row[-2]) for row in cells[2:]]
    assert len(rows) == options
    for option, written in rows:
        default = default_of(plan, option)
        assert default == (float(written) if isinstance(default, (int, float)) else written), option


@pytest.mark.parametrize("page", ["sdp", "spd"])
def test_options_on_the_pages_can_be_given(page: str) -> None:
    """Each `key: value` of a page is a valid part of a plan of the method, or of another part of the configuration."""
    text = re.sub(r"\s+", " ", (PAGES / f"{page}.md").read_text())
    given = 0
    for key, value in re.findall(r"`([a-z_]+(?:\.[a-z_]+)*): ([^`…]+)`", text):
        if key == "method":
            assert value in METHOD_CLASSES, value
        elif key == "analyses":
            names = yaml.safe_load(value)["PLAN"]
            TypeAdapter(list[Analysis]).validate_python(names)
        elif key == "teacher.epochs":
            Teacher.model_validate({"epochs": yaml.safe_load(value)})
        else:
            plan = {"method": page, "path": [0.5]}
            *blocks, last = key.split(".")
            inner = plan
            for block in blocks:
                inner = inner.setdefault(block, {})
            inner[last] = yaml.safe_load(value)
            TypeAdapter(AnyPlan).validate_python(plan)
        given += 1
    assert given > 15
