"""figures and curves: what is drawn where, that colours can be told apart, and that pictures parse."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from test_table import found, project, write

from espalier.core.curves import LONGEST, Curves, Line, Panel, read_curves
from espalier.core.figures import (
    DARK,
    LIGHT,
    MARKERS,
    SERIES,
    Quality,
    draw_panel,
    draw_quality,
    looks,
    panel_figures,
    quality_figure,
    quality_file,
    training_file,
)
from espalier.core.results import by_place
from espalier.core.summary import Group, Mean


def group(plan: str, sparsity: float, score: float, sd: float | None = 0.01, n: int = 3) -> Group:
    means = {"score": Mean(score, sd, n), "sparsity_encoder": Mean(sparsity, 0.0, n)}
    return Group("base", "tiny", plan, plan, sparsity, "accuracy", means)


def quality(*groups: Group, majority: float | None = 0.5) -> Quality:
    return Quality("base on tiny", "accuracy", [group("teacher", 0.0, 0.9), *groups], majority)


def curves(*lines: Line, borders: tuple[tuple[str, float], ...] = (("50", 10.0), ("90", 20.0))) -> Curves:
    return Curves("base", "tiny", "sdp", list(borders), [Panel("task", False, list(lines))])


def line(seed: int, values: list[float], recovery: bool = False, start: float = 0.0) -> Line:
    return Line(seed, "50", recovery, [start + step for step in range(len(values))], values)


def contrast(first: str, second: str) -> float:
    """WCAG contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_series_stand_out_from_the_page(dark):
    page = (DARK if dark else LIGHT)["page"]
    readable = [(DARK if dark else LIGHT)["ink"], (DARK if dark else LIGHT)["muted"], *(pair[dark] for pair in SERIES)]
    assert min(contrast(colour, page) for colour in readable) >= 4.5


def test_roles_have_colours_of_their_own():
    light = [*LIGHT.values(), *(pair[0] for pair in SERIES)]
    assert len(set(light)) == len(light)


def test_plans_differ_by_marker_where_colours_come_again():
    plans = [f"plan-{place}" for place in range(2 * len(SERIES))]
    look = looks(["teacher", *plans])
    assert len({look[plan] for plan in plans}) == len(plans)
    assert len(set(MARKERS)) == len(MARKERS)


def test_points_lie_at_measured_sparsity_and_the_teacher_is_a_line():
    axes = Figure().subplots()
    draw_quality(axes, quality(group("sdp", 0.498, 0.8), group("sdp", 0.9, 0.7)), looks(["sdp"]))
    drawn = {container.get_label(): container.lines[0].get_xydata().tolist() for container in axes.containers}
    assert drawn["sdp"] == [[pytest.approx(49.8), 0.8], [90.0, 0.7]]
    levels = {level.get_label(): level.get_ydata()[0] for level in axes.lines if len(level.get_ydata())}
    assert (levels["teacher, mean"], levels["most frequent class"]) == (0.9, 0.5)


def test_a_guess_far_below_is_written_instead_of_drawn():
    axes = Figure().subplots()
    draw_quality(axes, quality(group("sdp", 0.5, 0.88), majority=0.1), looks(["sdp"]))
    assert [text.get_text() for text in axes.texts] == ["↓ most frequent class: 0.100"]
    assert "most frequent class" not in axes.get_legend_handles_labels()[1]
    assert axes.get_ylim()[0] > 0.8


def test_one_seed_has_no_error_bar():
    axes = Figure().subplots()
    draw_quality(axes, quality(group("sdp", 0.5, 0.8, sd=None, n=1)), looks(["sdp"]))
    (bars,) = axes.containers[0].lines[2]
    assert not [segment for segment in bars.get_segments() if segment.size and (segment == segment).all()]


def test_several_seeds_get_a_mean_line():
    axes = Figure().subplots()
    drawn = curves(line(1, [1.0, 2.0]), line(2, [3.0, 4.0, 5.0]), line(1, [9.0], recovery=True, start=20.0))
    draw_panel(axes, drawn.panels[0], drawn, looks(["sdp"])["sdp"])
    means = [each.get_ydata() for each in axes.lines if each.get_linewidth() == 1.6]
    assert [list(values) for values in means] == [[2.0, 3.0]]


