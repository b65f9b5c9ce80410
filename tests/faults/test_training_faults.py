"""What goes wrong around a training run: injected, and what becomes of it."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from espalier.__main__ import main
from espalier.config import parse
from espalier.config.job_specs import compress_spec
from espalier.runtime.errors import TRY_AGAIN
from espalier.runtime.files import read_json, sha256
from espalier.training import loop as loop_module
from espalier.training import run as training
from espalier.training.history import History
from tests import tiny
from tests.faults.injections import edit_rows, edit_weights, empty, flip, jumping, truncate
from tests.stages import MODEL, PRUNED, inside

STEPS = 16
CONFIG = """
project: faults
precision: fp32
bases: {tiny: {source: local, path: base}}
tasks:
  mine: {kind: classification, source: files, train: a.csv, validation: b.csv, text: [text], label: label, metric: accuracy}
plans:
  distil: {method: distil, path: [0.6], prune_steps: 2, dense_epochs: 2.0, batch_size: 16, start: teacher, checkpoint: best}
progress: {log_every: 1}
"""
RESULTS = ("model.safetensors", "masks.safetensors", "structure.json")


def stage(root: Path, out: Path, plan: dict | None = None, **settings: object) -> list[str]:
    """Command of a compression that learns from, and starts with, the model of `root`."""
    raw = yaml.safe_load(CONFIG)
    raw["plans"]["distil"] = (plan or raw["plans"]["distil"]) | settings
    (target,) = raw["plans"]["distil"]["path"]
    spec = compress_spec(parse(raw), "mine", "distil", 3, f"{100 * target:g}")
    model = inside(root / "model", *MODEL)
    tokens = inside(root / "task", "train.parquet", "evaluation.parquet")
    lists = {"teacher": model, "start": model, "latency": [], "outputs": [], "tokens": tokens}
    paths = {"task": root / "task/task.json", "work": out / "work", **{name: out / file for name, file in PRUNED.items()}}
    options = [part for name, files in lists.items() for part in (f"--{name}", *files)]
    options += [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    return ["compress", "--spec", spec.model_dump_json(), *options]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A model, a task, and what the undisturbed run gives."""
    root = tmp_path_factory.mktemp("faults")
    tiny.classifier(4).save_pretrained(root / "model")
    tiny.write_task(root / "task")
    assert main(stage(root, root / "out")) == 0
    return root


@pytest.fixture
def root(source, tmp_path):
    """A copy that a test may damage."""
    for name in ("model", "task"):
        shutil.copytree(source / name, tmp_path / name)
    return tmp_path


@pytest.fixture(autouse=True)
def _saves_often(monkeypatch):
    monkeypatch.setattr(loop_module, "SAVE_EVERY", 2)


@pytest.fixture
def at(monkeypatch):
    """Do something when history gets the row of a step."""
    add, todo = History.add, {}

    def acting(self, step, epoch, row):
        add(self, step, epoch, row)
        if "loss" in row and step in todo:
            todo.pop(step)()

    monkeypatch.setattr(History, "add", acting)
    return lambda step, action: todo.update({step: action})


def as_undisturbed(source: Path, out: Path) -> bool:
    return all(sha256(out / name) == sha256(source / "out" / name) for name in RESULTS)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def stopped_at(at, root: Path, step: int) -> None:
    at(step, terminate)
    assert main(stage(root, root / "out")) == TRY_AGAIN


def test_sigterm_saves_at_the_next_step_and_asks_to_be_run_again(source, root, at, capfd):
    stopped_at(at, root, 7)
    assert "compress: stopped at step 7 of 16; it is saved, the next run goes on" in capfd.readouterr().err
    assert not (root / "out/model.safetensors").exists()
    assert main(stage(root, root / "out")) == 0
    assert read_json(root / "out/run.json")["resumed_at"] == [7]
    assert as_undisturbed(source, root / "out")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "afterwards it ends the process as ever"


