"""The study of deployed models: its findings say what its table says, and `choose` answers questions on it."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from espalier.commands import choose
from tests.conftest import ROOT

FOLDER = ROOT / "workflow/experiments/deploy"
TASKS = ("sst2", "stsb", "docs-order")
ROWS = (
    *(("dense", "teacher", 0), ("linear", "linear", 0), ("tiny-plain", "tiny-plain", 0), ("tiny-kd", "tiny-kd", 0)),
    *((f"{plan} at {percent} %", plan, percent) for plan in ("cofi", "small-dense") for percent in (60, 80, 95)),
)
SMALL = "onnx-int8"


@pytest.fixture(scope="module")
def table():
    """deploy.csv by task, plan, percent, folder and format."""
    found = pd.read_csv(FOLDER / "deploy.csv", dtype={"passed": str})
    return found.set_index(["task", "plan", "percent", "folder", "format"]).sort_index()


@pytest.fixture(scope="module")
def text():
    return " ".join((FOLDER / "findings.md").read_text().split())


def smallest(rows):
    """The smallest of some models in their formats that pass the guard; None where none does."""
    passed = rows[rows["passed"] == "yes"]
    return passed.loc[passed["total_mib"].idxmin()] if len(passed) else None


def line(table, task, name, plan, percent):
    """A row of the findings' table: score in fp32, and the smallest file that passes the guard."""
    rows = table.loc[(task, plan, percent)]
    if plan == "linear":
        only = rows.iloc[0]
        return f"| {name} | {only['score']:.3f} | {only['total_mib']:.1f} MiB | {only['score']:.3f} | |"

    whole, least = rows.loc[("compact", "torch")], smallest(rows)
    if least is None:
        return f"| {name} | {whole['score']:.3f} | none passes | | |"

    folder, format = least.name
    where = f"{least['total_mib']:.1f} MiB ({folder}, {format})"
    return f"| {name} | {whole['score']:.3f} | {where} | {least['score']:.3f} | {fastest(rows):.0f}× |"


def fastest(rows):
    """Times as fast as the dense model in PyTorch, on the task's own rows at batch size 32, of the fastest passing format."""
    return rows[rows["passed"] == "yes"]["speedup_b32_lrows"].max()


@pytest.mark.parametrize("task", TASKS)
def test_the_tables_of_the_findings_are_those_of_the_study(table, text, task):
    for name, plan, percent in ROWS:
        assert line(table, task, name, plan, percent) in text, (task, name)


QUESTIONS = (
    (["--task", "sst2", "--max-mib", "10"], lambda rows: rows[rows["total_mib"] <= 10.0], "score", False),
    (["--task", "stsb", "--max-drop", "0.05"], None, "total_mib", True),
    (["--task", "docs-order", "--max-ms", "3", "--batch", "1"], lambda rows: rows[rows["ms_b1_lrows"] <= 3.0], "score", False),
    (
        ["--task", "sst2", "--min-score", "0.84", "--aim", "latency"],
        lambda rows: rows[rows["score"] >= 0.84],
        "ms_b1_lrows",
        True,
    ),
)


@pytest.mark.parametrize(("words", "keep", "column", "least"), QUESTIONS, ids=[" ".join(q[0]) for q in QUESTIONS])
def test_choose_answers_questions_as_the_table_does(table, tmp_path, monkeypatch, capsys, words, keep, column, least):
    (tmp_path / "results/deploy").mkdir(parents=True)
    shutil.copy(FOLDER / "deploy.csv", tmp_path / "results/deploy/deploy.csv")
    monkeypatch.chdir(tmp_path)
    assert choose.main(words) == 0
    said = capsys.readouterr().out

    rows = table.loc[words[1]].reset_index()
    rows = rows[(rows["passed"] == "yes") & (rows["plan"] != "linear")]
    dense = table.loc[(words[1], "teacher", 0, "compact", "torch"), "score"]
    kept = keep(rows) if keep else rows[rows["score"] >= dense - 0.05]
    order = kept.sort_values([column, "total_mib"], ascending=[least, True])
    best = order.iloc[0]
    assert f"in {best['format']}." in said.splitlines()[0]
    assert f"{best['plan']}" in said.splitlines()[0] or (best["plan"] == "teacher" and "dense" in said.splitlines()[0])
    assert f"{best['score']:.4f}" in said and f"/{best['folder']}" in said


def test_the_findings_state_what_was_asked(table, text):
    for task in TASKS:
        rows = table.loc[(task, "cofi", 95)]
        small = rows.loc[("trimmed", SMALL)]
        dense = table.loc[(task, "teacher", 0, "compact", "torch")]
        assert (
            f"{task}: {small['total_mib']:.1f} of {dense['total_mib']:.1f} MiB, 1/{dense['total_mib'] / small['total_mib']:.0f}"
            in text
        )
        for size in (1, 32):
            for rows_of in ("l64", "lrows"):
                best = rows[rows["passed"] == "yes"]
                fast = best.loc[best[f"ms_b{size}_{rows_of}"].idxmin()]
                key = f"b{size}_{rows_of}"
                said = f"{fast[f'speedup_{key}']:.0f}× eager, {fast[f'same_runtime_speedup_{key}']:.1f}× in {fast.name[1]}"
                assert said in text, (task, key)
