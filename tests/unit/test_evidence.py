"""The README's results are those of the committed studies."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from espalier.commands import evidence
from espalier.config import parse
from espalier.config.chains import Student, student_before
from espalier.config.project import Config
from espalier.results.curves import COMPARED, RATE
from espalier.runtime.errors import UserError
from espalier.training.schedule import interval_bounds, steps_of_epoch
from tests.conftest import ROOT

HEADER = (
    "base,task,plan,method,seed,target,metric,score,teacher_score,"
    + ",".join(
        ("sparsity_encoder,sparsity_total,params_total,params_nonzero,size_mib,macs,latency_b1_ms,latency_b32_ms", "speedup_b1")
    )
    + ",speedup_b32,train_seconds,samples_per_second"
)
REST = ",0,0,1,1,1,1,1,1,1,1,1,1"


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evidence, "SHIPPED", "mine")
    results, folder = tmp_path / "results/mine", tmp_path / "workflow/experiments/mine"
    for path in (results / "figures", results / "prepared/fruit", folder):
        path.mkdir(parents=True)
    rows = [("teacher", 1, 0.0, 0.9), ("teacher", 2, 0.0, 0.8), ("sdp", 1, 0.5, 0.7), ("sdp", 2, 0.5, 0.6)]
    lines = [f"b,fruit,{plan},{plan},{seed},{target},accuracy,{score},0.9{REST}" for plan, seed, target, score in rows]
    (results / "table.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    for name in ("metrics.json", "figures/quality.svg", "report.html"):
        (results / name).write_text(name)
    card = {
        "sets": ["validation"],
        "class_counts": {"train": {"a": 1500, "b": 500}, "validation": {"a": 5, "b": 15}},
        "rows": {"train": 2000, "validation": 20},
    }
    (results / "prepared/fruit/task.json").write_text(json.dumps(card))
    (folder / "config.yaml").write_text("project: mine\n")
    (tmp_path / "README.md").write_text("before\n<!-- results:begin -->\nold\n<!-- results:end -->\nafter\n")
    return tmp_path


def test_a_study_is_collected_and_the_readme_follows(study):
    assert evidence.main(["mine"]) == 0
    text = (study / "README.md").read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "2,000 training and 20 evaluation rows; the most frequent class gives 0.250" in text
    assert "| teacher | 0.850 ± 0.071 (2) |  |" in text and "| sdp |  | 0.650 ± 0.071 (2) |" in text
    assert "[mine](workflow/experiments/mine/README.md)" in text
    folder = study / "workflow/experiments/mine"
    assert (folder / "figures/quality.svg").read_text() == "figures/quality.svg"
    assert "![quality](figures/quality.svg)" in (folder / "README.md").read_text()
    (folder / "findings.md").write_text("What was found.\n")
    assert "[Configuration](config.yaml)\n\nWhat was found.\n\n**fruit**" in evidence.study_page(folder)


def test_updates_stand_beside_scores_where_the_table_has_them(study):
    """own audit: a comparison of plans with unequal training could not be seen on a study's page."""
    table = study / "results/mine/table.csv"
    header, *lines = table.read_text().splitlines()
    updates = [375, 375, 1250, 1250]
    counted = [f"{line},{number}" for line, number in zip(lines, updates, strict=True)]
    table.write_text("\n".join([f"{header},updates", *counted]) + "\n")
    evidence.copy_results("mine")
    shown = evidence.tables(study / "workflow/experiments/mine")
    assert "mean ± standard deviation (seeds) · updates of all training that led to it; 2,000 training" in shown
    assert "| teacher | 0.850 ± 0.071 (2) · 375 |  |" in shown and "| sdp |  | 0.650 ± 0.071 (2) · 1,250 |" in shown


def test_rivals_stand_in_the_grid_and_are_spoken_of_below_it(study):
    table = study / "results/mine/table.csv"
    header, *lines = table.read_text().splitlines()
    lines = [f"{line},{0 if ',teacher,' in line else 50}" for line in lines] + [
        f"b,fruit,linear,linear,1,,accuracy,0.7,0.9{REST},0"
    ]
    table.write_text("\n".join([f"{header},stage", *lines]) + "\n")
    scores = {"sets": {"validation": {"accuracy": 0.7}}}
    (study / "results/mine/prepared/fruit/linear.json").write_text(json.dumps(scores))
    evidence.copy_results("mine")
    folder = study / "workflow/experiments/mine"
    assert json.loads((folder / "prepared/fruit/linear.json").read_text()) == scores
    shown = evidence.tables(folder)
    assert "| linear | 0.700 (1) |  |" in shown
    assert "Against linear (0.700 at 1.0 MiB): sdp at 50 % (−0.050) no higher." in shown


