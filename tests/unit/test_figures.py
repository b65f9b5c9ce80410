"""figures and curves: what is drawn where, that colours can be told apart, and that pictures parse."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from test_table import found, project, write

from espalier.core.arms import arms, arms_figures, draw_arms
from espalier.core.curves import LONGEST, Curves, Line, Panel, read_curves
from espalier.core.figures import DARK, LIGHT, MARKERS, SERIES, looks, place_labels
from espalier.core.maps import Part, Row, StructureMap, draw_row, map_figure, read_maps, structure_file
from espalier.core.panels import draw_panel, panel_figures, training_file
from espalier.core.quality import (
    SIZE,
    SPARSITY,
    SPEEDS,
    Quality,
    draw,
    key,
    measured,
    points,
    quality_figures,
    quality_file,
    size_file,
)
from espalier.core.results import by_place
from espalier.core.summary import Group, Mean, goal


def group(plan: str, sparsity: float, score: float, sd: float | None = 0.01, n: int = 3, **means: float) -> Group:
    shown = {"score": Mean(score, sd, n), "sparsity_encoder": Mean(sparsity, 0.0, n)}
    known = {name: Mean(value, None, n) for name, value in means.items()}
    return Group("base", "tiny", plan, plan, sparsity, f"{100 * sparsity:g}", "accuracy", shown | known)


def quality(*groups: Group, majority: float | None = 0.5) -> Quality:
    teacher = group("teacher", 0.0, 0.9, params_total=20e6, speedup_b32=0.98)
    return Quality("base on tiny", "accuracy", [teacher, *groups], majority)


def compact(sparsity: float, score: float, millions: float, speedup: float) -> Group:
    return group("cofi", sparsity, score, params_total=millions * 1e6, speedup_b32=speedup)


def curves(*lines: Line, borders: tuple[tuple[str, float], ...] = (("50", 10.0), ("90", 20.0))) -> Curves:
    return Curves("base", "tiny", "sdp", list(borders), [Panel("task", "loss", list(lines))])


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
    draw(axes, quality(group("sdp", 0.498, 0.8), group("sdp", 0.9, 0.7)), SPARSITY, looks(["sdp"]))
    drawn = {container.get_label(): container.lines[0].get_xydata().tolist() for container in axes.containers}
    assert drawn["sdp"] == [[pytest.approx(49.8), 0.8], [90.0, 0.7]]
    levels = {level.get_label(): level.get_ydata()[0] for level in axes.lines if len(level.get_ydata())}
    assert (levels["teacher, mean"], levels["most frequent class"]) == (0.9, 0.5)


def test_a_guess_far_below_is_written_instead_of_drawn():
    axes = Figure().subplots()
    draw(axes, quality(group("sdp", 0.5, 0.88), majority=0.1), SPARSITY, looks(["sdp"]))
    assert [text.get_text() for text in axes.texts] == ["↓ most frequent class: 0.100"]
    assert "most frequent class" not in axes.get_legend_handles_labels()[1]
    assert axes.get_ylim()[0] > 0.8


def test_one_seed_has_no_error_bar():
    axes = Figure().subplots()
    draw(axes, quality(group("sdp", 0.5, 0.8, sd=None, n=1)), SPARSITY, looks(["sdp"]))
    (bars,) = axes.containers[0].lines[2]
    assert not [segment for segment in bars.get_segments() if segment.size and (segment == segment).all()]


def test_size_is_what_is_stored_and_the_smaller_ones_carry_their_target():
    axes = Figure().subplots()
    shown = quality(compact(0.6, 0.88, 10.0, 2.0), group("sdp", 0.5, 0.8, params_total=20e6, speedup_b32=1.01))
    draw(axes, shown, SIZE, looks(["cofi", "sdp"]))
    drawn = {container.get_label(): container.lines[0].get_xydata().tolist() for container in axes.containers}
    assert drawn == {"cofi": [[10.0, 0.88]], "sdp": [[20.0, 0.8]]}
    assert [text.get_text() for text in axes.texts if "%" in text.get_text()] == ["60 %"]
    assert [point.smaller for point in points(shown, SIZE)] == [False, True, False]


@pytest.mark.parametrize(("fastest", "scale"), [(3.9, "linear"), (12.0, "log")])
def test_far_speed_ups_stand_on_a_logarithmic_axis_and_the_dense_model_at_one(fastest, scale):
    axes = Figure().subplots()
    draw(axes, quality(compact(0.6, 0.88, 10.0, 1.0), compact(0.95, 0.8, 5.0, fastest)), SPEEDS[0], looks(["cofi"]))
    assert axes.get_xscale() == scale
    assert [1.0, 1.0] in [list(line.get_xdata()) for line in axes.lines]


def test_speeds_that_are_none_are_drawn_from_zero():
    axes = Figure().subplots()
    draw(axes, quality(group("sdp", 0.5, 0.8, params_total=20e6, speedup_b32=1.03)), SPEEDS[0], looks(["sdp"]))
    assert axes.get_xlim()[0] == 0.0


def test_a_runtime_is_drawn_where_students_were_timed_in_it():
    onnx = group("cofi", 0.6, 0.8, params_total=10e6, onnx_speedup_b32=2.0)
    assert measured(quality()) == [SIZE]
    assert measured(quality(compact(0.6, 0.88, 10.0, 2.0))) == [SIZE, SPEEDS[0]]
    assert measured(quality(onnx)) == [SIZE, SPEEDS[1]]


def test_labels_do_not_cover_each_other():
    axes = Figure().subplots()
    crowd = [("60 %", "#000000", 0.5, 0.5)] * 6
    place_labels(axes, crowd, [[(0.5, 0.5)]])
    placed = {(text.get_position(), text.get_ha()) for text in axes.texts}
    assert len(placed) == len(axes.texts) == 4


def test_plans_that_share_a_target_stand_one_below_the_other():
    four = [group(plan, 0.9, score) for plan, score in (("a", 0.7), ("b", 0.8), ("c", 0.6), ("d", 0.75))]
    shown = quality(*four, group("a", 0.5, 0.85))
    assert {percent: [each.plan for each in own] for percent, own in arms(shown).items()} == {"90": ["a", "b", "c", "d"]}
    [picture] = arms_figures(shown, looks(["a", "b", "c", "d"]))
    assert "accuracy of plans at 90 %" in picture
    axes = Figure().subplots()
    draw_arms(axes, four, None, looks(["a", "b", "c", "d"]))
    places = {container.lines[0].get_xdata()[0]: container.lines[0].get_ydata()[0] for container in axes.containers}
    assert places == {0.7: 0, 0.8: 1, 0.6: 2, 0.75: 3} and axes.get_ylim() == (3.5, -0.5)
    assert not arms(quality(*four[:3]))


@pytest.mark.parametrize(
    ("word", "said"),
    [("60", "60 %"), ("97.5", "97.5 %"), ("4x", "4×"), ("12.5ms", "12.5 ms"), ("5M-parameters", "5M parameters")],
)
def test_targets_are_said_in_their_own_unit(word, said):
    assert goal(word) == said


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
    assert [(panel.name, panel.kind) for panel in sdp.panels] == [
        ("task", "loss"),
        ("sdp-cc", "loss"),
        ("validation accuracy", "score"),
    ]
    starts = {(each.percent, each.recovery): each.steps[0] for each in sdp.panels[0].lines}
    assert starts == {("50", False): 0.0, ("97.5", False): 40.0, ("50", True): 40.0, ("97.5", True): 80.0}


def test_another_set_is_watched_where_the_scoring_one_was_not(tmp_path: Path):
    history = tmp_path / "base/tiny/seed1/sdp/50/history.parquet"
    write(history, [{"step": 0, "loss/task": 1.0}, {"step": 5, "selection/accuracy": 0.5}])
    (read,) = read_curves([history], {}, {("base", "tiny"): ("validation", "accuracy")})
    assert [panel.name for panel in read.panels] == ["task", "selection accuracy"]


def gated_history(folder: Path, seed: int = 1) -> Path:
    history = folder / f"base/tiny/seed{seed}/cofi/60/history.parquet"
    first = {"step": 0, "loss/task": 1.0, "sparsity": 0.0}
    gates = {
        "expected_sparsity": 0.1,
        "target_sparsity": 0.2,
        "sparsity": 0.3,
        "lambda/1": -1.0,
        "lambda/2": 2.0,
        "match/3": 1.0,
    }
    write(history, [first, {"step": 5, "loss/task": 0.5} | gates, {"step": 9, "loss/task": 0.4} | gates])
    return history


def test_sparsity_is_shown_with_its_target_and_multipliers_together(tmp_path: Path):
    (read,) = read_curves([gated_history(tmp_path)], {}, {})
    assert [(panel.name, panel.quantities) for panel in read.panels] == [
        ("task", [""]),
        ("sparsity", ["expected", "target", "measured"]),
        ("multipliers", ["λ1", "λ2"]),
    ]
    assert {line.quantity: line.values for line in read.panels[1].lines} == {
        "expected": [0.1, 0.1],
        "target": [0.2, 0.2],
        "measured": [0.0, 0.3, 0.3],
    }


def test_quantities_of_one_panel_can_be_told_apart(tmp_path: Path):
    (read,) = read_curves([gated_history(tmp_path, seed) for seed in (1, 2)], {}, {})
    axes = Figure().subplots()
    draw_panel(axes, read.panels[1], read, looks(["cofi"])["cofi"])
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["expected", "target", "measured"]
    styles = {(line.get_color(), line.get_linestyle()) for line in legend.get_lines()}
    assert len(styles) == 3


def test_sparsity_alone_has_no_panel(tmp_path: Path):
    history = tmp_path / "base/tiny/seed1/sdp/50/history.parquet"
    write(history, [{"step": 0, "loss/task": 1.0, "sparsity": 0.5}])
    (read,) = read_curves([history], {}, {})
    assert [panel.name for panel in read.panels] == ["task"]


def structure(heads: list[int], units: list[int]) -> dict[str, Any]:
    layers = [
        {"heads": {"kept": one, "total": 4}, "ffn": {"kept": other, "total": 16}}
        for one, other in zip(heads, units, strict=True)
    ]
    return {"target": 0.6, "sparsity": 0.59, "layers": layers, "hidden": {"kept": 7, "total": 8}}


def test_maps_gather_seeds_and_leave_out_single_weights(tmp_path: Path):
    write(tmp_path / "base/tiny/seed1/cofi/60/structure.json", structure([2, 0], [16, 8]))
    write(tmp_path / "base/tiny/seed2/cofi/60/structure.json", structure([4, 0], [0, 8]))
    write(tmp_path / "base/tiny/seed1/cofi/95/structure.json", structure([1, 0], [0, 8]))
    write(tmp_path / "base/tiny/seed1/sdp/50/structure.json", {"target": 0.5, "sparsity": 0.5, "matrices": {}})
    (shown,) = read_maps(sorted(tmp_path.rglob("structure.json"), reverse=True))
    assert (shown.title, [row.percent for row in shown.rows]) == ("base · tiny · cofi", ["60", "95"])
    assert shown.rows[0].layers == [(Part((2, 4), 4), Part((16, 0), 16)), (Part((0, 0), 4), Part((8, 8), 16))]
    assert [part.gone for layer in shown.rows[0].layers for part in layer] == [False, False, True, False]


def row(seeds: int = 1, layers: int = 2) -> Row:
    kept, gone = (Part((3,) * seeds, 4), Part((8,) * seeds, 16)), (Part((0,) * seeds, 4), Part((2,) * seeds, 16))
    return Row("60", (0.59,) * seeds, [kept, *[gone] * (layers - 1)], Part((7,) * seeds, 8))


def test_bars_are_fractions_and_what_is_gone_has_a_cross_instead():
    axes = Figure().subplots()
    draw_row(axes, row(), looks(["cofi"])["cofi"])
    filled = [bar.get_height() for bar in axes.patches if bar.get_facecolor()[:3] == to_rgb(SERIES[0][0])]
    assert filled == [0.75, 0.5, 0.125]
    assert [line.get_marker() for line in axes.lines] == ["x"]
    assert [text.get_text() for text in axes.texts] == ["3", "8", "2"]
    assert axes.get_title(loc="right") == "removed 59.0 %, hidden 7 of 8, n = 1"


def test_several_seeds_are_dots_and_deep_models_have_no_counts():
    axes = Figure().subplots()
    draw_row(axes, row(seeds=3, layers=12), looks(["cofi"])["cofi"])
    assert len([line for line in axes.lines if len(line.get_xdata()) == 3]) == 13
    assert not axes.texts


def test_long_histories_are_thinned(tmp_path: Path):
    history = tmp_path / "base/tiny/seed1/sdp/50/history.parquet"
    write(history, [{"step": step, "loss/task": 1.0} for step in range(3 * LONGEST + 1)])
    (read,) = read_curves([history], {}, {})
    assert LONGEST / 2 <= len(read.panels[0].lines[0].steps) <= LONGEST


def test_pictures_parse_and_repeat_and_keep_text_as_text():
    look = looks(["sdp"])
    shown, drawn = quality(group("sdp", 0.5, 0.8)), curves(line(1, [1.0, 2.0]))
    maps = [StructureMap("base", "tiny", "sdp", [row(), row(2)._replace(percent="95")])]
    for make in (
        lambda: quality_figures(shown, look)[-1],
        lambda: next(key([shown], look))[0],
        lambda: map_figure(maps[0], look),
        lambda: structure_file(maps, look),
        lambda: structure_file([], look),
        lambda: size_file([shown] * 2, look),
        lambda: size_file([], look),
        lambda: panel_figures(drawn, look)[0],
        lambda: quality_file([shown] * 4, look),
        lambda: training_file([drawn, drawn], look),
        lambda: quality_file([], look),
        lambda: training_file([], look),
    ):
        text = make()
        assert text == make()
        ElementTree.fromstring(text)
    assert "base on tiny" in quality_file([shown], look)


def test_names_are_not_read_as_formulas_or_markup():
    drawn = Curves("base", "tiny", "sdp", [("50", 1.0)], [Panel('$x^2$<b>"&', "loss", [line(1, [1.0, 2.0])])])
    picture = panel_figures(drawn, looks(["sdp"]))[0]
    texts = [element.text for element in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert '$x^2$<b>"&' in texts