def test_stage_borders_are_drawn_and_named():
    axes = Figure().subplots()
    drawn = curves(line(1, [1.0, 2.0]), line(1, [9.0, 8.0], recovery=True, start=20.0))
    draw_panel(axes, drawn.panels[0], drawn, looks(["sdp"])["sdp"])
    assert [text.get_text() for text in axes.texts] == ["50 %", "90 %"]
    assert [each.get_xdata()[0] for each in axes.lines if len(set(each.get_xdata())) == 1] == [10.0, 20.0]


@pytest.mark.parametrize(("last", "scale"), [(0.5, "linear"), (0.01, "log"), (0.0, "linear")])
def test_a_steep_loss_has_a_logarithmic_axis(last, scale):
    axes = Figure().subplots()
    drawn = curves(line(1, [1.0, last]))
    draw_panel(axes, drawn.panels[0], drawn, looks(["sdp"])["sdp"])
    assert axes.get_yscale() == scale


def test_stages_stand_one_after_another(tmp_path: Path):
    root = project(tmp_path, seeds=(1, 2))
    steps = dict.fromkeys(by_place(found(root, "scores.json")), 40)
    read = read_curves(found(root, "history.parquet"), steps, {("base", "tiny"): ("validation", "accuracy")})
    assert [each.plan for each in read] == ["teacher", "dense", "magnitude", "sdp-cc"]
    sdp = read[-1]
    assert (sdp.borders, sdp.seeds, sdp.last_step) == ([("50", 40.0), ("97.5", 80.0)], 2, 120.0)
    assert [(panel.name, panel.is_score) for panel in sdp.panels] == [
        ("task", False),
        ("sdp-cc", False),
        ("validation accuracy", True),
    ]
    starts = {(each.percent, each.recovery): each.steps[0] for each in sdp.panels[0].lines}
    assert starts == {("50", False): 0.0, ("97.5", False): 40.0, ("50", True): 40.0, ("97.5", True): 80.0}


def test_another_set_is_watched_where_the_scoring_one_was_not(tmp_path: Path):
    history = tmp_path / "base/tiny/seed1/sdp/50/history.parquet"
    write(history, [{"step": 0, "loss/task": 1.0}, {"step": 5, "selection/accuracy": 0.5}])
    (read,) = read_curves([history], {}, {("base", "tiny"): ("validation", "accuracy")})
    assert [panel.name for panel in read.panels] == ["task", "selection accuracy"]


def test_long_histories_are_thinned(tmp_path: Path):
    history = tmp_path / "base/tiny/seed1/sdp/50/history.parquet"
    write(history, [{"step": step, "loss/task": 1.0} for step in range(3 * LONGEST + 1)])
    (read,) = read_curves([history], {}, {})
    assert LONGEST / 2 <= len(read.panels[0].lines[0].steps) <= LONGEST


def test_pictures_parse_and_repeat_and_keep_text_as_text():
    look = looks(["sdp"])
    shown, drawn = quality(group("sdp", 0.5, 0.8)), curves(line(1, [1.0, 2.0]))
    for make in (
        lambda: quality_figure(shown, look),
        lambda: panel_figures(drawn, look)[0],
        lambda: quality_file([shown] * 4, look),
        lambda: training_file([drawn, drawn], look),
        lambda: quality_file([], look),
        lambda: training_file([], look),
    ):
        text = make()
        assert text == make()
        ElementTree.fromstring(text)
    assert "base on tiny" in quality_figure(shown, look)


def test_names_are_not_read_as_formulas_or_markup():
    drawn = Curves("base", "tiny", "sdp", [("50", 1.0)], [Panel('$x^2$<b>"&', False, [line(1, [1.0, 2.0])])])
    picture = panel_figures(drawn, looks(["sdp"]))[0]
    texts = [element.text for element in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert '$x^2$<b>"&' in texts
