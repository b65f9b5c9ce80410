"""Copy a study's small results beside its configuration; write all studies' pages and the README's results anew."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from espalier.config.project import TEACHER
from espalier.config.targets import position
from espalier.evaluation.metrics import score
from espalier.results.findings import DIFFERENCES, GAPS, VALUE_COLUMNS
from espalier.results.rivals import rival_sentences
from espalier.results.summary import Group, Mean, groups, over_tasks, panels, smaller, target_label
from espalier.results.table import NAMES, RUNTIMES
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic, copy_file, read_json, write_json

EXPERIMENTS = Path("workflow/experiments")
SHIPPED = "demo"
"""Project of the shipped configuration."""
LONGER = "four-papers"
"""Project of `make study`. The README shows its tables below those of the shipped configuration."""
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
COPIED = (
    "table.csv",
    "deploy.csv",
    "metrics.json",
    "analyses.json",
    "figures/*.svg",
    "prepared/*/task.json",
    "prepared/*/linear.json",
)


def main(arguments: Sequence[str]) -> int:
    """Copy the results of the named projects, then write pages and README."""
    parser = ArgumentParser("python -m espalier evidence", description=__doc__)
    help_text = "finished study, as its configuration names it; without names nothing is copied"
    parser.add_argument("projects", nargs="*", metavar="PROJECT", help=help_text)

    for project in parser.parse_args(arguments).projects:
        copy_results(project)
    renew(Path("README.md"))
    return 0


def copy_results(project: str) -> None:
    """Copy a project's small results beside its configuration, in place of the earlier ones.

    Raises:
        UserError: the project has no report yet, or no folder under workflow/experiments.
    """
    source = Path("results") / project
    target = EXPERIMENTS / project
    if not (source / "report.html").is_file() or not (target / "config.yaml").is_file():
        raise UserError(f"{project}: needs {source}/report.html and {target}/config.yaml; run the study first")

    for pattern in COPIED:
        for path in sorted(source.glob(pattern)):
            copy_file(path, target / path.relative_to(source))


def results_block() -> str:
    """The README's results: scores of the shipped configuration and of the longer study, and links to all studies."""
    parts = _score_tables(EXPERIMENTS / SHIPPED)
    longer = EXPERIMENTS / LONGER
    if (longer / "table.csv").is_file():
        parts += ["`make study`:", *_score_tables(longer, rivals=False)]

    links = " · ".join(f"[{folder.name}]({folder}/README.md)" for folder in studies())
    return "\n\n".join([*parts, f"Tables and figures of all studies: {links}."])


def _score_tables(folder: Path, rivals: bool = True) -> list[str]:
    """Scores of a study's tasks with labels, and sentences on how its rivals did where they are asked for."""
    scores = []
    for (base, task), inside in panels(groups(_committed_table(folder))):
        card = read_json(folder / f"prepared/{task}/task.json")
        if card.get("kind") != "text":
            scores.append("\n".join(_task_table(base, task, inside, card, rivals)))
    return scores


def studies() -> list[Path]:
    """Folders of the studies that have been run."""
    return [table.parent for table in sorted(EXPERIMENTS.glob("*/table.csv"))]


def tables(folder: Path) -> str:
    """Scores for each base and task of a study that has been run, and speeds where matrices shrank."""
    rows = _committed_table(folder)
    parts = []
    for (base, task), inside in panels(groups(rows)):
        card = read_json(folder / f"prepared/{task}/task.json")
        parts.append("\n".join(_task_table(base, task, inside, card)))
        if compact := [group for group in smaller(inside) if group.means["speedup_b32"]]:
            parts.append("\n".join(_speed_table(base, task, compact)))

    for (base, tasks), inside in panels(over_tasks(rows)):
        head = f"**Mean over tasks** with {base} ({tasks}), each with its own metric{_updates_said(inside)}:"
        parts.append("\n".join([head, "", *_score_grid(inside)]))

    return "\n\n".join([*parts, *_gap_tables(folder)])


