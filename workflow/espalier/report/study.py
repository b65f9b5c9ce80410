"""Reading the files that the stages of a study wrote, for its report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from espalier.config.job_specs import ReportSpec
from espalier.config.project import TEACHER
from espalier.report.style import Look, looks
from espalier.results.comparisons import Comparison
from espalier.results.curves import Curves, read_curves
from espalier.results.findings import Findings, read_findings
from espalier.results.fractions import Fractions, read_fractions
from espalier.results.places import Place, files_by_place, is_recovery, place_of, read_fields
from espalier.results.quality import Quality
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
    tasks: dict[str, Any]
    groups: dict[tuple[str, str], list[Group]]
    """(base, task) → its plans and targets."""
    scoring: dict[tuple[str, str], tuple[str, str]]
    """(base, task) → set and metric that give the score."""
    curves: list[Curves]
    findings: list[Findings]
    fractions: list[Fractions]
    maps: list[StructureMap]
    look: dict[str, Look]
    """Plan → colour and marker."""
    qualities: list[Quality]
    """Scores, one item for each base and task."""
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
) -> Study:
    """Read the table and the files of every stage, as the report gets them; `settings` name methods and their columns."""
    rows = read_results(table)
    runs = _records(records)
    scored = {place: read_fields(path, ("score", "metric", "set", "sets")) for place, path in files_by_place(scores).items()}
    cards = [read_fields(path, ("name",)) for path in tasks]
    known = {card["name"]: card for card in cards}
    scoring = {(place.base, place.task): (content["set"], content["metric"]) for place, content in scored.items()}

    steps = {run["place"]: run["steps"] for run in runs if not run["recovery"]}
    columns = {plan: settings.columns.get(method, ()) for plan, method in settings.methods.items()}
    curves = read_curves(histories, steps, scoring, columns)
    findings = read_findings(analyses, curves, rows, scoring)
    grouped = dict(panels(groups(rows)))
    return Study(
        rows=rows,
        runs=runs,
        scored=scored,
        tasks=known,
        groups=grouped,
        scoring=scoring,
        curves=curves,
        findings=findings,
        fractions=read_fractions(findings, known),
        maps=read_maps(structures),
        look=looks(list(dict.fromkeys(rows["plan"]))),
        qualities=[_quality(place, inside, scoring[place][0], known) for place, inside in grouped.items()],
        compared=_comparisons(curves, scored),
    )


def _records(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """run.json contents in table order, with `place` and `recovery`."""
    runs = [read_fields(path, RUN_FIELDS) | {"place": place_of(path), "recovery": is_recovery(path)} for path in paths]
    return sorted(runs, key=lambda record: (record["place"].order, record["recovery"]))


def _quality(key: tuple[str, str], inside: list[Group], chosen: str, known_tasks: Mapping[str, Any]) -> Quality:
    base, task = key
    metric = inside[0].metric
    majority = majority_of(known_tasks.get(task, {}), chosen) if metric == "accuracy" else None
    return Quality(f"{base} on {task}", metric, inside, majority)


def majority_of(task: Mapping[str, Any], chosen: str) -> float | None:
    """Score of always answering the training rows' most frequent class, on a set; None where there are no classes."""
    return (task.get("majority") or {}).get(chosen)


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
