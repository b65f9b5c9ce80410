"""A new method is two new files and a line in each table of names: run through the real stages, it is in the report."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLES = Path("config/methods/__init__.py")
SETTINGS = '''
"""Settings of a made-up method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from espalier.config.methods.pruning import IterativePlan
from espalier.config.pictures import HistoryColumn, ScoreCurve


class HalvingPlan(IterativePlan):
    """Magnitude pruning that tells how many weights are left."""

    method: Literal["halving"]


HALVING_COLUMNS = (
    HistoryColumn(name="left/weights", panel="weights left", label="left", unit="thousands", turn="no weight goes"),
    HistoryColumn(name="left/goal", panel="weights left", label="to be left", unit="thousands", is_goal=True),
)


def halving_curves(plans: Mapping[str, HalvingPlan]) -> list[ScoreCurve]:
    """Score against the number of removals."""
    points = {name: (float(plan.prune_steps), "halving") for name, plan in plans.items()}
    note = "Halving, a made-up comparison: plans that differ in their removals."
    return [ScoreCurve(name="number of removals", axis="removals in a stage", note=note, points=points)]
'''
CODE = '''
"""A made-up method."""

from __future__ import annotations

from espalier.config.methods.halving import HalvingPlan
from espalier.methods.pruning import WeightPruning


class Halving(WeightPruning):
    """Magnitude pruning that logs how many weights are left."""

    settings: HalvingPlan

    def after_step(self, step: int) -> dict[str, float]:
        """Thousands of weights: kept now, and kept at the end of the stage."""
        total = sum(mask.numel() for mask in self.pruner.masks.values()) / 1000.0
        return {"left/weights": total * (1.0 - self.sparsity), "left/goal": total * (1.0 - self.stage.target)}
'''
NAMES = {
    "from espalier.config.methods.homodistil": "from espalier.config.methods.halving import "
    "HALVING_COLUMNS, HalvingPlan, halving_curves\n",
    '    "random": "espalier': '    "halving": "espalier.methods.halving:Halving",\n',
    '    "homodistil": WIDTH_COLUMNS': '    "halving": HALVING_COLUMNS,\n',
    '"spd": grafting_curves': '"halving": halving_curves, ',
    "    | RandomPlan": "    | HalvingPlan\n",
}
"""Text in the file of tables → what is written before it."""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package with the made-up method in it."""
    folder = tmp_path / "workflow/espalier"
    shutil.copytree(ROOT / "workflow/espalier", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "config/methods/halving.py").write_text(SETTINGS.lstrip())
    (folder / "methods/halving.py").write_text(CODE.lstrip())

    tables = (folder / TABLES).read_text()
    for before, text in NAMES.items():
        assert tables.count(before) == 1, before
        tables = tables.replace(before, text + before)
    (folder / TABLES).write_text(tables)
    return folder


def changed_files(package: Path) -> set[Path]:
    """Files of the original whose copies differ."""
    originals = [path for path in (ROOT / "workflow/espalier").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    relative = [path.relative_to(ROOT / "workflow/espalier") for path in originals]
    return {path for path in relative if not filecmp.cmp(ROOT / "workflow/espalier" / path, package / path, shallow=False)}


@pytest.mark.slow
def test_a_made_up_method_trains_and_its_panel_is_in_the_report(package: Path, tmp_path: Path) -> None:
    assert changed_files(package) == {TABLES}

    environment = os.environ | {"PYTHONPATH": f"{package.parent}{os.pathsep}{ROOT}"}
    command = [sys.executable, str(ROOT / "tests/workflow/new_method_study.py"), str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]

    page = (tmp_path / "report.html").read_text()
    labels = re.findall(r'aria-label="([^"]*)"', page)
    assert "weights left over training steps, halving" in labels
    panel = page[page.index("weights left over training steps, halving") :].split("</svg>")[0]
    assert all(f">{text}<" in panel or f"{text}</text>" in panel for text in ("left", "to be left", "thousands"))

    assert "Halving, a made-up comparison: plans that differ in their removals." in page
    assert "accuracy against the number of removals at 60 %, tiny on mine" in labels
