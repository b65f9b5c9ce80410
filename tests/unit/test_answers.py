"""The answer that a report begins with: which models it names, what the Pareto pictures show, and how names are written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from matplotlib.figure import Figure
from test_quality import rival
from test_report import SMALL, sections, shrink, study, tags_of, words
from test_table import SPEC, found, linear, write

from espalier.report.answer import number, signed, times
from espalier.report.pareto_figures import SHAPES, costs_of, draw_pareto, model_words, pareto_figures, pareto_file, pareto_key
from espalier.report.style import looks, place_labels
from espalier.results.answers import Answer, answers, form_label, model_label
from espalier.results.choosing import pareto
from espalier.results.formats import read_formats
from espalier.results.rivals import rival_sentences
from tests.reports import FACTORS, TOKENIZER_MIB, gather_formats_of, served, write_report

SCORES = {"teacher": {"0": 0.9}, "dense": {"0": 0.7}, "magnitude": {"50": 0.86}, "sdp-cc": {"50": 0.895, "97.5": 0.6}}
SIZES = {"teacher": (80.0, 1.0), "dense": (20.0, 8.0), "magnitude": (40.0, 2.0), "sdp-cc": (60.0, 1.5)}
"""Plan → MiB of the weights in fp32, and speed beside the dense model."""
LOOK = looks(["teacher", "dense", "magnitude", "sdp-cc", "linear"])


def results(folder: Path, seeds: tuple[int, ...] = (1, 2), worse: float = 0.0, plans: Any = SCORES) -> Path:
    """A results tree with models in all formats; students of sdp-cc lose `worse` more in int8."""
    root = study(folder, scores=plans, seeds=seeds)
    write(root / "prepared/tiny/linear.json", linear(0.65))
    for path in found(root, "scores.json"):
        plan, percent = path.parts[-3:-1]
        score = plans[plan][percent] + int(path.parts[-4].removeprefix("seed")) / 1000
        mib, speed = SIZES[plan]
        write(path.with_name("deploy") / "compact.json", served(score, mib, speed, worse=worse * (plan == "sdp-cc")))
    return root


def answer(root: Path, max_drop: float = 0.01) -> Answer:
    [one] = answers(read_formats(gather_formats_of(root, max_drop)), max_drop, ["dense"])
    return one


def said(one: Answer, rivals: bool = False) -> dict[tuple[str, ...], tuple[str, str]]:
    """What a model is best for → its plan and target, and its format."""
    return {line.says: (model_label(line.model), form_label(line.model)) for line in one.lines if line.rival is rivals}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Answer:
    return answer(results(tmp_path_factory.mktemp("shown")))


def test_the_best_models_are_those_of_the_table(shown):
    every = shown.models[(shown.models["passed"] == "yes") & (shown.models["plan"] != "linear")]
    assert shown.dense == pytest.approx(0.9015), "the mean of two seeds"
    close, near = (every[every["score"] >= round(shown.dense - loss, 6)] for loss in (0.01, 0.05))
    expected = {
        "best score": every.sort_values(["score", "total_mib", "ms_b1_lrows"], ascending=[False, True, True]),
        "smallest that loses at most 0.01": close.nsmallest(1, "total_mib"),
        "fastest that loses at most 0.01": close.nsmallest(1, "ms_b1_lrows"),
        "smallest that loses at most 0.05": near.nsmallest(1, "total_mib"),
        "fastest that loses at most 0.05": near.nsmallest(1, "ms_b1_lrows"),
    }
    named = {words: line.model.name for line in shown.lines if not line.rival for words in line.says}
    assert named == {words: model.index[0] for words, model in expected.items()}
    assert said(shown)["smallest that loses at most 0.05",] == ("magnitude 50 %", "onnx-int8")


def test_rivals_are_the_dense_model_whole_and_in_int8_a_ready_made_encoder_and_the_linear_model(shown):
    assert said(shown, rivals=True) == {
        ("dense model",): ("teacher", "torch"),
        ("dense model in int8",): ("teacher", "onnx-int8"),
        ("ready-made encoder",): ("dense", "onnx-int8"),
        ("linear model",): ("linear", "scikit-learn"),
    }


def test_a_format_that_failed_is_no_answer_but_a_rival_stands_marked(tmp_path):
    guarded = answer(results(tmp_path), max_drop=0.002)
    assert {name for _, name in said(guarded).values()}.isdisjoint({"onnx-int8", "openvino-int8"})
    assert said(guarded, rivals=True)["dense model in int8",] == ("teacher", "onnx-int8")
    assert set(guarded.models[guarded.models["passed"] == "no"]["format"]) == {"onnx-int8", "openvino-int8"}


def test_one_model_that_is_best_for_several_things_stands_once(tmp_path):
    one = answer(results(tmp_path, plans={"teacher": {"0": 0.9}}))
    asked = [words for line in one.lines if not line.rival for words in line.says]
    assert len(asked) == len(set(asked)) == 5 and len([line for line in one.lines if not line.rival]) == 3


def test_without_latencies_and_without_teachers_less_is_asked(tmp_path):
    table = read_formats(gather_formats_of(results(tmp_path)))
    untimed = table.drop(columns=[name for name in table if re.match(r"ms_|p95_|speedup|same", name)])
    [one] = answers(untimed, 0.01, [])
    assert one.timing is None and [cost.name for cost in costs_of(one)] == ["total size"]
    asked = [words for line in one.lines if not line.rival for words in line.says]
    assert asked == ["best score", "smallest that loses at most 0.01", "smallest that loses at most 0.05"]
    [other] = answers(table[table["plan"] != "teacher"], 0.01, [])
    assert other.dense is None and [words for line in other.lines if not line.rival for words in line.says] == ["best score"]
    assert answers(table.iloc[:0], 0.01, []) == []


def test_several_tasks_have_an_answer_each_and_bases_share_it(tmp_path):
    table = read_formats(gather_formats_of(results(tmp_path)))
    more = pd.concat([table, table.assign(task="other"), table.assign(base="large")], ignore_index=True)
    tiny, other = answers(more, 0.01, ["dense"])
    assert (tiny.task, tiny.bases, other.task, other.bases) == ("tiny", ["base", "large"], "other", ["base"])
    assert (tiny.models["plan"] == "linear").sum() == 1, "it depends on no base"
    assert [line.model["base"] for line in tiny.lines if line.says == ("dense model",)] == ["base", "large"]
    assert model_words(tiny.models.iloc[0], tiny).startswith("base, teacher, torch: ")


# ---- pictures


def test_every_model_is_a_point_where_the_table_has_it(shown):
    for cost in costs_of(shown):
        axes = Figure().subplots()
        elements = draw_pareto(axes, shown, cost.against, LOOK, 0.5)
        drawn = {
            line.get_gid(): (line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_gid() in elements
        }
        column = shown.models[cost.against.column]
        places = {f"point-{row}": (column[row], shown.models["score"][row]) for row in shown.models.index}
        assert {gid: place for gid, place in drawn.items() if gid != "front"} == places
        assert len(places) == len(shown.models) == 5 * 5 + 1


def test_the_front_is_that_of_the_table_with_the_linear_model_and_without_what_failed(tmp_path):
    one = answer(results(tmp_path, worse=0.02))
    size = costs_of(one)[0].against
    axes = Figure().subplots()
    elements = draw_pareto(axes, one, size, LOOK, None)
    [stairs] = [line for line in axes.lines if line.get_gid() == "front"]
    front = pareto(one.models, "total_mib")
    assert list(stairs.get_xdata()) == list(front["total_mib"]) and list(stairs.get_ydata()) == list(front["score"])
    assert "linear" in set(front["plan"]) and set(front["passed"]) == {"yes"}

    failed = one.models[one.models["passed"] == "no"]
    assert len(failed) == 4, "two students of a plan in two formats"
    hollow = {line.get_gid() for line in axes.lines if line.get_markerfacecolor() == "none" and line.get_gid() != "front"}
    assert hollow == {f"point-{row}" for row in failed.index}
    assert all("failed the guard, loses 0.02" in elements[gid].title for gid in hollow)


def test_formats_have_shapes_of_their_own_and_the_legend_names_all(shown):
    assert len(set(SHAPES.values())) == len(SHAPES) == len(FACTORS) + 1
    entries = list(pareto_key(shown, LOOK, guess=True))
    assert [entry.name for entry in entries if entry.by == "plan"] == list(dict.fromkeys(shown.models["plan"]))
    assert [entry.name for entry in entries if entry.by == "format"] == list(dict.fromkeys(shown.models["format"]))
    assert [entry.name for entry in entries if not entry.by] == ["front: no model is better", "most frequent class"]


def test_pictures_repeat_and_the_file_stands_alone(shown):
    first = pareto_figures(shown, LOOK, 0.5)
    assert first == pareto_figures(shown, LOOK, 0.5) and len(first) == 2
    text = pareto_file([shown, shown], [0.5, None], LOOK)
    assert text == pareto_file([shown, shown], [0.5, None], LOOK)
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert all(f">{name}<" in text for name in ("magnitude", "onnx-int8", "no model is better"))
    ElementTree.fromstring(pareto_file([], [], LOOK))


def test_names_in_pictures_are_text(tmp_path):
    hostile = "<b>\"&'</title>"
    table = read_formats(gather_formats_of(results(tmp_path)))
    [one] = answers(table.replace({"plan": {"magnitude": hostile}}), 0.01, [])
    for picture in pareto_figures(one, looks([*LOOK, hostile]), None):
        points = [group for group in ElementTree.fromstring(picture).iter() if group.get("class") == "point"]
        named = [point for point in points if point.get("data-plan") == hostile]
        assert len(points) == 26 and len(named) == 5
        assert all(point[0].text.startswith(f"{hostile} 50 %, ") for point in named)


def test_a_text_avoids_marks_and_the_edge_of_the_panel():
    axes = Figure().subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    label = ("a name", "#000000", 0.5, 0.5)
    around = [(0.5 + x / 40, 0.5 + y / 40) for x in range(-8, 9) for y in range(-4, 5)]
    assert place_labels(axes, [label], [[(0.5, 0.5)]], around) == {}
    assert list(place_labels(axes, [label], [[(0.5, 0.5)]], [(0.5, 0.5)])) == [0]
    assert place_labels(axes, [("a name that is wider than the panel " * 4, "#000000", 1.0, 1.0)], [[(0.5, 0.5)]]) == {}


# ---- the page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = results(tmp_path_factory.mktemp("page"), worse=0.02, plans=SCORES)
    shrink(root, "sdp-cc")
    gather_formats_of(root)
    return write_report(root, SPEC, [])


@pytest.mark.slow
def test_the_page_begins_with_the_answer(page):
    assert sections(page)[:3] == ["answer", "results", "quality"]
    text = words(page).partition("Which model to take ")[2]
    size = f"{40.0 * FACTORS['onnx-int8'][0] + TOKENIZER_MIB:.1f}"
    assert f"smallest that loses at most 0.05 magnitude 50 % onnx-int8 2 0.857 ± 0.001 −0.044 {size}" in text
    assert "linear model linear scikit-learn 1 0.650" in text and "most frequent class always the same answer – 0.550" in text
    assert "By total size: linear in scikit-learn, 0.650 at 0.012 MiB" in text
    assert "sdp-cc 50 % onnx-int8 2 0.873 ± 0.001 0.024 0.952 failed" in text, "marked among all models"


@pytest.mark.slow
def test_total_size_comes_first_and_encoder_sparsity_second(page):
    labels = [str(attributes.get("aria-label")) for tag, attributes in tags_of(page) if tag == "svg"]
    against = [label.removeprefix("accuracy against ") for label in labels if label.startswith("accuracy against ")]
    ours = "tiny: every model in every format; the table below has the numbers"
    assert against[:2] == [f"total size, {ours}", f"latency, {ours}"]
    assert against[2:4] == ["total size in PyTorch, base on tiny", "encoder sparsity, base on tiny"]
    assert "teacher 0 % 2 0.901 ± 0.001 – 80.7 0.0 %" in words(page), "total MiB in the table of results"


@pytest.mark.slow
def test_a_study_without_formats_still_has_its_report(tmp_path):
    root = study(tmp_path, scores=SMALL, seeds=(1,))
    page = write_report(root, SPEC, [])
    assert sections(page)[0] == "results" and not (root / "figures/pareto.svg").exists()


@pytest.mark.slow
def test_a_table_without_rows_gives_no_answer_and_an_empty_picture(tmp_path):
    root = study(tmp_path, scores=SMALL, seeds=(1,))
    gather_formats_of(root)
    page = write_report(root, SPEC, [])
    assert sections(page)[0] == "results" and (root / "figures/pareto.svg").stat().st_size > 0


def test_a_rival_s_size_is_its_total_where_that_is_known():
    small = rival("tiny", "ready-made", 0.7, size_mib=16.8, total_mib=17.5)
    student = rival("cofi", "cofi", 0.8, size_mib=17.0, total_mib=17.9)
    [sentence] = rival_sentences([small, student])
    assert "tiny (0.700 at 17.5 MiB)" in sentence and "no larger" not in sentence


@pytest.mark.parametrize(("value", "text"), [(0.0004, "0.000"), (-0.0004, "0.000"), (0.012, "+0.012"), (-0.3, "−0.300")])
def test_differences_have_a_sign_unless_they_are_none(value, text):
    assert signed(value) == text


def test_numbers_that_are_missing_are_dashes():
    assert (number(float("nan"), 2), times(float("nan"))) == ("–", "–")
    assert (number(1234.5, 1), times(0.954), times(4.24), times(31.4)) == ("1,234.5", "0.95×", "4.2×", "31×")
