"""Plans that differ in how they graft alone: which they are, and their picture; plans that remove nothing beside the others."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from matplotlib.figure import Figure

from espalier.config import parse
from espalier.config.pictures import ScoreCurve
from espalier.config.reporting.specs import report_spec
from espalier.report.ablation_figures import arms, draw_score_curve, score_curve_figures
from espalier.results.quality import Quality
from espalier.results.summary import Group, Mean

SPD = {"method": "spd", "path": [0.9]}
GRAFTING = {"low": (0.2, "linear"), "high": (0.8, "linear"), "late": (0.4, "constant-linear")}


def group(plan: str, percent: str, score: float) -> Group:
    return Group("base", "tiny", plan, "spd", float(percent) / 100, percent, "accuracy", {"score": Mean(score, 0.01, 3)})


def quality(*groups: Group) -> Quality:
    return Quality("base on tiny", "accuracy", [group("teacher", "0", 0.9), *groups], None)


def curves_of(small: dict[str, Any], **plans: dict[str, Any]) -> list[ScoreCurve]:
    return report_spec(parse(small | {"tasks": {"docs-library": None}, "plans": plans})).score_curves


def test_an_ablation_is_of_plans_that_differ_in_nothing_else(small):
    plans = {
        name: SPD | {"initial_probability": first, "probability_schedule": schedule}
        for name, (first, schedule) in GRAFTING.items()
    }
    [curve] = curves_of(small, **plans, other=SPD | {"initial_probability": 0.6, "prune_steps": 6})
    assert curve.points == GRAFTING
    sudden = SPD | {"grafting_epochs": 0.0, "finetune_epochs": 30.0}
    assert curves_of(small, **plans, sudden=sudden)[0].points["sudden"] == (0.8, "constant, then 1")
    assert curves_of(small, a=SPD, b=SPD | {"initial_probability": 1.0}) == [], "two make no curve"


def test_a_schedule_is_a_line_against_the_first_probability():
    shown = quality(group("high", "90", 0.7), group("low", "90", 0.6), group("late", "90", 0.65), group("low", "50", 0.8))
    curve = ScoreCurve(name="first probability", axis="probability", note="Grafting.", points=GRAFTING)
    pictures = list(score_curve_figures(shown, curve))
    assert ["at 90 %" in picture for picture in pictures] == [True, False]
    for picture in pictures:
        ElementTree.fromstring(picture)
    axes = Figure().subplots()
    draw_score_curve(axes, shown.groups[1:4], curve, None)
    lines = {container.get_label(): container.lines[0].get_xydata().tolist() for container in axes.containers}
    assert lines == {"linear": [[0.2, 0.6], [0.8, 0.7]], "constant-linear": [[0.4, 0.65]]}


def test_plans_that_remove_nothing_stand_at_every_target():
    dense, four = group("dense", "0", 0.85), [group(plan, "90", 0.7) for plan in "abcd"]
    assert [each.plan for each in arms(quality(dense, *four))["90"]] == ["dense", "a", "b", "c", "d"]
    assert not arms(quality(dense, *four[:3]))
