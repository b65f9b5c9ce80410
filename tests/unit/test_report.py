"""report: what the page says, that it asks nobody for anything, and that it is the same each time."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from test_table import SPEC, found, make_table, project, write

from espalier.core.summary import selections, speeds
from espalier.stages import report

SMALL = {"teacher": {"0": 0.9}, "dense": {"0": 0.89}, "sdp-cc": {"50": 0.88}}
HOSTILE = "<script>alert('1')</script>\"&$x^2$"


def edit(path: Path, **changes: Any) -> None:
    write(path, json.loads(path.read_text()) | changes)


def make_report(root: Path, curves: bool = False) -> str:
    """The page; drawing the training curves takes most of its time."""
    make_table(root)
    report.run(
        SPEC,
        table=root / "table.csv",
        histories=found(root, "history.parquet") if curves else [],
        records=found(root, "run.json"),
        scores=found(root, "scores.json"),
        tasks=found(root, "task.json"),
        report=root / "report.html",
        quality=root / "figures" / "quality.svg",
        training=root / "figures" / "training.svg",
    )
    return (root / "report.html").read_text()


def words(page: str) -> str:
    """The page's text as a reader sees it."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.split("</style>", 1)[1]).split())


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tags_of(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(page)
    return parser.tags


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = project(tmp_path_factory.mktemp("two"), seeds=(1, 2))
    return root, make_report(root, curves=True)


def test_every_section_is_there(two_seeds):
    _, page = two_seeds
    sections = [attributes["id"] for tag, attributes in tags_of(page) if tag == "section"]
    assert sections == ["results", "quality", "latency", "training", "sets", "provenance"]


def test_scores_stand_with_their_spread_and_count(two_seeds):
    _, page = two_seeds
    assert "sdp-cc (sdp) 97.5 % 2 0.601 ± 0.001 −0.300 ± 0.000 97.5 % 58.5 % 415 86.1 3 min 27 s" in words(page)
    assert "most frequent class gives an accuracy of 0.550" in words(page)


def test_one_picture_a_panel(two_seeds):
    _, page = two_seeds
    labels = [attributes["aria-label"] for tag, attributes in tags_of(page) if tag == "svg"]
    assert labels[0] == "accuracy against encoder sparsity, base on tiny"
    assert [label for label in labels if label.endswith(", sdp-cc")] == [
        "task over training steps, sdp-cc",
        "sdp-cc over training steps, sdp-cc",
        "validation accuracy over training steps, sdp-cc",
    ]


def test_ids_do_not_clash_between_pictures(two_seeds):
    _, page = two_seeds
    ids = [attributes["id"] for _, attributes in tags_of(page) if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20


def test_nothing_is_requested_from_elsewhere(two_seeds):
    _, page = two_seeds
    for tag, attributes in tags_of(page):
        assert tag not in ("script", "link", "iframe", "object", "img", "base")
        for name, value in attributes.items():
            assert name.startswith("xmlns") or "//" not in (value or ""), f"{tag} {name}={value}"
            assert name not in ("href", "xlink:href", "src") or (value or "").startswith("#")
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_light_and_dark_have_the_same_variables_and_every_picture_uses_them(two_seeds):
    _, page = two_seeds
    light, dark = page.split("@media (prefers-color-scheme: dark)")
    names = re.findall(r"^\s*(--[\w-]+):", light, flags=re.MULTILINE)
    assert names == re.findall(r"^\s*(--[\w-]+):", dark.split("}")[0], flags=re.MULTILINE)
    assert set(re.findall(r"var\((--[\w-]+)\)", page)) <= set(names)
    pictures = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", pictures) == []


def test_same_inputs_same_bytes(two_seeds):
    root, page = two_seeds
    names = ("figures/quality.svg", "figures/training.svg")
    before = [(root / name).read_bytes() for name in names]
    assert make_report(root, curves=True) == page
    assert [(root / name).read_bytes() for name in names] == before


def test_standalone_pictures_are_xml(two_seeds):
    root, _ = two_seeds
    for name in ("quality.svg", "training.svg"):
        assert ElementTree.parse(root / "figures" / name).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_hostile_text_is_shown_and_not_obeyed(tmp_path):
    root = project(tmp_path, seeds=(1,), scores=SMALL)
    student = root / "base" / "tiny" / "seed1" / "sdp-cc" / "50"
    edit(student / "run.json", git_commit=HOSTILE, stage=HOSTILE, versions={HOSTILE: HOSTILE}, inputs={HOSTILE: HOSTILE})
    edit(student / "run.json", selected={"checkpoint": "best", "set": HOSTILE, "step": 1}, device=HOSTILE)
    write(student / "history.parquet", [{"step": 0, "loss": 1.0, f"loss/{HOSTILE}": 1.0}])
    scores = json.loads((student / "scores.json").read_text())
    edit(student / "scores.json", sets=scores["sets"] | {HOSTILE: {"rows": 1, HOSTILE: 0.5}})
    page = make_report(root, curves=True)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not [tag for tag, attributes in tags_of(page) if tag == "script" or any(key.startswith("on") for key in attributes)]
    ElementTree.parse(root / "figures" / "training.svg")


def test_one_seed_without_recovery_shows_no_spread(tmp_path):
    root = project(tmp_path, seeds=(7,), recovered=False, scores=SMALL)
    text = words(make_report(root))
    assert "sdp-cc (sdp) 50 % 1 0.887 −0.020 50.0 %" in text
    assert "1 seed (7)" in text


def test_rows_that_select_and_score_are_called_so(tmp_path):
    root = project(tmp_path, seeds=(1,), scores=SMALL)
    edit(root / "base/tiny/seed1/dense/0/run.json", selected={"checkpoint": "best", "set": "validation", "step": 20})
    edit(root / "base/tiny/seed1/teacher/0/run.json", selected={"checkpoint": "best", "set": "selection", "step": 20})
    text = words(make_report(root))
    assert "1 run of dense: the best evaluation on validation was kept, and the same rows give the score." in text
    assert "1 run of teacher: the best evaluation on selection was kept; the score comes from validation, whose rows" in text
    assert "runs of sdp-cc: the weights of the last step were kept" in text


def test_a_run_outside_git_or_with_changes_says_so(tmp_path):
    root = project(tmp_path, seeds=(1,), scores=SMALL)
    edit(root / "base/tiny/seed1/sdp-cc/50/run.json", git_commit=None)
    edit(root / "base/tiny/seed1/teacher/0/run.json", git_commit="abc+")
    text = words(make_report(root))
    assert "git commit not in a git repository" in text
    assert "git commit abc+ with changes to tracked files" in text


@pytest.mark.parametrize(
    ("speedup", "total", "sentence"),
    [
        (1.02, 1000, "gain nothing from unstructured sparsity"),
        (1.4, 1000, "take a difference for timing noise"),
        (1.4, 500, "with smaller matrices of up to 50 % ran at 1.40"),
    ],
)
def test_latency_is_told_as_it_was_measured(tmp_path, speedup, total, sentence):
    root = project(tmp_path, seeds=(1,), scores=SMALL)
    for path in found(root, "cost.json"):
        if path.parent.parent.name == "sdp-cc":
            edit(path, speedup={"1": speedup}, params_total=total)
    text = words(make_report(root))
    assert sentence in text
    assert ("That is no speed-up" in text) == (speedup == 1.02)


def test_speeds_leave_out_the_teacher_and_the_control(two_seeds):
    root, _ = two_seeds
    (speed,) = speeds(report.read_table(root / "table.csv"))
    assert (speed.batch, speed.structured, speed.students, speed.sparsest, speed.none) == (1, False, 8, 0.975, True)


def test_no_records_no_selections():
    assert selections([], {}) == []
