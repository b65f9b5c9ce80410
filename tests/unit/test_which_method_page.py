"""docs/which-method.md: its tables are made from the committed studies, and every number of its sentences is checked here.

`python -m tests.unit.test_which_method_page` writes the tables anew after a study has been run again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/which-method.md"
STUDIES = ROOT / "workflow/experiments"
BLOCK = re.compile(r"(<!-- numbers: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
TARGETS = ("50", "60", "75", "80", "90", "95")
TASKS = ("cola", "rte", "sst2", "stsb")


def table(study: str) -> pd.DataFrame:
    """A study's table.csv; `percent` is the target as folders name it."""
    rows = pd.read_csv(STUDIES / study / "table.csv")
    percent = (100 * rows["target"]).map("{:g}".format)
    return rows.assign(percent=percent if "stage" not in rows else rows["stage"].astype(str))


def value(study: str, task: str, plan: str, percent: str, column: str = "score") -> float:
    """Mean over seeds of one column."""
    rows = table(study)
    return float(rows[(rows["task"] == task) & (rows["plan"] == plan) & (rows["percent"] == percent)][column].mean())


def span(values: pd.Series, form: str) -> str:
    """The smallest and the largest value; one number where both are written alike."""
    ends = dict.fromkeys(f"{value:{form}}" for value in (values.min(), values.max()))
    return " to ".join(ends)


def structured() -> list[str]:
    """cofi-small: mean score over four tasks; times and sizes from the smallest to the largest of the four."""
    rows = table("cofi-small")
    lines = [
        "| plan | removed | mean score | times as fast, PyTorch | times as fast, onnxruntime | MiB |",
        "|---|---|---|---|---|---|",
    ]
    for (plan, percent), of in rows.groupby(["plan", "percent"]):
        speeds = ["1", "1"] if plan == "teacher" else [span(of[name], ".1f") for name in ("speedup_b32", "onnx_speedup_b32")]
        size = f"{of['size_mib'].max():.1f}" if plan == "teacher" else span(of["size_mib"], ".1f")
        lines.append(f"| {plan} | {percent} % | {of['score'].mean():.3f} | {speeds[0]} | {speeds[1]} | {size} |")
    return lines


def by_task() -> list[str]:
    """cofi-small: scores of each task at the two sizes that all plans have."""
    rows = table("cofi-small")
    lines = ["| plan | removed | " + " | ".join(TASKS) + " |", "|---|---|" + "---|" * len(TASKS)]
    for (plan, percent), of in rows[rows["percent"].isin(["0", "80", "95"])].groupby(["plan", "percent"]):
        scores = of.set_index("task")["score"]
        lines.append(f"| {plan} | {percent} % | " + " | ".join(f"{scores[task]:.3f}" for task in TASKS) + " |")
    return lines


def speed() -> list[str]:
    """cofi-speedup: what was asked for and what was measured."""
    rows = table("cofi-speedup")
    lines = [
        "| asked for | times as fast, PyTorch | times as fast, onnxruntime | removed | accuracy |",
        "|---|---|---|---|---|",
    ]
    for _, row in rows.iterrows():
        asked = "the teacher" if row["plan"] == "teacher" else f"{row['percent'].removesuffix('x')} times"
        times = f"{row['speedup_b32']:.1f} | {row['onnx_speedup_b32']:.1f}"
        lines.append(f"| {asked} | {times} | {100 * row['sparsity_encoder']:.0f} % | {row['score']:.3f} |")
    return lines


def single() -> list[str]:
    """sdp-small: scores of both tasks."""
    rows = table("sdp-small")
    lines = ["| plan | removed | cola | rte | MiB |", "|---|---|---|---|---|"]
    for (plan, percent), of in rows.groupby(["plan", "percent"]):
        scores = of.set_index("task")["score"]
        lines.append(f"| {plan} | {percent} % | {scores['cola']:.3f} | {scores['rte']:.3f} | {of['size_mib'].max():.1f} |")
    return lines


