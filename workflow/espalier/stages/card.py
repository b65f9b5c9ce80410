"""Write a model's card: what it is, what it was made from, its scores, sizes and speed, how to load it, its limits."""

from __future__ import annotations

from pathlib import Path

from espalier.config.job_specs import CardSpec
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
    card: Path,
) -> None:
    """Write README.md of a compact folder.

    Args:
        spec: a `CardSpec` as JSON.
        scores: scores.json of the model.
        teacher: scores.json of its teacher.
        cost: cost.json of the model.
        records: run.json of the teacher, of the stage and of its recovery, each once.
        structure: structure.json of a student; empty for a teacher.
        source: source.json of the base.
        task: task.json.
        config: config.json of the compact model.
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
    )
    with atomic(card) as temporary:
        temporary.write_text(render(CardSpec.model_validate_json(spec), facts), encoding="utf-8")
