"""Quality against size and speed, and plans that share a target: what is drawn where."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from espalier.report.ablation_figures import arms, arms_figures, draw_arms
from espalier.report.quality_figures import SPARSITY, SPEEDS, STORED_SIZE, draw_quality, measured, points
from espalier.report.style import looks
from espalier.results.quality import Quality
from espalier.results.summary import Group, Mean, target_label


def group(plan: str, sparsity: float, score: float, sd: float | None = 0.01, n: int = 3, **means: float) -> Group:
    shown = {"score": Mean(score, sd, n), "sparsity_encoder": Mean(sparsity, 0.0, n)}
    known = {name: Mean(value, None, n) for name, value in means.items()}
    return Group("base", "tiny", plan, plan, sparsity, f"{100 * sparsity:g}", "accuracy", shown | known)


def quality(*groups: Group, majority: float | None = 0.5) -> Quality:
    teacher = group("teacher", 0.0, 0.9, params_total=20e6, size_mib=80.0, speedup_b32=0.98)
    return Quality("base on tiny", "accuracy", [teacher, *groups], majority)


def compact(sparsity: float, score: float, millions: float, speedup: float) -> Group:
    return group("cofi", sparsity, score, params_total=millions * 1e6, size_mib=4 * millions, speedup_b32=speedup)


def test_points_lie_at_measured_sparsity_and_the_teacher_is_a_line():
    axes = Figure().subplots()
    draw_quality(axes, quality(group("sdp", 0.498, 0.8), group("sdp", 0.9, 0.7)), SPARSITY, looks(["sdp"]))
    drawn = {container.get_label(): container.lines[0].get_xydata().tolist() for container in axes.containers}
    assert drawn["sdp"] == [[pytest.approx(49.8), 0.8], [90.0, 0.7]]
    levels = {level.get_label(): level.get_ydata()[0] for level in axes.lines if len(level.get_ydata())}
    assert (levels["teacher, mean"], levels["most frequent class"]) == (0.9, 0.5)


def test_a_guess_far_below_is_written_instead_of_drawn():
    axes = Figure().subplots()
    draw_quality(axes, quality(group("sdp", 0.5, 0.88), majority=0.1), SPARSITY, looks(["sdp"]))
    assert [text.get_text() for text in axes.texts] == ["↓ most frequent class: 0.100"]
    assert "most frequent class" not in axes.get_legend_handles_labels()[1]
    assert axes.get_ylim()[0] > 0.8


def test_one_seed_has_no_error_bar():
    axes = Figure().subplots()
    draw_quality(axes, quality(group("sdp", 0.5, 0.8, sd=None, n=1)), SPARSITY, looks(["sdp"]))
    (bars,) = axes.containers[0].lines[2]
    assert not [segment for segment in bars.get_segments() if segment.size and (segment == segment).all()]


def test_size_is_what_is_stored_and_the_smaller_ones_carry_their_target():
    axes = Figure().subplots()
    shown = quality(compact(0.6, 0.88, 10.0, 2.0), group("sdp", 0.5, 0.8, params_total=20e6, size_mib=80.0, speedup_b32=1.01))
    draw_quality(axes, shown, STORED_SIZE, looks(["cofi", "sdp"]))
    drawn = {container.get_label(): container.lines[0].get_xydata().tolist() for container in axes.containers}
    assert drawn == {"cofi": [[40.0, 0.88]], "sdp": [[80.0, 0.8]]}
    assert [text.get_text() for text in axes.texts if "%" in text.get_text()] == ["60 %"]
    assert [point.smaller for point in points(shown, STORED_SIZE)] == [False, True, False]


@pytest.mark.parametrize(("fastest", "scale"), [(3.9, "linear"), (12.0, "log")])
def test_far_speed_ups_stand_on_a_logarithmic_axis_and_the_dense_model_at_one(fastest, scale):
    axes = Figure().subplots()
    draw_quality(axes, quality(compact(0.6, 0.88, 10.0, 1.0), compact(0.95, 0.8, 5.0, fastest)), SPEEDS[0], looks(["cofi"]))
    assert axes.get_xscale() == scale
    assert [1.0, 1.0] in [list(line.get_xdata()) for line in axes.lines]


def test_speeds_that_are_none_are_drawn_from_zero():
    axes = Figure().subplots()
    draw_quality(axes, quality(group("sdp", 0.5, 0.8, params_total=20e6, speedup_b32=1.03)), SPEEDS[0], looks(["sdp"]))
    assert axes.get_xlim()[0] == 0.0


def test_a_runtime_is_drawn_where_students_were_timed_in_it():
    onnx = group("cofi", 0.6, 0.8, params_total=10e6, onnx_speedup_b32=2.0)
    assert measured(quality()) == [STORED_SIZE]
    assert measured(quality(compact(0.6, 0.88, 10.0, 2.0))) == [STORED_SIZE, SPEEDS[0]]
    assert measured(quality(onnx)) == [STORED_SIZE, SPEEDS[1]]


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
    assert target_label(word) == said


def rival(plan: str, method: str, score: float, **means: float) -> Group:
    known = {name: Mean(value, None, 1) for name, value in means.items()}
    return Group("base", "tiny", plan, method, None, "0", "accuracy", {"score": Mean(score, None, 1), **known})


LINEAR = rival("linear", "linear", 0.6, params_total=1e5, size_mib=0.8, speedup_b32=50.0)
TINY = rival("tiny", "ready-made", 0.7, params_total=4e6, size_mib=16.8, sparsity_encoder=0.96, speedup_b32=20.0)


def test_rivals_stand_among_the_students_under_their_names():
    look = looks(["cofi", "tiny", "linear"])
    shown = quality(compact(0.6, 0.88, 10.0, 2.0), LINEAR, TINY)
    for against, place in ((STORED_SIZE, (0.8, 16.8)), (SPEEDS[0], (50.0, 20.0))):
        axes = Figure().subplots()
        draw_quality(axes, shown, against, look)
        drawn = {container.get_label(): container.lines[0].get_xydata().tolist() for container in axes.containers}
        assert (drawn["linear"], drawn["tiny"]) == ([[place[0], 0.6]], [[place[1], 0.7]])
        assert {"linear", "tiny", "60 %"} <= {text.get_text() for text in axes.texts}


def test_against_sparsity_the_linear_model_is_a_line_and_a_ready_made_one_a_point():
    axes = Figure().subplots()
    draw_quality(axes, quality(compact(0.6, 0.88, 10.0, 2.0), LINEAR, TINY), SPARSITY, looks(["cofi", "tiny", "linear"]))
    drawn = {container.get_label(): container.lines[0].get_xydata().tolist() for container in axes.containers}
    assert drawn["tiny"] == [[pytest.approx(96.0), 0.7]] and "linear" not in drawn
    [line] = [line for line in axes.lines if line.get_label() == "linear"]
    assert line.get_ydata()[0] == 0.6
