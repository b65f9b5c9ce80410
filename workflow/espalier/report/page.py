"""The report page: from a study's tables and figures to one HTML text, and how numbers are written in it."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from espalier.config.kinds import KIND_RULES
from espalier.config.pictures import ScoreCurve
from espalier.config.project import LINEAR, TEACHER
from espalier.config.reporting.specs import ReportSpec
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
from espalier.report.answer import answer_parts, fraction, majorities, number, signed, timed, times
from espalier.report.quality_figures import quality_figures, quality_key
from espalier.report.set_figures import set_figure
from espalier.report.structure_figures import map_figure
from espalier.report.study import Study
from espalier.report.style import Look, variables
from espalier.report.training_figures import comparison_figures, comparison_key, panel_figures
from espalier.results.comparisons import Comparison
from espalier.results.curves import Curves
from espalier.results.findings import Findings
from espalier.results.places import Place
from espalier.results.quality import Quality, majority_of
from espalier.results.rivals import rival_sentences
from espalier.results.structures import StructureMap
from espalier.results.summary import Group, Mean, over_tasks, panels, selections, size_text, speeds, target_label
from espalier.results.table import BATCHES, RUNTIMES

DIGEST_SHOWN = 10
"""Characters of a digest that are printed; the whole one is in the title attribute."""


def environment() -> jinja2.Environment:
    """The environment of the report's templates: every text is escaped, and filters write numbers."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("espalier.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "mean": _mean,
        "short": _short,
        "duration": _duration,
        "percent": _percent,
        "count": _count,
        "goal": target_label,
        "mib": size_text,
        "signed": signed,
        "number": number,
        "times": times,
        "fraction": fraction,
        "timed": timed,
    }
    return templates


def _mean(mean: Mean | None, decimals: int = 3, sign: bool = False) -> str:
    """`0.874 ± 0.003`; without a spread for one seed; a dash where there is no mean."""
    if mean is None:
        return "–"

    value = f"{mean.mean:{'+' if sign else ''},.{decimals}f}".replace("-", "−")
    return value if mean.sd is None else f"{value} ± {mean.sd:,.{decimals}f}"


def _short(digest: object) -> str:
    return str(digest)[:DIGEST_SHOWN]


def _duration(seconds: float | int) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)

    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _percent(fraction: float | int) -> str:
    return f"{100 * fraction:.1f}".removesuffix(".0") + " %"


def _count(number: float | int) -> str:
    return f"{number:,.0f}"


def report_page(settings: ReportSpec, study: Study, conditions: Any) -> str:
    """The whole page as one HTML text."""
    look, qualities, compared = study.look, study.qualities, study.compared
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            project=settings.project,
            qualities=[_scored(quality, look, settings.score_curves) for quality in qualities],
            key=_marked(quality_key(qualities, look)),
            by_set=[(shown, Markup(set_figure(shown, look))) for shown in study.by_set],
            has_majority=any(quality.majority is not None for quality in qualities),
            maps=[_map(shown, look) for shown in study.maps],
            missed=study.missed,
            compared=[_comparison(shown, look) for shown in compared],
            compared_key=_marked(comparison_key(compared, look)),
            findings=[_finding(findings, look) for findings in study.findings],
            fractions=[(part.title, _drawn(fraction_pictures(part, look))) for part in study.fractions],
            findings_key=_marked(findings_key(study.findings, look)),
            curves=[_pictures(curves, look) for curves in study.curves],
            turns=_turns(settings),
            conditions=conditions,
            script=_script(),
            light=variables(dark=False),
            dark=variables(dark=True),
            **_answers(settings, study),
            **_words(study),
        )
    )


