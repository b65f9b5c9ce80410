"""Scores by language: what is read of a study, what is drawn, and the section of the page."""

from __future__ import annotations

import json
import re

import pytest
from matplotlib.figure import Figure
from test_table import SPEC, found, project, write

from espalier.report.set_figures import draw_sets, set_figure
from espalier.report.style import looks
from espalier.results.by_set import read_by_set
from espalier.results.places import Place
from tests.reports import write_report

CARD = {"name": "tiny", "kind": "classification", "classes": ["a", "b"], "majority": {"test-en": 0.6, "test-de": 0.5}}
CARD |= {"sets": ["validation-en", "test-en", "test-de"], "mean": ["test-en", "test-de"]}


def content(english: float, german: float) -> dict:
    sets = {"validation-en": 0.99, "test-en": english, "test-de": german, "mean": (english + german) / 2}
    scores = {name: {"rows": 100, "loss": 0.5, "accuracy": value} for name, value in sets.items()}
    return {"metric": "accuracy", "set": "mean", "score": scores["mean"]["accuracy"], "mean": CARD["mean"], "sets": scores}


SCORED = {
    Place("base", "tiny", 1, "sdp", "90"): content(0.6, 0.4),
    Place("base", "tiny", 1, "sdp", "50"): content(0.8, 0.5),
    Place("base", "tiny", 2, "sdp", "90"): content(0.7, 0.4),
    Place("base", "tiny", 1, "teacher", "0"): content(0.9, 0.8),
}
LINEAR = {"tiny": {"test-en": {"accuracy": 0.7}, "test-de": {"accuracy": 0.1}, "mean": {"accuracy": 0.4}}}


def test_every_language_has_a_mean_over_seeds():
    (shown,) = read_by_set(SCORED, LINEAR, {"tiny": CARD})
    assert (shown.title, shown.metric, shown.sets) == ("base on tiny", "accuracy", ["en", "de"])
    assert [line.label for line in shown.lines] == ["teacher", "sdp, 50 %", "sdp, 90 %", "linear"]
    english, german = shown.lines[2].means
    assert (english.mean, english.n, german.mean) == (pytest.approx(0.65), 2, pytest.approx(0.4))
    assert shown.lines[2].mean.mean == pytest.approx(0.525) and shown.lines[3].mean.mean == 0.4
    assert [line.label for line in shown.drawn] == ["teacher", "sdp, 90 %", "linear"]


def test_tasks_whose_first_set_gives_the_score_have_no_such_section():
    assert read_by_set(SCORED, {}, {"tiny": {"sets": ["validation"]}}) == [] == read_by_set({}, {}, {})


def test_a_row_is_a_language_with_a_mark_for_each_plan():
    (shown,) = read_by_set(SCORED, {}, {"tiny": CARD})
    axes = Figure().subplots()
    draw_sets(axes, shown, looks(["sdp"]))
    drawn = {container.get_label(): container.lines[0].get_xydata().tolist() for container in axes.containers}
    assert drawn["sdp, 90 %"] == [[pytest.approx(0.65), 0.0], [pytest.approx(0.4), 1.0]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["en", "de"] and axes.yaxis_inverted()
    assert 'aria-label="accuracy on each evaluation set, base on tiny"' in set_figure(shown, looks(["sdp"]))


@pytest.mark.slow
def test_the_page_has_a_section_by_language(tmp_path):
    root = project(tmp_path, seeds=(1, 3), scores={"teacher": {"0": 0.9}, "sdp-cc": {"50": 0.8}})
    write(root / "prepared/tiny/task.json", CARD)
    for path in found(root, "scores.json"):
        score = json.loads(path.read_text())["score"]
        write(path, content(score, score - 0.2))
    onnx = {"latency_ms": {}, "dense_latency_ms": {}, "speedup": {}, "size_mib": 1.0}
    for path in found(root, "cost.json"):
        write(path, json.loads(path.read_text()) | {"repeats": 5, "onnx": onnx})
    page = write_report(root, SPEC, [])
    section = page.split('<section id="languages">')[1].split("</section>")[0]
    cells = [re.sub(r"<[^>]*>", " ", row).split() for row in re.findall(r"<tr>(.*?)</tr>", section, re.DOTALL)]
    assert cells[0] == ["plan", "target", "mean", "en", "de"]
    assert [row[0] for row in cells[1:]] == ["teacher", "sdp-cc"]
    assert "0.902" in cells[1] and "0.702" in cells[1], "means over seeds of English and of German"
    assert 'href="#languages"' in page and "<svg" in section
    assert "0.550" in page, "the most frequent class, as the mean over the languages"
