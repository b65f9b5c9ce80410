"""The tables of methods agree with each other, and no job's digest counts another method."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

from espalier.config.methods import HISTORY_COLUMNS, METHODS, SCORE_CURVES, AnyPlan
from espalier.provenance.code_digest import reached
from espalier.stages import MODULES

PACKAGE = Path(__file__).parents[2] / "workflow/espalier"
UNION, *_ = get_args(AnyPlan)
PLANS = {get_args(plan.model_fields["method"].annotation)[0]: plan for plan in get_args(UNION)}
SETTINGS = {(plan.__module__, plan.__name__) for plan in PLANS.values()}


def symbol(entry: str) -> tuple[str, str]:
    module, name = entry.split(":")
    return module, name


def test_every_method_has_settings_and_code():
    assert PLANS.keys() == METHODS.keys()
    assert HISTORY_COLUMNS.keys() | SCORE_CURVES.keys() <= METHODS.keys()


@pytest.mark.parametrize("method", list(METHODS))
def test_a_method_s_digest_counts_its_own_settings(method):
    plan = PLANS[method]
    assert (plan.__module__, plan.__name__) in reached(symbol(METHODS[method]))


@pytest.mark.parametrize("stage", ["compress", "recover", "specialise"])
def test_a_stage_s_digest_counts_no_method_s_settings(stage):
    assert not reached((MODULES[stage], "*")) & SETTINGS


@pytest.mark.parametrize("method", list(METHODS))
def test_what_the_report_is_told_trains_nothing_again(method):
    counted = reached(("espalier.stages.training.compress", "*"), symbol(METHODS[method]))
    assert not {name for module, name in counted if module.startswith("espalier.config.methods") and name.isupper()} & {
        *("GATE_COLUMNS", "WIDTH_COLUMNS", "GRAFTING_COLUMNS", "GRAFTING"),
        *("HISTORY_COLUMNS", "SCORE_CURVES"),
    }


@pytest.mark.parametrize("method", list(HISTORY_COLUMNS))
def test_columns_have_one_name_each_and_a_panel_one_unit(method):
    columns = HISTORY_COLUMNS[method]
    assert len({column.name for column in columns}) == len(columns)
    for title in {column.panel for column in columns if column.panel}:
        shown = [column for column in columns if column.panel == title]
        assert len({column.unit for column in shown}) == 1 and len({column.label for column in shown}) == len(shown)


def test_nobody_asks_of_which_class_settings_are():
    files = [*PACKAGE.glob("methods/*.py"), *PACKAGE.glob("training/*.py")]
    files += [PACKAGE / "pruning/handover.py", PACKAGE / "config/methods/spd.py"]
    for path in files:
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        asked = [ast.unparse(call) for call in calls if ast.unparse(call.func) == "isinstance"]
        assert not [text for text in asked if "settings" in text.lower() or "plan" in text.lower()], path