def test_gaps_of_a_study_that_was_watched_stand_on_its_page(study):
    values = [{"plan": "sdp", "group": "50", "x": 0.5, "value": value} for value in (0.1, 0.3)]
    task = {"base": "b", "task": "fruit", "values": {"gap_loss": values, "separability": values}}
    (study / "results/mine/analyses.json").write_text(json.dumps({"tasks": [task], "fractions": []}))
    evidence.copy_results("mine")
    page = evidence.study_page(study / "workflow/experiments/mine")
    head = "**fruit** with b, loss: held-out less training rows (definition ours), at the end of each stage:"
    assert f"{head}\n\n| plan | 50 % removed |\n|---|---|\n| sdp | 0.200 ± 0.141 (2) |" in page
    assert "separability" not in page


def test_speeds_stand_in_a_table_of_their_own_for_smaller_models_only(study):
    table = study / "results/mine/table.csv"
    header = table.read_text().splitlines()[0] + ",stage,onnx_speedup_b32"
    sizes = {"teacher": (2000, 1.0, 1.0), "cofi": (1000, 2.04, 3.0), "sdp": (2000, 1.0, 1.0)}
    rows = [("teacher", 1, 0.0, "0"), ("sdp", 1, 0.5, "50"), ("cofi", 1, 0.6, "60"), ("cofi", 1, "", "4x")]
    lines = [
        f"b,fruit,{plan},{plan},{seed},{target},accuracy,0.8,0.9,0,0,{size},1,1,1,1,1,1,{eager},1,1,{stage},{onnx}"
        for plan, seed, target, stage in rows
        for size, eager, onnx in [sizes[plan]]
    ]
    table.write_text("\n".join([header, *lines]) + "\n")
    evidence.copy_results("mine")
    scores, speeds = evidence.tables(study / "workflow/experiments/mine").split(
        "Speed-up over the dense teacher at batch 32, PyTorch eager / onnxruntime"
    )
    assert "| plan | dense | 50 % removed | 60 % removed | 4× |" in scores
    assert speeds.splitlines()[2:] == ["| plan | 60 % removed | 4× |", "|---|---|---|", "| cofi | 2.0× / 3.0× | 2.0× / 3.0× |"]


def test_a_study_of_several_tasks_ends_with_their_mean(study):
    table = study / "results/mine/table.csv"
    header = table.read_text().splitlines()[0]
    scores = {"fruit": (0.8, 0.6), "trees": (0.6, 0.5)}
    lines = [
        f"b,{task},{plan},{plan},1,{target},accuracy,{score},0.9{REST}"
        for task, found in scores.items()
        for plan, target, score in zip(("teacher", "sdp"), (0.0, 0.5), found, strict=True)
    ]
    table.write_text("\n".join([header, *lines]) + "\n")
    shutil.copytree(study / "results/mine/prepared/fruit", study / "results/mine/prepared/trees")
    evidence.copy_results("mine")
    last = evidence.tables(study / "workflow/experiments/mine").split("**Mean over tasks** with b (fruit, trees)")[1]
    assert last.splitlines()[2:] == [
        "| plan | dense | 50 % removed |",
        "|---|---|---|",
        "| teacher | 0.700 (1) |  |",
        "| sdp |  | 0.550 (1) |",
    ]


def test_the_best_model_is_the_best_of_those_that_are_smaller(study):
    table = study / "results/mine/table.csv"
    header = table.read_text().splitlines()[0] + ",stage"
    rows = [("teacher", "0", 0.9, 9), ("sdp", "50", 0.8, 9), ("cofi", "60", 0.7, 5), ("cofi", "95", 0.6, 2)]
    lines = [
        f"b,fruit,{plan},{plan},{seed},0.5,accuracy,{score},0.9,0,0,{size},1,1,1,1,1,1,1,1,1,{stage}"
        for plan, stage, score, size in rows
        for seed in (2, 3)
    ]
    table.write_text("\n".join([header, *lines]) + "\n")
    evidence.copy_results("mine")
    evidence.renew(study / "README.md")
    best = json.loads((study / "workflow/experiments/mine/best.json").read_text())
    assert best == {"best": {"fruit": "results/mine/b/fruit/seed2/cofi/60/compact"}}