def _script() -> dict[str, Markup]:
    """The page's script, and the digest by which the page's policy lets it run, and no other one."""
    text = files("espalier.report").joinpath("templates/page.js").read_text(encoding="utf-8")
    return {"text": Markup(text), "digest": Markup(f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}")}


def _answers(settings: ReportSpec, study: Study) -> dict[str, Any]:
    """Variables of the template that become the first section: which model to take."""
    shares = majorities(study.answers, study.tasks)
    return {
        "answers": [answer_parts(answer, study.look, share) for answer, share in zip(study.answers, shares, strict=True)],
        "own_rows": all(answer.timing is None or answer.timing.length == "rows" for answer in study.answers),
        "max_drop": settings.max_drop,
    }


def _turns(settings: ReportSpec) -> list[str]:
    """What the methods of the study say of the steps that pictures of overfitting mark."""
    return list(dict.fromkeys(column.turn for columns in settings.columns.values() for column in columns if column.turn))


def _marked(entries: Iterable[tuple[str, str]]) -> list[tuple[Markup, str]]:
    """Pictures and names of a legend."""
    return [(Markup(picture), name) for picture, name in entries]


def _words(study: Study) -> dict[str, Any]:
    """Variables of the template that become text and tables."""
    rows, runs = study.rows, study.runs
    return {
        "overview": _overview(rows),
        "summaries": [_summary(place, inside, study.scored, study.tasks) for place, inside in study.groups.items()],
        "averages": [(*place, inside) for place, inside in panels(over_tasks(rows))],
        "speeds": speeds(rows),
        "batches": BATCHES,
        "runtimes": _runtimes(rows),
        "sets": _sets(study),
        "selections": selections(runs, {place: chosen for place, (chosen, _) in study.scoring.items()}),
        "heads": _heads(runs),
        "environments": _environments(runs),
        "runs": runs,
        "train_seconds": sum(run["train_seconds"] for run in runs),
    }


def _runtimes(rows: pd.DataFrame) -> dict[str, str]:
    """The runtimes in which something was timed, each with the prefix of its columns."""
    measured = set(rows.columns[rows.notna().any()])
    timed = {}
    for name, prefix in RUNTIMES.items():
        if any(f"{prefix}latency_b{size}_ms" in measured for size in BATCHES):
            timed[name] = prefix
    return timed


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
    """The training panels of one plan, and the heading that they stand under."""
    pictures = [Markup(figure) for figure in panel_figures(curves, look)]
    return {"place": f"{curves.base} on {curves.task}", "curves": curves, "pictures": pictures}


def _finding(findings: Findings, look: dict[str, Look]) -> dict[str, Any]:
    """The findings of one base and task, with their pictures."""
    kinds = {"numbers": value_pictures, "errors": error_pictures, "recoveries": recovery_pictures, "gaps": gap_pictures}
    return {"found": findings, **{name: _drawn(kind(findings, look)) for name, kind in kinds.items()}}


def _comparison(shown: Comparison, look: dict[str, Look]) -> tuple[str, list[Markup]]:
    """Title and pictures of one base and text task, all plans together."""
    return shown.title, [Markup(picture) for picture in comparison_figures(shown, look)]


def _drawn(pictures: Iterable[Picture]) -> list[Markup]:
    return [Markup(picture.inline()) for picture in pictures]


def _map(shown: StructureMap, look: dict[str, Look]) -> dict[str, Any]:
    """The structure map of one plan, and the heading that it stands under."""
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
        "rivals": [*rival_sentences(inside), *_no_linear(task)],
        "groups": inside,
        "size": "total" if any(group.means.get("total_mib") for group in inside) else "size",
    }


def _no_linear(task: Mapping[str, Any]) -> list[str]:
    """Why no linear model stands beside the students of a task, where its kind allows none."""
    reason = KIND_RULES[task["kind"]].no_linear if "kind" in task else ""
    return [f"There is no linear model to compare with: {reason}."] if reason else []


def _overview(rows: pd.DataFrame) -> dict[str, list[Any]]:
    """Bases, tasks, plans and seeds of the project, in the order of the table."""
    plans = rows[~rows["plan"].isin((TEACHER, LINEAR))]
    return {
        "bases": list(dict.fromkeys(rows["base"])),
        "tasks": list(dict.fromkeys(rows["task"])),
        "plans": list(dict.fromkeys(plans["plan"])),
        "seeds": sorted({int(seed) for seed in rows["seed"]}),
    }


def _sets(study: Study) -> list[dict[str, Any]]:
    """Every metric on every evaluation set, as means over seeds; of linear models behind the teachers of their task."""
    keys = ["base", "task", "plan", "percent", "set", "metric"]
    lines = []
    rows_of: dict[tuple[str, str], Any] = {}
    for place, content in study.scored.items():
        lines += _set_lines((place.base, place.task, place.plan, place.percent), content["sets"])
        rows_of |= {(place.task, name): numbers.get("rows") for name, numbers in content["sets"].items()}

    # a linear model answers the rows that encoders answer
    for base, task in study.groups:
        sets = {name: {"rows": rows_of.get((task, name))} | scores for name, scores in study.linear.get(task, {}).items()}
        lines += _set_lines((base, task, LINEAR, "0"), sets)

    means = []
    for key, inside in pd.DataFrame(lines, columns=[*keys, "value", "rows"]).groupby(keys, sort=False):
        entry = dict(zip(keys, key, strict=True))
        means.append(entry | {"mean": Mean.of(pd.to_numeric(inside["value"])), "rows": inside["rows"].iloc[0]})
    return sorted(means, key=lambda entry: (entry["base"], entry["task"], entry["plan"] not in (TEACHER, LINEAR)))


def _set_lines(own: tuple[str, ...], sets: Mapping[str, Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """A line for each set and metric: what the scores belong to, set, metric, value, rows of the set."""
    lines: list[tuple[Any, ...]] = []
    for name, numbers in sets.items():
        lines += [(*own, name, metric, value, numbers.get("rows")) for metric, value in numbers.items() if metric != "rows"]
    return lines


def _heads(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where the heads of text tasks' teachers come from; places with the same answer stand together."""
    places_of: dict[tuple[str, str], list[str]] = {}
    for record in runs:
        if "head" in record:
            place = f"{record['place'].base} on {record['place'].task}"
            places_of.setdefault((record["head"], record["trained"]), []).append(place)

    return [
        {"head": head, "trained": trained, "places": list(dict.fromkeys(places))}
        for (head, trained), places in places_of.items()
    ]


def _environments(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Distinct machines and versions, with the number of runs in each."""
    entries: dict[str, dict[str, Any]] = {}
    for record in runs:
        machine = {name: record.get(name) for name in ("device", "precision", "threads", "git_commit", "versions")}
        entry = entries.setdefault(json.dumps(machine, sort_keys=True), machine | {"runs": 0})
        entry["runs"] += 1
    return list(entries.values())
