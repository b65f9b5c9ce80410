"""Train a stage's student further at its fixed masks; the exported model comes from here."""

from __future__ import annotations

import json
from pathlib import Path

from espalier.config.specs import CompressSpec
from espalier.core.masks import read_masks
from espalier.core.models import open_student, write_model
from espalier.core.training import Files, Run, method_class


def run(
    spec: str,
    *,
    teacher: list[Path],
    start: list[Path],
    task: Path,
    tokens: list[Path],
    work: Path,
    config: Path,
    weights: Path,
    history: Path,
    record: Path,
) -> None:
    """Recover under the method's own loss and write the student, its history and its record."""
    wanted = CompressSpec.model_validate_json(spec)
    kind = method_class(wanted.method)
    settings = kind.settings_class.model_validate_json(json.dumps(wanted.plan | {"path": [wanted.target]}))
    session = Run(
        stage_name="recover",
        spec=wanted,
        seed=wanted.seed,
        goal=wanted.goal,
        machine=wanted.machine,
        progress=wanted.progress,
        settings=settings,
        files=Files(task, tokens, work, [*teacher, *start]),
    )
    student = open_student(start, wanted.goal.kind)
    session.open_rows(student.config.pad_token_id)
    method = kind(settings, session.fixed_stage(settings.recover.epochs, wanted.target))
    masks = read_masks(next(path for path in start if path.name == "masks.safetensors"))
    rate = settings.recover.learning_rate
    result = session.train(student, method, teacher=teacher, masks=masks, learning_rate=rate, history=history)
    write_model(student, config, weights)
    session.finish(record, result)