def test_a_study_that_was_not_run_is_refused(study):
    with pytest.raises(UserError, match="yours: needs results/yours/report"):
        evidence.copy_results("yours")


def test_the_readme_holds_the_results_of_the_committed_studies(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert evidence.results_block() in (ROOT / "README.md").read_text()
    for folder in evidence.studies():
        assert evidence.study_page(folder) == (folder / "README.md").read_text()


def test_the_table_of_cofi_small_has_what_its_findings_say():
    table = pd.read_csv(ROOT / "workflow/experiments/cofi-small/table.csv")
    students = table[table["plan"] != "teacher"]
    assert (students["sparsity_encoder"] - students["target"]).abs().max() < 1e-4
    cofi, at = students[students["plan"] == "cofi"], lambda rows, target: rows[rows["target"] == target]
    gentle = at(cofi, 0.6)
    assert len(gentle) == 4 and (gentle["teacher_score"] - gentle["score"]).max() < 0.02
    assert at(cofi, 0.95)["speedup_b32"].min() > 10 and at(cofi, 0.95)["onnx_speedup_b32"].min() > 8
    layers = at(students[students["plan"] == "small-layers"], 0.95)
    assert layers[["speedup_b32", "onnx_speedup_b32"]].to_numpy().min() > 12
    first = {}
    for target in (0.8, 0.95):
        scores = at(students, target).pivot(index="plan", columns="task", values="score")
        means = scores.mean(axis=1)
        assert means["cofi"] - means.drop("cofi").max() > 0.02
        first |= {(task, target): plan for task, plan in scores.idxmax().items() if plan != "cofi"}
        stored = at(students, target).pivot(index="plan", columns="task", values="params_total")
        assert (stored.loc["cofi"] - stored.loc["l0"])[["stsb", "sst2"]].min() > 1e6
    assert first == {("sst2", 0.8): "l0", ("rte", 0.95): "small-sliced"}


def updates_of(config: Config, student: Student, rows: int) -> int:
    """Optimiser updates of all training that led to a student, as the configuration says."""
    steps, last = 0, student
    while last is not None:
        plan, before = config.plan_for(last.plan, last.task), student_before(config, last)
        parts = [*plan.parts(first_stage=before is None), *([plan.recover.epochs] if last == student else [])]
        steps += interval_bounds(parts, steps_of_epoch(rows, plan.batch_size))[-1]
        last = before
    return steps


def test_the_findings_of_cofi_small_say_how_unequal_its_training_was():
    folder = ROOT / "workflow/experiments/cofi-small"
    config = parse(yaml.safe_load((folder / "config.yaml").read_text()))
    lines = []
    for task in sorted(config.tasks):
        rows = json.loads((folder / f"prepared/{task}/task.json").read_text())["rows"]["train"]
        found = {
            (plan, percent): updates_of(config, Student(task, plan, percent), rows)
            for percent in ("80", "95")
            for plan in config.plans
        }
        others = [{found[plan, percent] for plan in config.plans if plan != "cofi"} for percent in ("80", "95")]
        assert all(len(each) == 1 for each in others), "equal among themselves"
        [[gentle], [hard]] = others
        lines.append(f"| {task} | {found['cofi', '80']:,} | {gentle:,} | {found['cofi', '95']:,} | {hard:,} |")
    assert "\n  ".join(lines) in (folder / "findings.md").read_text()


def test_the_table_of_homodistil_novels_has_what_its_findings_say():
    table = pd.read_csv(ROOT / "workflow/experiments/homodistil-novels/table.csv")
    scores = table.assign(plan=table["plan"].str.removeprefix("on-")).pivot(
        index=["task", "plan"], columns="target", values="score"
    )
    ahead = lambda task, first, second: (scores.loc[(task, first)] - scores.loc[(task, second)])[[0.5, 0.75]].tolist()  # noqa: E731
    for task in ("novels", "cola", "tydiqa"):
        for plan in ("homodistil", "one-shot"):
            assert min(ahead(task, plan, "random-start")) > 0.03
    assert scores.loc[("cola", "random-start"), [0.5, 0.75]].tolist() == [0.0, 0.0]
    lead = {task: ahead(task, "homodistil", "one-shot") for task in ("novels", "cola", "rte", "stsb", "tydiqa")}
    assert lead["novels"] == pytest.approx([0.001, -0.010], abs=5e-4)
    assert lead["cola"] == pytest.approx([0.036, 0.052], abs=5e-4)
    assert min(lead["rte"]) > 0 and max(lead["rte"]) < 0.08
    assert lead["stsb"] == pytest.approx([-0.016, -0.027], abs=5e-4)
    assert max(map(abs, lead["tydiqa"])) < 0.004
    means = [sum(lead[task][at] for task in lead if task != "novels") / 4 for at in (0, 1)]
    assert means == pytest.approx([0.009, 0.019], abs=5e-4)
    students = scores.drop(index="teacher", level="plan")[[0.5, 0.75]]
    assert students.loc["stsb"].to_numpy().max() < 0.19
    assert (students.loc["rte"] - 0.527).abs().to_numpy().max() < 0.04
    within = table[table["plan"] != "teacher"].groupby("target")["sparsity_encoder"].agg(["min", "max"])
    assert within.loc[0.5].tolist() == pytest.approx([0.5, 0.5], abs=1e-3) and within.loc[0.75].tolist() == [0.75, 0.75]


def test_the_curves_of_homodistil_novels_have_what_its_findings_say():
    [text] = json.loads((ROOT / "workflow/experiments/homodistil-novels/analyses.json").read_text())["texts"]
    ends = pd.DataFrame(text["ends"]).set_index(["quantity", "plan", "percent"]).sort_index()
    of = lambda quantity, plan, value: ends.loc[(quantity, plan), value].loc[["50", "75"]].tolist()  # noqa: E731
    kl, loss, rate = COMPARED["discrepancy"], COMPARED["loss"], RATE[1]
    assert text["teacher_loss"] == pytest.approx(4.33, abs=5e-3)
    assert of(loss, "homodistil", "last") == pytest.approx([4.54, 4.98], abs=5e-3)
    assert of(loss, "one-shot", "last") == pytest.approx([4.51, 4.94], abs=5e-3)
    assert of(kl, "random-start", "last") == pytest.approx([2.2, 2.2], abs=0.07)
    for plan in ("homodistil", "one-shot"):
        assert of(kl, plan, "last") == pytest.approx([0.2, 0.6], abs=0.05)
    assert of(kl, "homodistil", "most") == pytest.approx([0.31, 0.78], abs=5e-3)
    assert of(kl, "one-shot", "most") == of(kl, "one-shot", "first") == pytest.approx([0.66, 2.06], abs=6e-3)
    first, last = of(rate, "homodistil", "first"), of(rate, "homodistil", "last")
    assert [end / begin for begin, end in zip(first, last, strict=True)] == pytest.approx([1.3, 1.8], abs=0.05)


ARMS = ["a1-prune", "a3-layers", "a5-spd"]


def _of_seeds(task: dict, key: str) -> list[pd.DataFrame]:
    """A row an arm, a column a target; the file has a plan's seeds in their order."""
    found = pd.DataFrame(task["values"][key])
    seeds = found.groupby(found.groupby(["plan", "group"]).cumcount())
    return [inside.pivot(index="plan", columns="group", values="value").loc[ARMS] for _, inside in seeds]


def _errors(task: dict) -> dict[str, np.ndarray]:
    """Accumulated errors of the last layer, of each arm."""
    return {plan: np.array([each["error"] for each in task["lost"] if each["plan"] == plan]) for plan in ARMS}


def _about(*numbers: float):
    return pytest.approx(numbers, abs=6e-3)


def test_the_study_of_overfitting_has_what_its_findings_say():
    folder = ROOT / "workflow/experiments/spd-overfitting"
    table = pd.read_csv(folder / "table.csv")
    [task] = json.loads((folder / "analyses.json").read_text())["tasks"]
    assert set(table["seed"]) == {42, 43, 44}
    gaps, losses, of_training = (_of_seeds(task, key) for key in ("gap_loss", "held_out_loss", "train_score"))
    gap, loss, known = (sum(seeds) / 3 for seeds in (gaps, losses, of_training))
    for mean, seeds in ((gap, gaps), (loss, losses)):
        assert mean.apply(lambda column: column.is_monotonic_decreasing).all(), "A1 > A3 > A5"
        assert all((each.loc["a1-prune"] > each.loc["a3-layers"]).all() for each in seeds), "in each seed"
        ahead = [list(each.loc["a3-layers"] > each.loc["a5-spd"]) for each in seeds]
        assert ahead == [[True] * 3, [True] * 3, [True, False, True]]
    assert abs(losses[2].loc["a3-layers", "90"] - losses[2].loc["a5-spd", "90"]) < 1e-3
    assert gap.to_numpy().tolist() == [_about(1.74, 0.92, 1.17), _about(0.94, 0.46, 0.59), _about(0.91, 0.34, 0.49)]
    assert all((each.idxmax(axis=1) == "50").all() and (each.idxmin(axis=1) == "90").all() for each in gaps)
    assert known.loc["a1-prune", "50"] == pytest.approx(0.998, abs=5e-4)
    assert known.loc["a5-spd"].tolist() == _about(0.95, 0.76, 0.79)
    assert loss["50"].tolist() == _about(1.75, 1.09, 1.05)
    scores = table.groupby(["plan", "target"])["score"].mean().unstack()
    below = scores.loc["teacher", 0.0] - scores.loc[ARMS, 0.5]
    assert scores.loc["teacher", 0.0] == pytest.approx(0.582, abs=5e-4)
    assert below["a1-prune"] == pytest.approx(0.022, abs=5e-4) and below[["a3-layers", "a5-spd"]].abs().max() < 9e-3
    assert table[table["target"] >= 0.9]["score"].max() < 0.527 + 0.03
    assert (scores.loc["a3-layers"] - scores.loc["a5-spd"])[[0.9, 0.95]].abs().max() < 8e-3
    errors = _errors(task)
    assert errors["a1-prune"].min() > 1.15 and errors["a1-prune"].max() < 2.05
    assert np.all(np.diff(errors["a1-prune"].reshape(3, 3), axis=0) > 0), "more with every target"
    others = np.concatenate([errors["a3-layers"], errors["a5-spd"]])
    assert others.min() > 0.45 and others.max() < 0.9
    within = table[table["plan"] != "teacher"]
    assert (within["sparsity_encoder"] - within["target"]).abs().max() < 1e-4


def test_the_study_of_overfitting_on_more_tasks_has_what_its_findings_say():
    folder = ROOT / "workflow/experiments/spd-overfitting-tasks"
    table = pd.read_csv(folder / "table.csv")
    assert set(table["seed"]) == {42}
    within = table[table["plan"] != "teacher"]
    assert (within["sparsity_encoder"] - within["target"]).abs().max() < 1e-4
    found = {task["task"]: task for task in json.loads((folder / "analyses.json").read_text())["tasks"]}
    keys = ("gap_loss", "gap_metric", "held_out_loss", "train_score")
    (cola_gap, cola_apart, cola_loss, cola_known), (gap, apart, loss, _) = (
        [_of_seeds(found[name], key)[0] for key in keys] for name in ("cola", "stsb")
    )
    cola, stsb = (
        table[table["task"] == name].pivot(index="plan", columns="target", values="score") for name in ("cola", "stsb")
    )

    assert [cola_known.loc["a1-prune", "50"], cola.loc["a1-prune", 0.5]] == _about(0.98, 0.26)
    assert cola_gap.to_numpy()[:2].tolist() == [_about(1.14, 0.68), _about(0.52, 0.42)]
    assert cola_loss.to_numpy().tolist() == [_about(1.18, 0.87), _about(0.76, 0.76), _about(0.76, 0.77)]
    assert (cola_apart.loc["a1-prune"] > cola_apart.loc["a3-layers"]).all()
    assert (cola.loc["a3-layers"] - cola.loc["a1-prune"])[[0.5, 0.9]].tolist() == _about(0.02, 0.06)
    assert (gap.loc["a3-layers"] - gap.loc["a1-prune"]).abs().max() < 0.01
    assert (stsb.loc["a3-layers"] - stsb.loc["a1-prune"])[[0.5, 0.9]].abs().max() < 5e-3
    assert stsb.loc["a1-prune", 0.9] > stsb.loc["a3-layers", 0.9] and loss.loc["a1-prune", "90"] < loss.loc["a3-layers", "90"]

    assert list(cola_gap.loc["a5-spd"] < cola_gap.loc["a3-layers"]) == [False, True]
    assert cola_gap.loc["a5-spd", "90"] == pytest.approx(0.40, abs=6e-3)
    assert (cola.loc["a3-layers"] - cola.loc["a5-spd"])[[0.5, 0.9]].tolist() == _about(0.02, 0.04)
    for measured in (gap, loss):
        assert list(measured.loc["a5-spd"] < measured.loc["a3-layers"]) == [True, False]
    assert loss.loc[["a3-layers", "a5-spd"], "90"].tolist() == _about(1.08, 1.17)
    assert (stsb.loc["a3-layers"] - stsb.loc["a5-spd"])[[0.5, 0.9]].abs().max() < 0.03

    assert all((each["90"] < each["50"]).all() for each in (cola_gap, cola_apart, apart))
    assert gap.to_numpy().tolist() == [_about(0.61, 0.70), _about(0.60, 0.69), _about(0.58, 0.70)]
    errors = {name: _errors(task) for name, task in found.items()}
    assert sorted(errors["cola"]["a1-prune"]) == _about(1.11, 1.16) and sorted(errors["stsb"]["a1-prune"]) == _about(0.89, 0.91)
    layers, spd = (np.array([each[plan] for each in errors.values()]) for plan in ("a3-layers", "a5-spd"))
    assert [min(layers.min(), spd.min()), max(layers.max(), spd.max())] == _about(0.28, 0.68)
    assert np.abs(layers - spd).max() < 0.03


def test_the_shipped_study_s_artefacts_are_its_best_models(monkeypatch):
    monkeypatch.chdir(ROOT)
    best = json.loads((ROOT / "workflow/experiments/demo/best.json").read_text())["best"]
    assert best == evidence.best_students(ROOT / "workflow/experiments/demo")
    assert set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["artifacts"]) == set(best)


