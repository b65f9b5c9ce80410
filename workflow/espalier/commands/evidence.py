"""Copy a study's small results beside its configuration; write all studies' pages and the README's results anew."""

from __future__ import annotations

import shutil
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from espalier.config.project import TEACHER
from espalier.config.targets import position
from espalier.evaluation.metrics import score
from espalier.results.findings import DIFFERENCES, GAPS
from espalier.results.summary import Group, Mean, goal, groups, over_tasks, panels, smaller
from espalier.results.table import NAMES, RUNTIMES
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic, read_json, write_json

EXPERIMENTS = Path("workflow/experiments")
SHIPPED = "demo"
"""Project of the shipped configuration, whose tables the README shows."""
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
COPIED = ("table.csv", "metrics.json", "analyses.json", "figures/*.svg", "prepared/*/task.json")


def main(arguments: Sequence[str]) -> int:
    """Collect the named projects, then write pages and README."""
    parser = ArgumentParser("python -m espalier evidence", description=__doc__)
    help_text = "finished study, as its configuration names it; without names nothing is copied"
    parser.add_argument("projects", nargs="*", metavar="PROJECT", help=help_text)
    for project in parser.parse_args(arguments).projects:
        collect(project)
    renew(Path("README.md"))
    return 0


def collect(project: str) -> None:
    """Copy a project's small results beside its configuration, in place of the earlier ones.

    Raises:
        UserError: the project has no report yet, or no folder under workflow/experiments.
    """
    source, target = Path("results") / project, EXPERIMENTS / project
    if not (source / "report.html").is_file() or not (target / "config.yaml").is_file():
        raise UserError(f"{project}: needs {source}/report.html and {target}/config.yaml; run the study first")
    for pattern in COPIED:
        for path in sorted(source.glob(pattern)):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            with atomic(copy) as temporary:
                shutil.copyfile(path, temporary)


def results_block() -> str:
    """The README's results: the shipped configuration's tables, and where those of all studies are."""
    links = " · ".join(f"[{folder.name}]({folder}/README.md)" for folder in studies())
    return f"{tables(EXPERIMENTS / SHIPPED)}\n\nTables and figures of all studies: {links}."


def studies() -> list[Path]:
    """Folders of the studies that have been run."""
    return [table.parent for table in sorted(EXPERIMENTS.glob("*/table.csv"))]


def tables(folder: Path) -> str:
    """Scores for each base and task of a study that has been run, and speeds where matrices shrank."""
    parts, rows = [], _rows(folder)
    for (base, task), found in panels(groups(rows)):
        card = read_json(folder / f"prepared/{task}/task.json")
        parts.append("\n".join(_task_table(base, task, found, card)))
        if compact := [group for group in smaller(found) if group.means["speedup_b32"]]:
            parts.append("\n".join(_speed_table(base, task, compact)))
    for (base, named), found in panels(over_tasks(rows)):
        head = f"**Mean over tasks** with {base} ({named}), each with its own metric:"
        parts.append("\n".join([head, "", *_score_grid(found)]))
    return "\n\n".join([*parts, *_gaps(folder)])


def _gaps(folder: Path) -> Iterator[str]:
    """How much better students know the rows that they were trained on, where that was watched."""
    numbers = folder / "analyses.json"
    for task in read_json(numbers)["tasks"] if numbers.is_file() else []:
        for key, said in GAPS.items():
            values = pd.DataFrame(task["values"].get(key, []), columns=["plan", "group", "x", "value"])
            means = {place: Mean.of(inside["value"]) for place, inside in values.groupby(["plan", "group"], sort=False)}
            if means:
                ours = " (definition ours)" if key in DIFFERENCES else ""
                head = f"**{task['task']}** with {task['base']}, {said}{ours}, at the end of each stage:"
                yield "\n".join([head, "", *_grid({place: _cell(mean) for place, mean in means.items()})])


def best(folder: Path) -> dict[str, str]:
    """Task → compact model with the best mean score of those that store fewer parameters than their teacher."""
    rows = _rows(folder)
    students = [group for _, found in panels(groups(rows)) for group in smaller(found) if group.means["score"]]
    students.sort(key=lambda group: group.means["score"].mean)
    seed = rows["seed"].min()
    return {
        group.task: f"results/{folder.name}/{group.base}/{group.task}/seed{seed}/{group.plan}/{group.percent}/compact"
        for group in students
    }