KILLED_WHILE_CALIBRATING = """
import os, signal, sys
from espalier.__main__ import main
from espalier.training.calibration import Watched
through, seen = Watched.__iter__, []

def iterate(self):
    for batch in through(self):
        seen.append(batch)
        if len(seen) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch

Watched.__iter__ = iterate
main(sys.argv[1:])
"""


@pytest.mark.parametrize("method", ["kprune", "obs"])
def test_a_run_that_is_killed_while_it_looks_at_rows_ends_as_one_that_was_not(root, method):
    """Half of the rows seen, and maybe weights changed: the run after it begins with the model as it came."""
    own = {"kprune": {}, "obs": {"epochs": 0.0, "search_rows": 16, "search_random": 2, "search_mutations": 2}}[method]
    plan = {"method": method, "path": [0.5], "calibration_rows": 32, "batch_size": 8, **own}
    assert main(stage(root, root / "whole", plan)) == 0
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_CALIBRATING, *stage(root, root / "out", plan)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not any((root / "out" / name).exists() for name in RESULTS)
    assert main(stage(root, root / "out", plan)) == 0
    assert read_json(root / "out/run.json")["resumed_at"] == [], "nothing was saved before"
    assert all(sha256(root / "out" / name) == sha256(root / "whole" / name) for name in RESULTS)


def test_sigterm_in_the_last_step_comes_too_late_to_stop_it(source, root, at):
    at(STEPS, terminate)
    assert main(stage(root, root / "out")) == 0
    assert as_undisturbed(source, root / "out")


@pytest.mark.parametrize(("file", "step"), [("state", 9), ("best", 15)])
def test_a_full_disk_leaves_the_state_before(source, root, at, capfd, file, step):
    partial = root / f"out/work/.{file}.partial-{os.getpid()}.pt"
    at(step, lambda: partial.symlink_to("/dev/full"))
    assert main(stage(root, root / "out")) == 1
    said = capfd.readouterr().err
    assert f"compress: {root}/out/work/{file}.pt: cannot be written" in said and "MiB are free there" in said
    assert main(stage(root, root / "out")) == 0
    assert read_json(root / "out/run.json")["resumed_at"] == [8 if file == "state" else 14]
    assert as_undisturbed(source, root / "out")


def test_a_disk_that_fills_up_while_results_are_written_leaves_none_half_written(source, root, capfd):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # states are larger, too: none is written
    try:
        status = main(stage(root, root / "out", evaluate_every=0.0, checkpoint="last", dense_epochs=0.0, epochs_per_step=0.25))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 1 and "model.safetensors: cannot be written" in capfd.readouterr().err
    assert {path.name for path in (root / "out").iterdir()} == {"work", "history.parquet"}


def test_a_folder_that_cannot_be_written_is_refused_before_training(root, capfd):
    folder = Path("/sys/espalier-results")  # nobody may make folders there, not even root
    command = stage(root, root / "out")
    command = [part.replace(str(root / "out"), str(folder)) if "work" not in part else part for part in command]
    assert main(command) == 1
    assert f"compress: {folder}: results cannot be written here: " in capfd.readouterr().err


@pytest.mark.parametrize("damage", [truncate, flip, empty, lambda path: path.write_text("state")])
def test_a_damaged_state_gives_way_to_the_one_before(source, root, at, capfd, damage):
    stopped_at(at, root, 7)
    damage(root / "out/work/state.pt")
    assert main(stage(root, root / "out")) == 0
    assert "state.pt is damaged (" in capfd.readouterr().out
    assert read_json(root / "out/run.json")["resumed_at"] == [6]
    assert as_undisturbed(source, root / "out")


def test_where_both_states_are_damaged_the_run_begins_anew(source, root, at):
    stopped_at(at, root, 7)
    for name in ("state.pt", "state-before.pt", "fingerprint.json"):
        truncate(root / "out/work" / name)
    assert main(stage(root, root / "out")) == 0
    assert read_json(root / "out/run.json")["resumed_at"] == []
    assert as_undisturbed(source, root / "out")