def test_the_table_of_formats_of_the_demo_has_what_its_findings_say():
    folder = ROOT / "workflow/experiments/demo"
    text = " ".join((folder / "findings.md").read_text().split())
    rows = pd.read_csv(folder / "deploy.csv").set_index(["plan", "format"])

    teacher, whole = rows.loc[("teacher", "onnx-int8")], rows.loc[("teacher", "torch")]
    said = f"{teacher['score']:.3f} at {teacher['total_mib']:.1f} MiB, level with the teacher in PyTorch "
    assert said + f"({whole['score']:.3f} at {whole['total_mib']:.1f} MiB)" in text
    cofi = rows.loc[("cofi", "onnx-int8")]
    assert f"smaller ({cofi['total_mib']:.1f} MiB) and faster, but has {cofi['score']:.3f}" in text
    assert cofi["ms_b1_lrows"] < teacher["ms_b1_lrows"] and cofi["ms_b32_lrows"] < teacher["ms_b32_lrows"]
    assert f"({cofi['ms_b32_l64']:.0f} ms instead of {teacher['ms_b32_l64']:.0f})" in text
    assert cofi["total_mib"] < 0.7 * teacher["total_mib"] and cofi["ms_b32_l64"] < 0.51 * teacher["ms_b32_l64"]
    sdp = rows.loc[("sdp", "onnx-int8")]
    assert f"SDP at 50 % has {rows.loc[('sdp', 'torch'), 'score']:.3f} at the teacher's size" in text
    assert sdp["passed"] == "no" and f"it loses {sdp['drop']:.3f} and fails the guard of 0.01" in text
    tiny, linear = rows.loc[("tiny", "onnx-int8")], rows.loc[("linear", "scikit-learn")]
    assert f"({rows.loc[('tiny', 'torch'), 'score']:.3f}), nor does the linear model much ({linear['score']:.3f})" in text
    assert f"({tiny['total_mib']:.1f} MiB in int8, and {linear['total_mib']:.1f} MiB)" in text


@pytest.mark.parametrize("study", ["four-papers", "kinds-unlabelled"])
def test_scores_that_findings_name_are_in_the_study_s_tables(study):
    folder = ROOT / f"workflow/experiments/{study}"
    tables = [pd.read_csv(folder / name) for name in ("table.csv", "deploy.csv") if (folder / name).is_file()]
    known = {f"{score:.3f}" for table in tables for score in table["score"].dropna()}
    text = re.sub(r"standard error is 0\.\d+", "", (folder / "findings.md").read_text())
    named = re.findall(r"\b0\.\d{3}\b", text)
    assert len(named) > 5 and set(named) <= known, sorted(set(named) - known)
