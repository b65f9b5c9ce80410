"""The report page: from a study's tables and figures to one HTML text, and how numbers are written in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from espalier.config.job_specs import ReportSpec
from espalier.config.pictures import ScoreCurve
from espalier.config.project import TEACHER
from espalier.report.ablation_figures import arms_figures, score_curve_figures
from espalier.report.analysis_figures import (
    Picture,
    error_pictures,
    findings_key,
    fraction_pictures,
    gap_pictures,
    recovery_pictures,
    value_pictures,
)
from espalier.report.quality_figures import quality_figures, quality_key
from espalier.report.structure_figures import map_figure
from espalier.report.study import Study, majority_of
from espalier.report.style import Look, variables
from espalier.report.training_figures import comparison_figures, comparison_key, panel_figures
from espalier.results.curves import Curves
from espalier.results.findings import Findings
from espalier.results.places import Place
from espalier.results.quality import Quality
from espalier.results.structures import StructureMap
from espalier.results.summary import Group, Mean, goal, over_tasks, panels, selections, speeds
from espalier.results.table import BATCHES, RUNTIMES

DIGEST_SHOWN = 10
"""Characters of a digest that are printed; the whole one is in the title attribute."""


def environment() -> jinja2.Environment:
    """Templates that escape every text, and what numbers look like in them."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("espalier.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"mean": _mean, "short": _short, "duration": _duration, "percent": _percent, "count": _count, "goal": goal}
    return found


def _mean(mean: Mean | None, decimals: int = 3, sign: bool = False) -> str:
    """`0.874 ± 0.003`; without spread for one seed; a dash for nothing."""
    if mean is None:
        return "–"
    value = f"{mean.mean:{'+' if sign else ''},.{decimals}f}".replace("-", "−")
    return value if mean.sd is None else f"{value} ± {mean.sd:,.{decimals}f}"


def _short(digest: object) -> str:
    return str(digest)[:DIGEST_SHOWN]


def _duration(seconds: float | int) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _percent(fraction: float | int) -> str:
    return f"{100 * fraction:.1f}".removesuffix(".0") + " %"


def _count(number: float | int) -> str:
    return f"{number:,.0f}"


def report_page(settings: ReportSpec, study: Study, timed: Any) -> str:
    """The whole page as one HTML text."""
    look, qualities, compared = study.look, study.qualities, study.compared
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            project=settings.project,
            qualities=[_scored(each, look, settings.score_curves) for each in qualities],
            key=_marked(quality_key(qualities, look)),
            has_majority=any(each.majority is not None for each in qualities),
            maps=[_map(each, look) for each in study.maps],
            compared=[(each.title, [Markup(picture) for picture in comparison_figures(each, look)]) for each in compared],
            compared_key=_marked(comparison_key(compared, look)),
            findings=[_found(each, look) for each in study.findings],
            fractions=[(each.title, _drawn(fraction_pictures(each, look))) for each in study.fractions],
            findings_key=_marked(findings_key(study.findings, look)),
            curves=[_pictures(each, look) for each in study.curves],
            turns=_turns(settings),
            conditions=timed,
            light=variables(dark=False),
            dark=variables(dark=True),
            **_words(study),
        )
    )


def _turns(settings: ReportSpec) -> list[str]:
    """What the methods of the study say of the steps that pictures of overfitting mark."""
    return list(dict.fromkeys(column.turn for columns in settings.columns.values() for column in columns if column.turn))


def _marked(entries: Iterable[tuple[str, str]]) -> list[tuple[Markup, str]]:
    """Pictures and names of a legend."""
    return [(Markup(picture), name) for picture, name in entries]


def _words(study: Study) -> dict[str, Any]:
    """What the page says in text and tables."""
    rows, runs = study.rows, study.runs
    return {
        "overview": _overview(rows),
        "summaries": [_summary(place, inside, study.scored, study.tasks) for place, inside in study.groups.items()],
        "averages": [(*place, inside) for place, inside in panels(over_tasks(rows))],
        "speeds": speeds(rows),
        "batches": BATCHES,
        "runtimes": _runtimes(rows),
        "sets": _sets(study.scored),
        "selections": selections(runs, {place: chosen for place, (chosen, _) in study.goals.items()}),
        "heads": _heads(runs),
        "environments": _environments(runs),
        "runs": runs,
        "train_seconds": sum(run["train_seconds"] for run in runs),
    }


def _runtimes(rows: pd.DataFrame) -> dict[str, str]:
    """The runtimes in which something was timed, each with what its columns begin with."""
    measured = set(rows.columns[rows.notna().any()])
    columns = {name: {f"{prefix}latency_b{size}_ms" for size in BATCHES} for name, prefix in RUNTIMES.items()}
    return {name: RUNTIMES[name] for name in RUNTIMES if columns[name] & measured}