def overfitting() -> list[str]:
    """spd-overfitting: accuracy on RTE and the gap in loss, mean and standard deviation of three seeds."""
    rows = table("spd-overfitting")
    [task] = json.loads((STUDIES / "spd-overfitting/analyses.json").read_text())["tasks"]
    gaps = pd.DataFrame(task["values"]["gap_loss"]).groupby(["plan", "group"])["value"]
    lines = ["| plan | removed | accuracy | held-out loss minus training loss |", "|---|---|---|---|"]
    for (plan, percent), of in rows.groupby(["plan", "percent"]):
        gap = "" if plan == "teacher" else f"{gaps.mean()[plan, percent]:.2f} ± {gaps.std()[plan, percent]:.2f}"
        lines.append(f"| {plan} | {percent} % | {of['score'].mean():.3f} ± {of['score'].std():.3f} | {gap} |")
    return lines


def agnostic() -> list[str]:
    """homodistil-novels: fine-tuned students on four tasks."""
    rows = table("homodistil-novels")
    rows, tasks = rows[rows["task"] != "novels"], ("cola", "rte", "stsb", "tydiqa")
    lines = [f"| plan | removed | {' | '.join(tasks)} | mean | MiB |", "|---|---|" + "---|" * 6]
    for (plan, percent), of in rows.groupby(["plan", "percent"]):
        scores = of.set_index("task")["score"]
        each = " | ".join(f"{scores[name]:.3f}" for name in tasks)
        lines.append(f"| {plan} | {percent} % | {each} | {scores.mean():.3f} | {of['size_mib'].max():.1f} |")
    return lines


BLOCKS: dict[str, Callable[[], list[str]]] = {
    "structured": structured,
    "by-task": by_task,
    "speed": speed,
    "single-weights": single,
    "overfitting": overfitting,
    "task-agnostic": agnostic,
}


def mean_score(study: str, plan: str, percent: str) -> float:
    rows = table(study)
    return float(rows[(rows["plan"] == plan) & (rows["percent"] == percent)]["score"].mean())


def epochs(plan: str, percent: str, task: str) -> float:
    """Epochs of all stages up to a target of cofi-small, and of its recovery."""
    block = yaml.safe_load((STUDIES / "cofi-small/config.yaml").read_text())["plans"][plan]
    block = block | block.get("per_task", {}).get(task, {})
    stages = [f"{100 * target:g}" for target in block["path"]].index(percent) + 1
    return stages * block.get("pruning_epochs", block.get("epochs")) + block["recover"]["epochs"]


def ahead_of_all(percent: str) -> float:
    rivals = ("l0", "small-layers", "small-sliced")
    return mean_score("cofi-small", "cofi", percent) - max(mean_score("cofi-small", plan, percent) for plan in rivals)


def dense_speeds() -> pd.Series:
    """Speed-ups of all students whose removed weights are stored as zeros."""
    names = ("sdp-small", "spd-overfitting", "spd-overfitting-tasks")
    return pd.concat([rows[rows["plan"] != "teacher"]["speedup_b32"] for rows in map(table, names)])


def near(got: float, said: float) -> bool:
    """Whether a number is the one that is said, with three decimals."""
    return abs(got - said) < 5.1e-4


