"""A sample of the table of faults, and whether the committed table is one of these faults, whole and good."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.faults import sites, table
from tests.faults.kinds import FAULTS, KILLS

SAMPLE = "^(SIGKILL, by the clock / teacher / 0|SIGKILL, before a file is changed / teacher / [01])"
GOOD = table.Row("", "", "", "", 1, -9, "", 12, 2, 0, 0, identical=True, as_expected=True)


def run(folder):
    """In a process of its own: this one has threads, whose locks its forks would inherit."""
    command = [sys.executable, "-m", "tests.faults.table", str(folder), "--only", SAMPLE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_sample_of_the_table_is_good_and_is_taken_up_where_it_stopped(tmp_path):
    rows = run(tmp_path)
    assert len(rows) == 3
    assert all(table.is_good(table.Row(**row)) for row in rows)
    known = rows[1] | {"outcome": "known"}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (rows[0], known)))
    again = run(tmp_path)
    assert again[:2] == [rows[0], known] and again[2]["injected"] == rows[2]["injected"]


@pytest.mark.parametrize("change", [{"identical": False}, {"as_expected": False}, {"results_lost": 1}, {"half_written": 2}])
def test_a_row_with_anything_wrong_is_not_good(change):
    assert table.is_good(GOOD) and not table.is_good(replace(GOOD, **change))


def test_half_written_and_lost_files_are_seen(tmp_path):
    whole, torn = (sites.Site(tmp_path, "sdp", tmp_path / name) for name in ("whole", "torn"))
    for site in (whole, torn):
        site.work.mkdir(parents=True)
        (site.out / "model.safetensors").write_text(site.folder.name)
    (torn.work / "state.pt").write_bytes(b"PK")
    assert torn.half_written(whole) == ["model.safetensors", "state.pt"]
    assert torn.half_written(whole, ("state.pt",)) == ["model.safetensors"]
    (torn.out / "model.safetensors").unlink()
    assert not torn.as_undisturbed(whole) and whole.as_undisturbed(whole)


def test_the_table_asks_enough():
    assert len({fault.kind for fault in FAULTS}) >= 15
    assert sum(case.fault.kills for case in table.cases()) >= 100
    assert {run for fault in KILLS for run in fault.runs} == set(sites.RUNS)
    names = [case.name for case in table.cases()]
    assert len(names) == len(set(names))


def test_the_committed_table_is_whole_and_good():
    rows = pd.read_csv(table.EVIDENCE / "faults.csv")
    assert list(zip(rows["kind"], rows["run"], strict=True)) == [(case.fault.kind, case.run) for case in table.cases()]
    assert rows["identical"].all() and rows["as_expected"].all()
    assert not rows["results_lost"].any() and not rows["half_written"].any()
