"""How far students of text tasks are from their teacher: what is read from histories, what is drawn, what the page says."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from test_report import make_report, sections, study, tags_of, words
from test_table import found, write

from espalier.config.methods import HISTORY_COLUMNS
from espalier.report.style import LIGHT, looks
from espalier.report.training_figures import distance_file, draw_comparison, draw_panel
from espalier.results.comparisons import Comparison
from espalier.results.curves import COMPARED, DISCREPANCY, RATE, read_curves
from espalier.results.places import place_of
from espalier.results.structures import read_maps

KL, LOSS = COMPARED[DISCREPANCY], COMPARED["loss"]
PLANS = ("iterative", "one-shot")
LOOK = looks(PLANS)


def history(folder: Path, plan: str, seed: int, first: float, steps: int = 3) -> Path:
    """Of one stage: with every step a row of training, with every second one an evaluation."""
    rows = []
    for step in range(steps):
        rows.append(
            {"step": step, "loss/mlm": 5.0, "samples_per_second": 10.0 + step, "width/hidden": 384.0 - step, "width/head": 4.0}
        )
        if step % 2 == 0:
            rows.append({"step": step, "validation/loss": 4.0 - step, "validation/discrepancy": first / 10**step})
    path = folder / f"base/corpus/seed{seed}/{plan}/50/history.parquet"
    write(path, rows)
    return path


def comparison(folder: Path, **more: int) -> Comparison:
    paths = [history(folder, plan, seed, 0.5 * seed, **more) for plan in PLANS for seed in (1, 2)]
    steps, goals = {place_of(path): 3 for path in paths}, {("base", "corpus"): ("validation", "masked-accuracy")}
    return Comparison(
        "base", "corpus", read_curves(paths, steps, goals, dict.fromkeys(PLANS, HISTORY_COLUMNS["homodistil"])), 3.5
    )


def test_distance_loss_and_speed_are_compared_where_a_distance_was_logged(tmp_path: Path):
    shown = comparison(tmp_path)
    assert [curves.plan for curves in shown.curves] == list(PLANS) and shown.names == [KL, LOSS, RATE[1]]
    first = shown.curves[0].compared
    assert [line.values for line in first[0].lines] == [[0.5, 0.005], [1.0, 0.01]]
    assert first[1].lines[0].values == [4.0, 2.0] and first[2].lines[0].values == [10.0, 11.0, 12.0]
    other = tmp_path / "base/tiny/seed1/sdp/50/history.parquet"
    write(other, [{"step": 0, "loss/task": 1.0, "validation/loss": 1.0, "samples_per_second": 1.0}])
    (read,) = read_curves([other], {}, {("base", "tiny"): ("validation", "accuracy")}, {})
    assert read.compared == ()


def test_the_ends_of_lines_and_the_most_they_reach_are_told(tmp_path: Path):
    curves = comparison(tmp_path).curves[:1]
    ends = {(end.seed, end.quantity): end[-3:] for end in Comparison("base", "corpus", curves, None).ends}
    assert ends[2, KL] == (1.0, 0.01, 1.0) and ends[1, RATE[1]] == (10.0, 12.0, 12.0)


def test_a_plan_is_a_mean_line_over_a_thin_one_a_seed(tmp_path: Path):
    axes = Figure().subplots()
    draw_comparison(axes, comparison(tmp_path), KL, LOOK)
    named = {line.get_label(): list(line.get_ydata()) for line in axes.lines if line.get_label() in PLANS}
    assert named == {plan: pytest.approx([0.75, 0.0075]) for plan in PLANS}
    assert len(axes.lines) == 2 * (2 + 1) and len({line.get_color() for line in axes.lines}) == 2
    assert axes.get_yscale() == "log", "from 1 to 0.005"


def test_the_teacher_s_loss_stands_beside_held_out_losses_alone(tmp_path: Path):
    shown, lines = comparison(tmp_path), {}
    for name in shown.names:
        axes = Figure().subplots()
        draw_comparison(axes, shown, name, LOOK)
        lines[name] = [line.get_ydata()[0] for line in axes.lines if line.get_color() == LIGHT["ink"]]
    assert lines == {KL: [], LOSS: [3.5], RATE[1]: []}


def test_numbers_on_a_logarithmic_axis_are_no_formulas(tmp_path: Path):
    picture = distance_file([comparison(tmp_path)], LOOK)
    ElementTree.fromstring(picture)
    assert "mathdefault" not in picture and ">0.05<" in picture


def test_widths_are_a_panel_and_logarithmic_as_they_differ_much(tmp_path: Path):
    (curves, _) = comparison(tmp_path).curves
    panel = curves.panels[-1]
    assert (panel.name, panel.quantities) == ("widths", ["hidden", "head"])
    axes = Figure().subplots()
    draw_panel(axes, panel, curves, LOOK["iterative"])
    assert axes.get_yscale() == "log"


def test_where_all_heads_stay_their_dimensions_are_shown(tmp_path: Path):
    count = lambda kept, total: {"kept": kept, "total": total}  # noqa: E731
    layer = {"heads": count(4, 4), "ffn": count(8, 16), "queries": count(24, 32), "values": count(24, 32)}
    content = {"target": 0.4, "sparsity": 0.4, "layers": [layer, layer], "hidden": count(6, 8)}
    write(tmp_path / "base/corpus/seed1/iterative/40/structure.json", content)
    (shown,) = read_maps(list(tmp_path.rglob("structure.json")))
    assert [part.count for part in shown.rows[0].layers[0]] == ["24", "8"]
    assert shown.rows[0].counted == "dimensions of queries"


def test_the_page_has_a_section_for_studies_with_text_tasks_alone(tmp_path: Path):
    root = study(tmp_path)
    page = make_report(root, curves=True)
    assert "distance" not in sections(page) and not (root / "figures/distance.svg").exists()
    for path in found(root, "history.parquet"):
        if path.parent.parent.name in ("sdp-cc", "magnitude"):
            write(path, [{"step": 1, "validation/discrepancy": 0.1, "validation/loss": 4.0, "samples_per_second": 2.0}])
    for path in found(root, "scores.json"):
        scores = json.loads(path.read_text())
        scores["sets"][scores["set"]]["loss"] = 3.25
        write(path, scores)
    page = make_report(root, curves=True, text=True)
    assert sections(page)[3:5] == ["distance", "training"] and "Distance from the teacher" in words(page)
    labels = [str(attributes.get("aria-label")) for tag, attributes in tags_of(page) if tag == "svg"]
    assert f"{KL} over training steps of magnitude, sdp-cc, base on tiny" in labels
    assert (root / "figures/distance.svg").stat().st_size > 0
    [text] = json.loads((root / "analyses.json").read_text())["texts"]
    assert (text["base"], text["task"], text["teacher_loss"]) == ("base", "tiny", 3.25)
    once = {"seed": 1, "percent": "50", "quantity": KL, "first": 0.1, "last": 0.1, "most": 0.1}
    assert {"plan": "magnitude"} | once in text["ends"]