def test_killed_between_two_renames_a_run_goes_on_from_the_state_before(source, root, at):
    stopped_at(at, root, 7)
    work = root / "out/work"
    (work / "state.pt").rename(work / ".state.partial-1.pt")
    assert main(stage(root, root / "out")) == 0
    assert read_json(root / "out/run.json")["resumed_at"] == [6]
    assert as_undisturbed(source, root / "out")


def test_a_damaged_best_checkpoint_is_not_taken_up(root, at, capfd):
    often = {"evaluate_every": 0.25}
    assert main(stage(root, root / "undisturbed/out", **often)) == 0
    at(15, terminate)
    assert main(stage(root, root / "out", **often)) == TRY_AGAIN
    flip(root / "out/work/best.pt")
    assert main(stage(root, root / "out", **often)) == 0
    assert "best.pt is damaged (" in capfd.readouterr().out
    assert read_json(root / "out/run.json")["resumed_at"] == []
    assert as_undisturbed(root / "undisturbed", root / "out")


@pytest.mark.parametrize("gone", ["best.pt", "history.jsonl", "state.pt"])
def test_killed_while_it_clears_up_a_run_takes_up_nothing_that_is_incomplete(source, root, monkeypatch, gone):
    with monkeypatch.context() as patched:
        clearing = SimpleNamespace(rmtree=lambda folder: (folder / gone).unlink() or signal.raise_signal(signal.SIGINT))
        patched.setattr(training, "shutil", clearing)
        with pytest.raises(KeyboardInterrupt):
            main(stage(root, root / "out"))
    assert main(stage(root, root / "out")) == 0
    assert as_undisturbed(source, root / "out")
    histories = [pd.read_parquet(each / "out/history.parquet") for each in (source, root)]
    assert histories[0]["loss"].equals(histories[1]["loss"])


@pytest.mark.parametrize(("name", "edit"), [("model/model.safetensors", edit_weights), ("task/train.parquet", edit_rows)])
def test_a_state_of_other_data_or_another_base_is_not_taken_up_and_both_are_named(root, at, capfd, name, edit):
    stopped_at(at, root, 7)
    edit(root / name)
    assert main(stage(root, root / "out")) == 0
    assert f"beginning anew, because these have changed since the state was saved: {root / name}\n" in capfd.readouterr().out
    assert read_json(root / "out/run.json")["resumed_at"] == []


@pytest.mark.parametrize("name", ["model/model.safetensors", "task/train.parquet"])
def test_an_input_that_is_damaged_is_named(root, capfd, name):
    truncate(root / name)
    assert main(stage(root, root / "out")) == 1
    assert f"compress: {root / name} is damaged (" in capfd.readouterr().err


def test_a_model_that_holds_nan_is_refused(root, capfd):
    path = root / "model/model.safetensors"
    weights = load_file(path)
    weights["classifier.weight"][1, 2] = torch.nan
    save_file(weights, path, metadata={"format": "pt"})
    assert main(stage(root, root / "out")) == 1
    assert "1 of 96 values of classifier.weight are infinite or not a number" in capfd.readouterr().err


@pytest.mark.parametrize("jump", [-1e7, 1e7])
def test_a_clock_that_jumps_changes_nothing(source, root, at, monkeypatch, jump):
    monkeypatch.setattr(time, "time", jumping(jump))
    stopped_at(at, root, 7)
    for path in (root / "out/work").iterdir():
        os.utime(path, (time.time() + jump, time.time() + jump))
    assert main(stage(root, root / "out")) == 0
    assert as_undisturbed(source, root / "out")
    seconds = pd.read_parquet(root / "out/history.parquet")["seconds"].dropna()
    assert seconds.is_monotonic_increasing and 0.0 < seconds.iloc[-1] < 600.0