def _gap_tables(folder: Path) -> Iterator[str]:
    """Tables of the overfitting gaps, for studies whose histories have scores on training rows."""
    numbers = folder / "analyses.json"
    if not numbers.is_file():
        return

    for task in read_json(numbers)["tasks"]:
        for key, name in GAPS.items():
            values = pd.DataFrame(task["values"].get(key, []), columns=[*VALUE_COLUMNS])
            means = {place: Mean.of(inside["value"]) for place, inside in values.groupby(["plan", "group"], sort=False)}
            if means:
                ours = " (definition ours)" if key in DIFFERENCES else ""
                head = f"**{task['task']}** with {task['base']}, {name}{ours}, at the end of each stage:"
                yield "\n".join([head, "", *_grid({place: _cell(mean) for place, mean in means.items()})])


def best_students(folder: Path) -> dict[str, str]:
    """Task → compact model with the best mean score among students that store fewer parameters than their teacher."""
    rows = _committed_table(folder)
    students: list[Group] = []
    for _, inside in panels(groups(rows)):
        students += [group for group in smaller(inside) if group.means["score"] and not group.is_rival]

    # ascending, so that in the dictionary the best student of a task replaces the others
    students.sort(key=lambda group: group.means["score"].mean)

    seed = rows["seed"].min()
    return {
        group.task: f"results/{folder.name}/{group.base}/{group.task}/seed{seed}/{group.plan}/{group.percent}/compact"
        for group in students
    }


def study_page(folder: Path) -> str:
    """A study's own page: its authors' words in findings.md, where there are any, its tables and figures where it was run."""
    findings = folder / "findings.md"
    words = [findings.read_text().strip()] if findings.is_file() else []
    figures = [f"![{figure.stem}](figures/{figure.name})" for figure in sorted((folder / "figures").glob("*.svg"))]
    own = [tables(folder)] if (folder / "table.csv").is_file() else []
    return "\n\n".join([f"# {folder.name}", "[Configuration](config.yaml)", *words, *own, *_papers(folder), *figures]) + "\n"


def _papers(folder: Path) -> Iterator[str]:
    """Numbers of the paper that a study follows, from its paper.csv, beside those of the study where it was run."""
    if not (folder / "paper.csv").is_file():
        return

    known = pd.read_csv(folder / "paper.csv", dtype=str)
    run = groups(_committed_table(folder)) if (folder / "table.csv").is_file() else []
    here = {(group.base, group.task, group.plan, group.percent, group.metric): _cell(group.means["score"]) for group in run}
    lines = ["| task | plan | removed | metric | here | paper | source |", "|---|---|---|---|---|---|---|"]
    for base, task, plan, percent, *numbers in known.itertuples(index=False):
        metric, paper, source = numbers
        own = here.get((base, task, plan, percent, metric), "")
        lines.append(
            f"| {task} | {plan} | {_heading(percent).removesuffix(' removed')} | {metric} | {own} | {paper} | {source} |"
        )
    yield (
        "Numbers of the paper, which its specification marks as verified; rows, machines and selection differ here:\n\n"
        + "\n".join(lines)
    )


def _committed_table(folder: Path) -> pd.DataFrame:
    """table.csv with the columns that it had when the study was run; names stay text."""
    return pd.read_csv(folder / "table.csv", dtype=dict.fromkeys(NAMES, str), keep_default_na=False, na_values=[""])


def _task_table(base: str, task: str, inside: list[Group], card: dict, rivals: bool = True) -> list[str]:
    """One base and task: a heading with its rows and what needs no encoder, a grid of scores, and how the rivals did."""
    rows = card["rows"]
    metric = inside[0].metric
    counted = "texts, packed" if card.get("kind") == "text" else "rows"
    head = (
        f"**{task}** with {base}: {metric}, mean ± standard deviation (seeds){_updates_said(inside)}; "
        f"{rows['train']:,} training and {rows[card['sets'][0]]:,} evaluation {counted}"
    )
    head = "; ".join(filter(None, [head, _guess(card, metric)])) + "."
    said = rival_sentences(inside) if rivals else []
    return [head, "", *_score_grid(inside), *([""] if said else []), *said]