def page(folder: Path) -> str:
    """A study's own page: what its authors wrote about it in findings.md, if they did, its tables and figures."""
    words = folder / "findings.md"
    said = [words.read_text().strip()] if words.is_file() else []
    figures = [f"![{figure.stem}](figures/{figure.name})" for figure in sorted((folder / "figures").glob("*.svg"))]
    return "\n\n".join([f"# {folder.name}", "[Configuration](config.yaml)", *said, tables(folder), *figures]) + "\n"


def _rows(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "table.csv", dtype=dict.fromkeys(NAMES, str), keep_default_na=False, na_values=[""])


def _task_table(base: str, task: str, found: list[Group], card: dict) -> list[str]:
    rows, counted = card["rows"], "texts, packed" if card.get("kind") == "text" else "rows"
    head = (
        f"**{task}** with {base}: {found[0].metric}, mean ± standard deviation (seeds); "
        f"{rows['train']:,} training and {rows[card['sets'][0]]:,} evaluation {counted}{_guess(card, found[0].metric)}."
    )
    return [head, "", *_score_grid(found)]


def _score_grid(found: list[Group]) -> list[str]:
    return _grid({(group.plan, group.percent): _cell(group.means["score"]) for group in found})


def _speed_table(base: str, task: str, found: list[Group]) -> list[str]:
    """Of the students with smaller matrices: how many times the speed of their teacher, runtime by runtime."""
    columns = {name: f"{prefix}speedup_b32" for name, prefix in RUNTIMES.items()}
    measured = {name: column for name, column in columns.items() if any(group.means.get(column) for group in found)}
    head = f"Speed-up over the dense teacher at batch 32, {' / '.join(measured)} ({task}, {base}):"
    times = {
        (group.plan, group.percent): " / ".join(_times(group.means.get(each)) for each in measured.values()) for group in found
    }
    return [head, "", *_grid(times)]


def _grid(cells: Mapping[tuple[str, str], str]) -> list[str]:
    """A Markdown table of (plan, target) → text: a row a plan, the teacher first, a column a target, the gentlest first.

    Sparsities come before targets of other kinds.
    """
    targets = sorted({target for _, target in cells}, key=lambda word: (not word[-1].isdigit(), position(word)))
    lines = [f"| plan | {' | '.join(_heading(target) for target in targets)} |", "|---|" + "---|" * len(targets)]
    for plan in sorted({plan for plan, _ in cells}, key=lambda plan: (plan != TEACHER, plan)):
        lines.append(f"| {plan} | {' | '.join(cells.get((plan, target), '') for target in targets)} |")
    return lines


def _heading(percent: str) -> str:
    """`dense`, `60 % removed`; other targets as they are said."""
    said = goal(percent)
    return "dense" if percent == "0" else f"{said} removed" if said.endswith(" %") else said


def _times(mean: Mean | None) -> str:
    return "–" if mean is None else f"{mean.mean:.1f}×"


def _guess(card: dict, metric: str) -> str:
    """What always answering the training rows' most frequent class gives; nothing where there are no classes."""
    if not card["class_counts"]:
        return ""
    train, counts = (list(card["class_counts"][name].values()) for name in ("train", card["sets"][0]))
    labels = np.repeat(np.arange(len(counts)), counts)
    return f"; the most frequent class gives {score(metric, labels, np.full_like(labels, np.argmax(train))):.3f}"


def _cell(mean: Mean | None) -> str:
    if mean is None:
        return ""
    return f"{mean.mean:.3f} ± {mean.sd:.3f} ({mean.n})" if mean.sd is not None else f"{mean.mean:.3f} ({mean.n})"


def renew(readme: Path) -> None:
    """Write each study's page, and the results between the README's two marks."""
    for folder in studies():
        with atomic(folder / "README.md") as temporary:
            temporary.write_text(page(folder))
    if (EXPERIMENTS / SHIPPED / "table.csv").is_file():
        write_json(EXPERIMENTS / SHIPPED / "best.json", {"best": best(EXPERIMENTS / SHIPPED)})
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    with atomic(readme) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n{results_block()}\n{END}{after}")
