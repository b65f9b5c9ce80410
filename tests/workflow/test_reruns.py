"""Snakemake re-runs what changed and only that."""

from __future__ import annotations

import re
import shutil

import pytest

from tests import tiny
from tests.conftest import ROOT

AFTER = ("recover", "export", "evaluate", "measure", "card")
SUMMARY = {"table", "report"}


def stages(plan: str, *percents: str) -> set[str]:
    """All jobs of some stages of a plan, and what gathers the results."""
    return {f"{rule} {plan} {percent}" for rule in ("compress", *AFTER) for percent in percents} | SUMMARY


SDP = stages("sdp", "50", "90")
MAGNITUDE = stages("magnitude", "50")
MODULE = "workflow/espalier"
IMPORT_NEW = "from espalier.config.methods.new import NewPlan"
NEW_SETTINGS = """from __future__ import annotations

from typing import Literal

from espalier.config.methods.pruning import IterativePlan


class NewPlan(IterativePlan):
    method: Literal["new"]
"""


def test_another_place_and_other_times_change_nothing(finished):
    for path in (*finished.folder.rglob("*.smk"), finished.folder / "Snakefile", finished.folder / "envs/requirements.lock"):
        path.touch()
    for path in sorted((finished.folder / "results").rglob("*"), reverse=True):
        path.touch()
    assert finished.jobs() == set()


def test_a_new_target_runs_its_stage_and_the_later_ones(finished, small):
    small["plans"]["sdp"]["path"] = [0.5, 0.7, 0.9]
    finished.write_config(small)
    assert finished.jobs() == stages("sdp", "70", "90")


def test_an_appended_target_runs_one_stage(finished, small):
    small["plans"]["sdp"]["path"] = [0.5, 0.9, 0.975]
    finished.write_config(small)
    assert finished.jobs() == stages("sdp", "97.5")


@pytest.mark.parametrize(("plan", "jobs"), [("magnitude", MAGNITUDE), ("sdp", SDP)])
def test_editing_a_plan_runs_that_plan(finished, small, plan, jobs):
    small["plans"][plan]["learning_rate"] = 1.0e-4
    finished.write_config(small)
    assert finished.jobs() == jobs


def test_a_new_seed_runs_only_its_own_jobs(finished, small):
    small["seeds"] = [42, 7]
    finished.write_config(small)
    jobs = finished.jobs()
    assert "finetune 7" in jobs
    assert {job for job in jobs if " 7" not in job} == SUMMARY


def test_comments_docstrings_and_layout_change_nothing(finished):
    finished.edit(f"{MODULE}/methods/sdp.py", "class Sdp(", "# A remark.\n\n\nclass Sdp(")
    finished.edit(f"{MODULE}/losses/terms.py", '"""', '"""In other words. ')
    finished.edit(f"{MODULE}/stages/training/compress.py", '"""', '"""In other words. ')
    finished.edit("config.yaml", "project:", "# A remark.\nproject:")
    assert finished.jobs() == set()


@pytest.mark.parametrize(
    ("file", "line", "jobs"),
    [
        ("methods/sdp.py", "    needs_teacher = True\n", SDP),
        ("methods/magnitude.py", "class Magnitude(WeightPruning):\n", MAGNITUDE),
    ],
)
def test_editing_a_method_runs_its_plans(finished, file, line, jobs):
    finished.edit(f"{MODULE}/{file}", line, f"{line}    edited = True\n")
    assert finished.jobs() == jobs


@pytest.mark.parametrize(
    ("file", "line", "jobs"),
    [
        ("structured.py", "    prepruning_epochs: Epochs = 1.0\n", set()),
        ("homodistil.py", "    window: Steps = 10\n", set()),
        ("sdp.py", '    method: Literal["sdp"]\n', SDP),
        ("pruning.py", '    method: Literal["magnitude"]\n', MAGNITUDE),
    ],
)
def test_editing_a_settings_class_runs_the_plans_of_its_method(finished, file, line, jobs):
    """The class of another method does not count, although a spec may hold a plan of any method."""
    finished.edit(f"{MODULE}/config/methods/{file}", line, f"{line}    edited: bool = True\n")
    assert finished.jobs() == jobs


