"""What analyses found, from files to the page: numbers over seeds, pictures, and nothing where nothing was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from matplotlib.figure import Figure
from test_report import SMALL, make_report, study, words
from test_table import found, write

from espalier.config.methods import HISTORY_COLUMNS
from espalier.report.analysis_figures import draw_steps, error_pictures, fraction_pictures
from espalier.report.style import looks
from espalier.results.curves import read_curves
from espalier.results.findings import read_findings
from espalier.results.fractions import numbers_of, read_fractions
from espalier.results.places import files_by_place
from espalier.results.table import read_results

pytestmark = pytest.mark.slow

GOALS = {("base", "tiny"): ("validation", "accuracy")}
REASON = "the student has 2 layers"


def analysis(separability: float, noise: float | None = 9.0, left_out: bool = False) -> dict[str, Any]:
    classes = {"separability": separability, "class_signal_to_noise": 2 * separability}
    noises = {"signal_to_noise_db": noise, "scaled_signal_to_noise_db": noise}
    teacher = {"separability": 0.9, "class_signal_to_noise": None}
    measured = {"local": [0.0, separability, 0.2], "accumulated": [0.0, separability, 0.4], "steps": [0.0, 1.0, 2.0]}
    mean = {"hoyer": separability, "small": 0.1, "small_beside_largest": 0.2, "excess_kurtosis": -1.5}
    one_shot = {percent: {"score": 0.7 - int(percent) / 200, "distortion": 0.3} for percent in ("50", "90")}
    return {
        "rows": 872,
        "representations": {"student": classes, "teacher": teacher, **noises, "layers_signal_to_noise_db": [20.0, noise]},
        "errors": {"left_out": REASON} if left_out else measured | {"gain": [None, 1.0, 1.0], "distance": 2.0, "bound": 3.0},
        "weights": {"mean": mean, "score": 0.7, "one_shot": one_shot, "matrices": {}},
    }


def analysed(folder: Path, train: bool = False) -> Path:
    """A study of two seeds whose SDP students were analysed, and whose histories tell of training rows."""
    root = study(folder, seeds=(1, 2), scores=SMALL)
    for place, path in files_by_place(found(root, "scores.json")).items():
        if place.plan == "sdp-cc":
            write(path.with_name("analysis.json"), analysis(0.5 + 0.1 * place.seed, left_out=place.seed == 2))
        if train and place.plan == "sdp-cc":
            parts = ((0, 0.0, 0.8), (10, 0.5, 0.8), (20, 0.5, 0.9), (30, 0.5, 1.0), (40, 0.5, 1.0))
            rows = [{"step": s, "epoch": 1.0, "loss": 1.0, "sparsity": z, "grafting_probability": p} for s, z, p in parts]
            rows += [{"step": 20, "epoch": 1.0, "validation/accuracy": score} for score in (0.9, 0.4)]
            for step, gap in ((30, 0.1), (40, 0.1 * place.seed)):
                scores = {"validation/accuracy": 0.8, "validation/loss": 0.5, "train/loss": 0.5 - gap}
                rows.append({"step": step, "epoch": 2.0} | scores | {"train/accuracy": 0.8 + gap / 2})
            write(path.with_name("history.parquet"), rows)
    return root


def lines(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(table.itertuples(index=False, name=None))


@pytest.fixture
def findings(tmp_path):
    root = analysed(tmp_path, train=True)
    make_report(root)
    places = files_by_place(found(root, "scores.json"))
    curves = read_curves(found(root, "history.parquet"), dict.fromkeys(places, 40), GOALS, {"sdp-cc": HISTORY_COLUMNS["spd"]})
    [only] = read_findings(found(root, "analysis.json"), curves, read_results(root / "table.csv"), GOALS)
    return only


def test_numbers_of_students_stand_beside_their_measured_sparsity(findings):
    assert lines(findings.values["separability"]) == [("sdp-cc", "50", 0.5, 0.6), ("sdp-cc", "50", 0.5, 0.7)]
    assert findings.teacher == {"separability": pytest.approx(0.9)}, "what no teacher has is not drawn"
    assert findings.rows == 872 and findings.title == "base on tiny"


def test_errors_are_means_of_the_seeds_that_have_them_and_the_others_say_why(findings):
    [errors] = findings.errors
    assert errors.local == pytest.approx([0.0, 0.6, 0.2]) and errors.accumulated == pytest.approx([0.0, 0.6, 0.4])
    assert findings.left_out == {REASON: ["sdp-cc/50, seed 2"]}


def test_noise_of_layers_is_the_mean_of_seeds(findings):
    assert findings.noise == [("sdp-cc", "50", [20.0, 9.0])]


def test_what_a_student_lost_stands_beside_its_last_layer_s_error(findings):
    assert lines(findings.lost) == [("sdp-cc", 0.4, pytest.approx(0.9 - 0.88))]
    look = looks(["sdp-cc"])
    lost = (pd.concat([findings.lost] * count) for count in (1, 2))
    one, several = (list(error_pictures(findings._replace(lost=students), look)) for students in lost)
    assert len(several) == len(one) + 1 and "score lost against" in several[-1].label


def test_tasks_that_differ_in_their_rows_alone_show_the_gap_against_them(findings):
    tasks = {name: {"sources": [{"sha256": "a"}], "rows": {"train": rows}} for name, rows in (("tiny", 400), ("tenth", 40))}
    tasks["other"] = {"sources": [{"sha256": "b"}], "rows": {"train": 10}}
    several = [findings, *(findings._replace(task=name) for name in ("tenth", "other"))]
    [fractions] = read_fractions(several, tasks)
    assert (fractions.base, fractions.percent, fractions.tasks) == ("base", "50", ["tenth", "tiny"])
    assert fractions.values["gap_loss"]["x"].tolist() == [40, 40, 400, 400]
    assert lines(fractions.values["gap_metric"])[0] == ("sdp-cc", "tenth", 40, pytest.approx(0.05))
    assert len(list(fraction_pictures(fractions, looks(["sdp-cc"])))) == 4
    [part] = numbers_of([], [fractions], [])["fractions"]
    assert part["values"]["gap_loss"][0] == {"plan": "sdp-cc", "group": "tenth", "x": 40, "value": 0.1}
    assert read_fractions(several[:1], tasks) == [] == read_fractions([findings._replace(values={})] * 2, tasks)


def test_weights_are_means_over_seeds(findings):
    [weights] = findings.weights
    assert weights.means["hoyer"].mean == pytest.approx(0.65) and weights.means["hoyer"].n == 2
    assert weights.means["90"].mean == pytest.approx(0.25) and list(weights.means)[-3:] == ["score", "50", "90"]


def test_the_gap_is_that_of_the_last_evaluation(findings):
    values = {key: table["value"].tolist() for key, table in findings.values.items()}
    assert values["held_out_loss"] == [0.5, 0.5] and values["train_score"] == pytest.approx([0.85, 0.9])
    assert values["gap_loss"] == pytest.approx([0.1, 0.2]) and values["gap_metric"] == pytest.approx([0.05, 0.1])
    assert [panel.name for panel in findings.curves[0].overfitting] == ["loss", "accuracy"]
    assert findings.curves[0].overfitting[0].quantities == ["train", "validation"]


def test_curves_tell_where_removals_end_and_where_the_student_runs_alone(findings):
    assert findings.curves[0].turns == (10.0, 30.0)


def test_the_drop_at_a_removal_is_drawn_for_several_seeds(findings):
    [curves] = findings.curves
    [score] = [panel for panel in curves.panels if panel.kind == "score"]
    axes = Figure().subplots()
    draw_steps(axes, curves, score, curves.removals, looks(["sdp-cc"])["sdp-cc"])
    mean = max(axes.lines, key=lambda line: line.get_linewidth())
    assert mean.get_xydata()[:2].tolist() == [[20.0, 0.9], [20.0, 0.4]] and curves.removals == (20.0,)


def test_recoveries_are_means_over_removals_and_seeds(findings):
    [found] = findings.recoveries
    assert (found.plan, found.percent, found.removals) == ("sdp-cc", "50", 1)
    assert found.means["drop"] == (pytest.approx(0.5), pytest.approx(0.0), 2)
    assert found.means["regret"].mean == pytest.approx(0.4 / 3) and 0 < found.means["t90"].mean < 0.5


def test_the_page_shows_all_of_it_and_says_whose_definitions_they_are(tmp_path):
    root = analysed(tmp_path, train=True)
    page = make_report(root, curves=True)
    section = page[page.index('<section id="analyses">') : page.index('<section id="training">')]
    pictures = section.split("<svg ")[1:]
    labels = [picture.split('aria-label="')[1].split('"')[0] for picture in pictures if "aria-label" in picture.split(">")[0]]
    assert len([label for label in labels if "base on tiny" in label]) == 4 + 1 + 1 + 1 + 4 + 2
    assert words("</style>" + section).lower().count("definition ours") == 6 and "the definitions are ours" in section
    assert f"Left out for sdp-cc/50, seed 2: {REASON}." in words("</style>" + section)
    for picture in pictures:
        ElementTree.fromstring("<svg " + picture[: picture.index("</svg>")] + "</svg>")
    assert make_report(root, curves=True) == page


def test_pictures_and_numbers_also_stand_in_files_of_their_own(tmp_path):
    root = analysed(tmp_path, train=True)
    make_report(root, curves=True)
    picture = (root / "figures/analyses.svg").read_text()
    ElementTree.fromstring(picture)
    for title in (
        "class separability R²",
        "signal-to-noise ratio of layers, 50 %",
        "score on training rows",
        "sdp-cc: accuracy",
    ):
        assert title in picture
    [task] = json.loads((root / "analyses.json").read_text())["tasks"]
    assert (
        task["values"]["gap_loss"] == [{"plan": "sdp-cc", "group": "50", "x": 0.5, "value": value} for value in (0.1, 0.2)]
        and "curves" not in task
    )


def test_a_study_without_analyses_has_no_section(tmp_path):
    page = make_report(study(tmp_path, scores=SMALL), curves=True)
    assert "Analyses" not in words(page) and 'id="analyses"' not in page


def test_training_rows_alone_make_a_section_without_analyses(tmp_path):
    root = analysed(tmp_path, train=True)
    for path in found(root, "analysis.json"):
        path.unlink()
    page = words(make_report(root, curves=True))
    assert "Overfitting gap, definition ours" in page and "Implicit sparsity" not in page