def _scored(quality: Quality, look: dict[str, Look], score_curves: list[ScoreCurve]) -> dict[str, Any]:
    """The scores of one base and task: against what changes, plans one below the other, and what methods declare."""
    # Curves with the same note stand together below it.
    declared: dict[str, list[Markup]] = {}
    for curve in score_curves:
        pictures = [Markup(picture) for picture in score_curve_figures(quality, curve)]
        if pictures:
            declared.setdefault(curve.note, []).extend(pictures)

    return {
        "title": quality.title,
        "pictures": [Markup(picture) for picture in quality_figures(quality, look)],
        "arms": [Markup(picture) for picture in arms_figures(quality, look)],
        "declared": declared,
    }


def _pictures(curves: Curves, look: dict[str, Look]) -> dict[str, Any]:
    """The training panels of one plan, under the heading they belong to."""
    pictures = [Markup(figure) for figure in panel_figures(curves, look)]
    return {"place": f"{curves.base} on {curves.task}", "curves": curves, "pictures": pictures}


def _found(found: Findings, look: dict[str, Look]) -> dict[str, Any]:
    """What analyses found of one base and task, with its pictures."""
    kinds = {"numbers": value_pictures, "errors": error_pictures, "recoveries": recovery_pictures, "gaps": gap_pictures}
    return {"found": found, **{name: _drawn(kind(found, look)) for name, kind in kinds.items()}}


def _drawn(pictures: Iterable[Picture]) -> list[Markup]:
    return [Markup(picture.inline()) for picture in pictures]


def _map(shown: StructureMap, look: dict[str, Look]) -> dict[str, Any]:
    """The structure map of one plan, under the heading it belongs to."""
    return {"place": f"{shown.base} on {shown.task}", "map": shown, "picture": Markup(map_figure(shown, look))}


def _summary(
    key: tuple[str, str], inside: list[Group], scored: Mapping[Place, Any], known_tasks: Mapping[str, Any]
) -> dict[str, Any]:
    """The headline table of one base and task."""
    task = known_tasks.get(key[1], {})
    content = next(content for place, content in scored.items() if (place.base, place.task) == key)
    return {
        "base": key[0],
        "task": key[1],
        "metric": content["metric"],
        "set": content["set"],
        "rows": content["sets"].get(content["set"], {}).get("rows"),
        "majority": majority_of(task, content["set"]),
        "leaked": sum(task.get("leaked", {}).values()),
        "groups": inside,
    }


def _overview(rows: pd.DataFrame) -> dict[str, list[Any]]:
    """What the project holds, in the order of the table."""
    plans = rows[rows["plan"] != TEACHER]
    return {
        "bases": list(dict.fromkeys(rows["base"])),
        "tasks": list(dict.fromkeys(rows["task"])),
        "plans": list(dict.fromkeys(plans["plan"])),
        "seeds": sorted({int(seed) for seed in rows["seed"]}),
    }


def _sets(scored: Mapping[Place, Any]) -> list[dict[str, Any]]:
    """Every metric on every evaluation set, as means over seeds."""
    flat = [
        {"base": place.base, "task": place.task, "plan": place.plan, "percent": place.percent, "set": name, "metric": metric}
        | {"value": value, "rows": values.get("rows")}
        for place, content in scored.items()
        for name, values in content["sets"].items()
        for metric, value in values.items()
        if metric != "rows"
    ]
    if not flat:
        return []
    keys = ["base", "task", "plan", "percent", "set", "metric"]
    grouped = pd.DataFrame(flat).groupby(keys, sort=False)
    return [
        dict(zip(keys, key, strict=True)) | {"mean": Mean.of(pd.to_numeric(inside["value"])), "rows": inside["rows"].iloc[0]}
        for key, inside in grouped
    ]


def _heads(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How the teachers of text tasks came by their heads: places that have the same to tell, together."""
    found: dict[tuple[str, str], list[str]] = {}
    for record in runs:
        if "head" in record:
            place = f"{record['place'].base} on {record['place'].task}"
            found.setdefault((record["head"], record["trained"]), []).append(place)
    return [
        {"head": head, "trained": trained, "places": list(dict.fromkeys(places))} for (head, trained), places in found.items()
    ]


def _environments(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Distinct machines and versions, with the number of runs in each."""
    found: dict[str, dict[str, Any]] = {}
    for record in runs:
        machine = {name: record.get(name) for name in ("device", "precision", "threads", "git_commit", "versions")}
        entry = found.setdefault(json.dumps(machine, sort_keys=True), machine | {"runs": 0})
        entry["runs"] += 1
    return list(found.values())