def test_editing_a_loss_runs_the_methods_that_use_it(finished):
    losses, loss = f"{MODULE}/losses/terms.py", "def cosine_distance("
    finished.edit(losses, loss, f"def nobody_uses_this(): ...\n\n\n{loss}")
    assert finished.jobs() == set()
    finished.edit(losses, loss, f"@(lambda function: function)\n{loss}")
    assert finished.jobs() == SDP


def move_module(finished, old: str, new: str) -> None:
    """Move a module within the package, and have everything import it from its new place."""
    source, target = (finished.folder / MODULE / f"{name.replace('.', '/')}.py" for name in (old, new))
    target.parent.mkdir(exist_ok=True)
    source.rename(target)

    (old_package, old_name), (new_package, new_name) = (f"espalier.{name}".rsplit(".", 1) for name in (old, new))
    for file in (*(finished.folder / MODULE).rglob("*.py"), *(finished.folder / "workflow/rules").glob("*.smk")):
        text = file.read_text().replace(f"espalier.{old}", f"espalier.{new}")
        whole = f"from {new_package} import {new_name}" + (f" as {old_name}" if old_name != new_name else "")
        text = re.sub(rf"^from {re.escape(old_package)} import {old_name}$", whole, text, flags=re.MULTILINE)
        file.write_text(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("losses.terms", "losses.objectives"),
        ("pruning.masks", "models.masks"),
        ("models.modeling_espalier", "pruning.modeling_espalier"),
        ("training.loop", "training.only_loop"),
        ("methods.sdp", "methods.self_distilled_pruning"),
        ("config.training", "config.general"),
        ("evaluation.metrics", "runtime.metrics"),
    ],
)
def test_a_moved_module_runs_nothing_again(finished, old, new):
    move_module(finished, old, new)
    assert finished.jobs() == set()


def test_a_new_method_runs_nothing_else(finished, small):
    package = finished.folder / MODULE
    code = (package / "methods/magnitude.py").read_text().replace("Magnitude", "New")
    code = code.replace("config.methods.pruning import NewPlan", "config.methods.new import NewPlan")
    (package / "methods/new.py").write_text(code)
    (package / "config/methods/new.py").write_text(NEW_SETTINGS)

    table = f"{MODULE}/config/methods/__init__.py"
    finished.edit(table, "METHODS = {", 'METHODS = {\n    "new": "espalier.methods.new:New",')
    finished.edit(table, "    DensePlan\n", "    DensePlan\n    | NewPlan\n")
    finished.edit(table, "from espalier.config.methods.pruning", f"{IMPORT_NEW}\nfrom espalier.config.methods.pruning")
    assert finished.jobs() == set()

    small["plans"]["new"] = {"method": "new", "path": [0.5]}
    finished.write_config(small)
    assert finished.jobs() == stages("new", "50")


def test_another_lock_file_runs_everything(finished):
    everything = finished.jobs("--forceall")
    path = finished.folder / "envs/requirements.lock"
    path.write_text(path.read_text().replace("pyarrow==", "pyarrow==9"))
    assert finished.jobs() == everything


def test_another_number_of_processes_runs_nothing(finished, small):
    finished.write_config(small | {"processes": 2})
    assert finished.jobs() == set()


def test_a_base_in_another_folder_trains_nothing_again(make_clone, tmp_path, small):
    """After the one job that reads it from its new place; docs/faq.md says how to run that job by itself."""
    clone = make_clone(tmp_path / "clone")
    small |= {"bases": {"minilm": {"source": "local", "path": "one"}}, "measure": {"length": 16}}
    small["tasks"] = {"docs-library": {"rows": 64, "max_length": 32}}
    tiny.write_base(clone.folder / "one")
    clone.write_config(small)
    assert clone.snakemake("--cores", "1", "--until", "fetch").returncode == 0
    clone.pretend_all()
    assert clone.jobs() == set()

    (clone.folder / "one").rename(clone.folder / "another")
    small["bases"]["minilm"]["path"] = "another"
    clone.write_config(small)
    shutil.copy(ROOT / f"{MODULE}/__main__.py", clone.folder / f"{MODULE}/__main__.py")
    result = clone.snakemake("--cores", "1", "--until", "fetch")
    assert result.returncode == 0, result.stderr
    assert {job.split()[0] for job in clone.jobs()} == {"card"}