def _score_grid(inside: list[Group]) -> list[str]:
    """Scores, each with the updates of all training that led to it, where the study's table has them."""
    cells = {}
    for group in inside:
        cell, updates = _cell(group.means["score"]), group.means.get("updates")
        cells[group.plan, group.percent] = f"{cell} · {updates.mean:,.0f}" if cell and updates else cell
    return _grid(cells)


def _updates_said(inside: list[Group]) -> str:
    """Words for the heading of such scores; empty for tables of studies that were run before updates were counted."""
    return " · updates of all training that led to it" if any(group.means.get("updates") for group in inside) else ""


def _speed_table(base: str, task: str, students: list[Group]) -> list[str]:
    """Speed-ups of the students with smaller matrices over their teacher, runtime by runtime."""
    columns = {name: f"{prefix}speedup_b32" for name, prefix in RUNTIMES.items()}
    measured = {name: column for name, column in columns.items() if any(group.means.get(column) for group in students)}
    head = f"Speed-up over the dense teacher at batch 32, {' / '.join(measured)} ({task}, {base}):"

    cells = {}
    for group in students:
        speedups = [_speedup_text(group.means.get(column)) for column in measured.values()]
        cells[group.plan, group.percent] = " / ".join(speedups)
    return [head, "", *_grid(cells)]


def _grid(cells: Mapping[tuple[str, str], str]) -> list[str]:
    """A Markdown table of (plan, target) → text.

    There is a row for each plan, the teacher first, and a column for each target: sparsities first, then other kinds, and
    within a kind the target that removes least first.
    """
    targets = sorted({target for _, target in cells}, key=lambda word: (not word[-1].isdigit(), position(word)))

    head = ["plan", *(_heading(target) for target in targets)]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---|" * len(targets)]
    for plan in sorted({plan for plan, _ in cells}, key=lambda plan: (plan != TEACHER, plan)):
        row = [plan, *(cells.get((plan, target), "") for target in targets)]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def _heading(percent: str) -> str:
    """Heading of a target's column: `dense`, `60 % removed`; for other kinds of target its label alone."""
    if percent == "0":
        return "dense"
    label = target_label(percent)
    return f"{label} removed" if label.endswith(" %") else label


def _speedup_text(mean: Mean | None) -> str:
    return "–" if mean is None else f"{mean.mean:.1f}×"


def _guess(card: dict, metric: str) -> str:
    """Words on the score of always answering the training rows' most frequent class; empty where there are no classes."""
    if not card["class_counts"]:
        return ""

    most = np.argmax(list(card["class_counts"]["train"].values()))
    values = []
    for name in card.get("mean") or card["sets"][:1]:
        # the evaluation set's labels, class by class, and the same answer to each of them
        counts = list(card["class_counts"][name].values())
        labels = np.repeat(np.arange(len(counts)), counts)
        values.append(score(metric, labels, np.full_like(labels, most)))
    return f"the most frequent class gives {np.mean(values):.3f}"


def _cell(mean: Mean | None) -> str:
    if mean is None:
        return ""
    return f"{mean.mean:.3f} ± {mean.sd:.3f} ({mean.n})" if mean.sd is not None else f"{mean.mean:.3f} ({mean.n})"


def renew(readme: Path) -> None:
    """Write each study's page, and the results between the README's two marks."""
    for folder in sorted({*studies(), *(words.parent for words in EXPERIMENTS.glob("*/findings.md"))}):
        with atomic(folder / "README.md") as temporary:
            temporary.write_text(study_page(folder))

    if (EXPERIMENTS / SHIPPED / "table.csv").is_file():
        write_json(EXPERIMENTS / SHIPPED / "best.json", {"best": best_students(EXPERIMENTS / SHIPPED)})

    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    with atomic(readme) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n{results_block()}\n{END}{after}")
