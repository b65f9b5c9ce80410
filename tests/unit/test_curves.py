"""Training curves: how stages are joined, what stands in which panel, and how it is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from test_table import found, project, write

from espalier.config.methods import HISTORY_COLUMNS
from espalier.report.style import looks
from espalier.report.training_figures import draw_panel
from espalier.results.curves import MOST_POINTS, Curves, Line, Panel, read_curves
from espalier.results.places import files_by_place


def curves(*lines: Line, borders: tuple[tuple[str, float], ...] = (("50", 10.0), ("90", 20.0))) -> Curves:
    return Curves("base", "tiny", "sdp", list(borders), [Panel("task", "loss", list(lines))])


def line(seed: int, values: list[float], recovery: bool = False, start: float = 0.0) -> Line:
    return Line(seed, "50", recovery, [start + step for step in range(len(values))], values)


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
    steps = dict.fromkeys(files_by_place(found(root, "scores.json")), 40)
    read = read_curves(found(root, "history.parquet"), steps, {("base", "tiny"): ("validation", "accuracy")}, {})
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
    (read,) = read_curves([history], {}, {("base", "tiny"): ("validation", "accuracy")}, {})
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
    (read,) = read_curves([gated_history(tmp_path)], {}, {}, {"cofi": HISTORY_COLUMNS["cofi"]})
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
    (read,) = read_curves([gated_history(tmp_path, seed) for seed in (1, 2)], {}, {}, {"cofi": HISTORY_COLUMNS["cofi"]})
    axes = Figure().subplots()
    draw_panel(axes, read.panels[1], read, looks(["cofi"])["cofi"])
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["expected", "target", "measured"]
    styles = {(line.get_color(), line.get_linestyle()) for line in legend.get_lines()}
    assert len(styles) == 3


def test_sparsity_alone_has_no_panel(tmp_path: Path):
    history = tmp_path / "base/tiny/seed1/sdp/50/history.parquet"
    write(history, [{"step": 0, "loss/task": 1.0, "sparsity": 0.5}])
    (read,) = read_curves([history], {}, {}, {})
    assert [panel.name for panel in read.panels] == ["task"]


def test_long_histories_are_thinned(tmp_path: Path):
    history = tmp_path / "base/tiny/seed1/sdp/50/history.parquet"
    write(history, [{"step": step, "loss/task": 1.0} for step in range(3 * MOST_POINTS + 1)])
    (read,) = read_curves([history], {}, {}, {})
    assert MOST_POINTS / 2 <= len(read.panels[0].lines[0].steps) <= MOST_POINTS
