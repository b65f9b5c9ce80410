"""Reading the files that the stages of a study wrote, for its report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from espalier.config.project import LINEAR, READY_MADE, TEACHER
from espalier.config.reporting.specs import ReportSpec
from espalier.report.style import Look, looks
from espalier.results.answers import Answer, answers
from espalier.results.by_set import BySet, read_by_set
from espalier.results.comparisons import Comparison
from espalier.results.curves import Curves, read_curves
from espalier.results.findings import Findings, read_findings
from espalier.results.formats import LINEAR_FORMAT, read_formats
from espalier.results.fractions import Fractions, read_fractions
from espalier.results.landings import read_missed
from espalier.results.places import Place, files_by_place, is_recovery, place_of, read_fields
from espalier.results.quality import Quality, majority_of
from espalier.results.structures import StructureMap, read_maps
from espalier.results.summary import Group, groups, panels
from espalier.results.table import read_results

RUN_FIELDS = (
    *("stage", "seed", "spec_sha256", "code_sha256", "inputs", "versions", "device", "precision", "threads", "steps"),
    *("train_seconds", "samples_per_second", "resumed_at", "selected", "git_commit", "finished"),
)
"""Keys of run.json that the page shows."""


class Study(NamedTuple):
    """Table, records, scores, and what follows from them."""

    rows: pd.DataFrame
    runs: list[dict[str, Any]]
    scored: dict[Place, Any]
    linear: dict[str, Any]
    """Task → evaluation set → metric → score of its linear model."""
    answers: list[Answer]
    """Which model to take, one item for each task; empty where models were not served in formats."""
    tasks: dict[str, Any]
    groups: dict[tuple[str, str], list[Group]]
    """(base, task) → its plans and targets."""
    scoring: dict[tuple[str, str], tuple[str, str]]
    """(base, task) → set and metric that give the score."""
    curves: list[Curves]
    findings: list[Findings]
    fractions: list[Fractions]
    maps: list[StructureMap]
    missed: dict[Place, str]
    """Student → how far its gates were from the target, where they missed it."""
    look: dict[str, Look]
    """Plan → colour and marker."""
    qualities: list[Quality]
    """Scores, one item for each base and task."""
    by_set: list[BySet]
    """Scores set by set, one item for each base and task whose score is a mean over sets."""
    compared: list[Comparison]
    """Training curves of all plans, one item for each base and text task."""


def read_study(
    settings: ReportSpec,
    table: Path,
    histories: list[Path],
    records: list[Path],
    scores: list[Path],
    structures: list[Path],
    analyses: list[Path],
    tasks: list[Path],
    linear: list[Path],
    formats: list[Path],
) -> Study:
    """Read the tables and the files of every stage, as the report gets them; `settings` name methods and their columns."""
    served, runs = [read_formats(path) for path in formats], _records(records)
    rows = _with_total(read_results(table), served)
    scored = {place: read_fields(path, ("score", "metric", "set", "sets")) for place, path in files_by_place(scores).items()}
    known = {card["name"]: card for card in (read_fields(path, ("name",)) for path in tasks)}
    scoring = {(place.base, place.task): (content["set"], content["metric"]) for place, content in scored.items()}
    curves = read_curves(histories, _steps(runs), scoring, _columns(settings))
    findings = read_findings(analyses, curves, rows, scoring)
    grouped = dict(panels(groups(rows)))
    return Study(
        rows=rows,
        runs=runs,
        scored=scored,
        linear=_linear_sets(linear),
        answers=_answers(settings, served),
        tasks=known,
        groups=grouped,
        scoring=scoring,
        curves=curves,
        findings=findings,
        fractions=read_fractions(findings, known),
        maps=read_maps(structures),
        missed=read_missed(structures),
        look=_looks(rows),
        qualities=[_quality(place, inside, scoring[place][0], known) for place, inside in grouped.items()],
        by_set=read_by_set(scored, _linear_sets(linear), known),
        compared=_comparisons(curves, scored),
    )


def _linear_sets(paths: Iterable[Path]) -> dict[str, Any]:
    """Task → evaluation set → metric → score of its linear model."""
    return {path.parent.name: read_fields(path, ("sets",))["sets"] for path in paths}


def _steps(runs: list[dict[str, Any]]) -> dict[Place, int]:
    """Steps of every stage, recoveries left out."""
    return {run["place"]: run["steps"] for run in runs if not run["recovery"]}


def _columns(settings: ReportSpec) -> dict[str, Any]:
    """Plan → the columns that its method logs."""
    return {plan: settings.columns.get(method, ()) for plan, method in settings.methods.items()}


def _looks(rows: pd.DataFrame) -> dict[str, Look]:
    """The linear model comes last, so that plans have the same colours with and without it."""
    return looks(sorted(dict.fromkeys(rows["plan"]), key=lambda plan: plan == LINEAR))


def _answers(settings: ReportSpec, served: list[pd.DataFrame]) -> list[Answer]:
    ready_made = [plan for plan, method in settings.methods.items() if method == READY_MADE]
    return [answer for every in served for answer in answers(every, settings.max_drop, ready_made)]


def _with_total(rows: pd.DataFrame, served: list[pd.DataFrame]) -> pd.DataFrame:
    """table.csv with a column `total_mib`: all files that serve the model in PyTorch, where deploy.csv tells it."""
    keys = ["base", "task", "plan", "seed", "stage"]
    for every in served:
        plain = (every["format"] == "torch") & (every["folder"] == "compact") | (every["format"] == LINEAR_FORMAT)
        sizes = every[plain].rename(columns={"percent": "stage"})[[*keys, "total_mib"]]
        rows = rows.merge(sizes, on=keys, how="left")
    return rows


def _records(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """run.json contents in table order, with `place` and `recovery`."""
    runs = [read_fields(path, RUN_FIELDS) | {"place": place_of(path), "recovery": is_recovery(path)} for path in paths]
    return sorted(runs, key=lambda record: (record["place"].order, record["recovery"]))


def _quality(key: tuple[str, str], inside: list[Group], chosen: str, known_tasks: Mapping[str, Any]) -> Quality:
    base, task = key
    metric = inside[0].metric
    majority = majority_of(known_tasks.get(task, {}), chosen) if metric == "accuracy" else None
    return Quality(f"{base} on {task}", metric, inside, majority)


def _comparisons(curves: list[Curves], scored: Mapping[Place, Any]) -> list[Comparison]:
    """The plans of each base and text task, with the teacher's loss on the rows that give the score."""
    comparisons = []
    for base, task in dict.fromkeys((plan.base, plan.task) for plan in curves if plan.compared):
        losses = []
        for place, content in scored.items():
            if (place.base, place.task, place.plan) == (base, task, TEACHER):
                losses.append(content["sets"][content["set"]]["loss"])

        inside = [plan for plan in curves if (plan.base, plan.task) == (base, task) and plan.compared]
        teacher_loss = float(pd.Series(losses, dtype=float).mean()) if losses else None
        comparisons.append(Comparison(base, task, inside, teacher_loss))
    return comparisons
