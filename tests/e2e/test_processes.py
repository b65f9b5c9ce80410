"""Two processes share the batches of a run and end where one process ends; both hold the same at every point."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from espalier.runtime.files import read_json, sha256
from espalier.runtime.process import exclusive
from tests import tiny
from tests.e2e.test_resume import command

pytestmark = pytest.mark.slow
RUNS = ["magnitude", "movement", "distil", "sdp-cc-kld", "spd", "cofi", "heads-iterative", "homodistil"]
RUNS += [f"{name} in pieces" for name in ("cofi", "cofi-unrestricted", "spd", "spd-options", "heads", "homodistil")]
"""Scores from weights and from gradients, statistics of the whole batch, choices from it, draws, means over real tokens;
micro-batches."""
NO_GRADIENT = "attention.self.key.bias"
"""The softmax does not see it: its gradient is rounding error, which Adam makes as large as any."""


def launch(processes, *arguments):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *launcher, "-m", *arguments]


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """What one process, and each of two, has at the end of each run."""
    root = tmp_path_factory.mktemp("divided")
    for count in (1, 2):
        (root / str(count)).mkdir()
        subprocess.run(launch(count, "benchmarks.divided", str(root / str(count)), *RUNS), check=True)
    files = ("1/{}.0.pt", "2/{}.0.pt", "2/{}.1.pt")
    return lambda name: [torch.load(root / file.format(name), weights_only=True) for file in files]


def furthest(first, second):
    """Largest difference between tensors of the same names."""
    assert first.keys() == second.keys()
    pairs = [(first[name].double(), second[name].double()) for name in first if first[name].numel()]
    return max(float((one - other).abs().max()) for one, other in pairs) if pairs else 0.0


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_end_where_one_does(ends, name):
    alone, main, helper = ends(name)
    largest = max(float(gradient.abs().max()) for gradient in alone["first"].values())
    assert furthest(alone["first"], main["first"]) <= 1e-6 * largest
    torch.testing.assert_close(main["losses"], alone["losses"], atol=1e-5, rtol=1e-5)
    assert alone["masks"].keys() == main["masks"].keys()
    assert all(torch.equal(mask, main["masks"][key]) for key, mask in alone["masks"].items())
    trained = [{k: v for k, v in end["weights"].items() if NO_GRADIENT not in k and "gates." not in k} for end in (alone, main)]
    assert furthest(*trained) <= 1e-5
    for part in ("first", "weights", "method", "masks"):
        assert furthest(main[part], helper[part]) == 0.0, f"{part} differ between the processes"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("stage")
    tiny.write_base(root / "base")
    tiny.write_task(root / "mine")
    return root


@pytest.fixture
def two(monkeypatch):
    """As rules/common.smk says it to the commands of all jobs."""
    monkeypatch.setenv("ESPALIER_PROCESSES", "2")


def test_a_stage_under_two_processes_stops_at_sigterm_resumes_and_writes_once(root, tmp_path, two):
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    subprocess.run(command(root, "teacher", undisturbed), check=True, capture_output=True)
    process = subprocess.Popen(command(root, "teacher", out), stderr=subprocess.PIPE, text=True)
    history, deadline = out / "work/history.jsonl", time.monotonic() + 120
    while not (history.exists() and len(history.read_text().splitlines()) > 20) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode != 0 and "it is saved, the next run goes on" in said
    assert not (out / "model.safetensors").exists()
    subprocess.run(command(root, "teacher", out), check=True, capture_output=True)
    record = read_json(out / "run.json")
    assert record["processes"] == 2 and len(record["resumed_at"]) == 1
    assert sha256(out / "model.safetensors") == sha256(undisturbed / "model.safetensors"), "dropout goes on in each process"
    assert not (out / "work").exists()


def test_a_refusal_that_one_process_hears_of_ends_both(root, tmp_path, two):
    with exclusive(tmp_path / "work"):
        result = subprocess.run(command(root, "teacher", tmp_path), capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode != 0 and f"finetune: {tmp_path}/work is in use by process {os.getpid()} on" in result.stderr