CLAIMS: dict[str, Callable[[], bool]] = {
    "by more than 0.02 at 80 % and at 95 %": lambda: min(ahead_of_all("80"), ahead_of_all("95")) > 0.02,
    "L0 is first (0.852 against 0.850)": lambda: (
        near(value("cofi-small", "sst2", "l0", "80"), 0.852) and near(value("cofi-small", "sst2", "cofi", "80"), 0.850)
    ),
    "`small-sliced` is first (0.567); CoFi has 0.520, and the most frequent class gives 0.527": lambda: (
        near(value("cofi-small", "rte", "small-sliced", "95"), 0.567)
        and near(value("cofi-small", "rte", "cofi", "95"), 0.520)
        and 0.520 < 146 / 277 < 0.5275
    ),
    "25 and 35 epochs at 80 % and 95 %, the others 15 and 25": lambda: all(
        [epochs("cofi", percent, task) for percent in ("80", "95")] == [25, 35]
        and all([epochs(plan, percent, task) for percent in ("80", "95")] == [15, 25] for plan in ("l0", "small-layers"))
        for task in ("cola", "stsb")
    ),
    "33.1 MiB, CoFi's 46.5 MiB": lambda: (
        abs(value("cofi-small", "stsb", "l0", "95", "size_mib") - 33.1) < 0.05
        and abs(value("cofi-small", "stsb", "cofi", "95", "size_mib") - 46.5) < 0.05
    ),
    "0.231 on STS-B, where CoFi has 0.835": lambda: (
        near(value("cofi-small", "stsb", "small-layers", "95"), 0.231)
        and near(value("cofi-small", "stsb", "cofi", "95"), 0.835)
    ),
    "between 0.9 and 1.1": lambda: dense_speeds().min() > 0.9 and dense_speeds().max() < 1.1,
    "ahead of magnitude by 0.029 on both tasks": lambda: all(
        near(value("sdp-small", task, "sdp", "50") - value("sdp-small", task, "magnitude", "50"), ahead)
        for task, ahead in (("cola", 0.029), ("rte", 0.029))
    ),
    "behind by 0.021 on CoLA and ahead by 0.004 on RTE": lambda: (
        near(value("sdp-small", "cola", "magnitude", "80") - value("sdp-small", "cola", "sdp", "80"), 0.021)
        and near(value("sdp-small", "rte", "sdp", "80") - value("sdp-small", "rte", "magnitude", "80"), 0.004)
    ),
    "one-shot is 0.010 ahead": lambda: near(
        value("homodistil-novels", "novels", "one-shot", "75") - value("homodistil-novels", "novels", "homodistil", "75"), 0.010
    ),
    "CoFi's model scores 0.848 with 80 % removed; HomoDistil's scores 0.112 with 75 % removed": lambda: (
        near(value("cofi-small", "stsb", "cofi", "80"), 0.848)
        and near(value("homodistil-novels", "stsb", "on-homodistil", "75"), 0.112)
    ),
    "three seeds": lambda: table("spd-overfitting")["seed"].nunique() == 3,
    "one seed": lambda: all(
        table(study)["seed"].nunique() == 1 for study in ("cofi-small", "cofi-speedup", "sdp-small", "homodistil-novels")
    ),
    "277 evaluation rows": lambda: (
        json.loads((STUDIES / "cofi-small/prepared/rte/task.json").read_text())["rows"]["validation"] == 277
    ),
    "750 steps": lambda: "750 steps" in (STUDIES / "homodistil-novels/findings.md").read_text(),
    "375 steps": lambda: "375 steps" in (STUDIES / "homodistil-novels/findings.md").read_text(),
}
"""Words of the page → whether they are true."""
NO_MEASUREMENT = re.compile(
    r"`[^`]*`|\]\([^)]*\)|SST-2|STS-B|L0|MiniLM-L6-v2|batch size 32|22\.7 million|(?<![\d.])0\.08(?!\d)|\b(?:50|75|80|90|95) %"
)
"""Names, links, targets, the size of the base, and the margin that the findings of the studies give for RTE."""


def expected(text: str) -> str:
    """The page with its tables as the studies give them."""
    return BLOCK.sub(lambda found: found[1] + "\n".join(BLOCKS[found[2]]()) + "\n" + found[4], text)


def test_the_tables_are_those_of_the_studies():
    text = PAGE.read_text()
    assert {name for _, name, _, _ in BLOCK.findall(text)} == set(BLOCKS)
    assert text == expected(text)


@pytest.mark.parametrize("words", CLAIMS)
def test_a_sentence_says_what_was_measured(words):
    assert words in " ".join(PAGE.read_text().split()), "no longer on the page"
    assert CLAIMS[words]()


def test_every_other_number_is_a_name_or_a_target():
    text = BLOCK.sub("", PAGE.read_text())
    text = " ".join(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL).split())
    for words in sorted(CLAIMS, key=len, reverse=True):
        text = text.replace(words, "")
    assert re.findall(r".{0,30}\d.{0,30}", NO_MEASUREMENT.sub("", text)) == []


if __name__ == "__main__":
    PAGE.write_text(expected(PAGE.read_text()))
