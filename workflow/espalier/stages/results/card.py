"""Write a model's card: what it is, what it was made from, its scores, sizes and speed, how to load it, its limits."""

from __future__ import annotations

from pathlib import Path

from espalier.config.reporting.specs import CardSpec
from espalier.report.card import Facts, render
from espalier.runtime.files import atomic, read_json


def run(
    spec: str,
    *,
    scores: Path,
    teacher: Path,
    cost: Path,
    records: list[Path],
    structure: list[Path],
    source: Path,
    task: Path,
    config: Path,
    deployment: list[Path],
    trimmed: list[Path],
    card: Path,
) -> None:
    """Write README.md of a model's folder.

    Args:
        spec: a `CardSpec` as JSON.
        scores, cost, teacher: scores.json and cost.json of the model, scores.json of its teacher.
        records: run.json of the teacher, of the stage and of its recovery, each once.
        structure: structure.json of a student; empty for a teacher.
        source, task, config: source.json of the base, task.json, config.json of the folder.
        deployment, trimmed: what `deploy` wrote of the model's formats, and trim.json; empty where there is none.
        card: where the card goes.
    """
    facts = Facts(
        scores=read_json(scores),
        teacher=read_json(teacher),
        cost=read_json(cost),
        records=[read_json(path) for path in records],
        structure=read_json(structure[0]) if structure else None,
        source=read_json(source),
        task=read_json(task),
        config=read_json(config),
        deployment=read_json(deployment[0]) if deployment else None,
        trimmed=read_json(trimmed[0]) if trimmed else None,
    )
    with atomic(card) as temporary:
        temporary.write_text(render(CardSpec.model_validate_json(spec), facts), encoding="utf-8")
