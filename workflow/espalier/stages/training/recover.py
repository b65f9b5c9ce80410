"""Train a stage's student further at its fixed masks; the exported model comes from here."""

from __future__ import annotations

from pathlib import Path

from espalier.config.job_specs import CompressSpec
from espalier.models.files import open_student, write_model
from espalier.pruning.handover import gone
from espalier.pruning.masks import read_handed_on, read_masks
from espalier.training.run import Files, Run, method_class


def run(
    spec: str,
    *,
    teacher: list[Path],
    start: list[Path],
    task: Path,
    tokens: list[Path],
    outputs: list[Path],
    work: Path,
    config: Path,
    weights: Path,
    history: Path,
    record: Path,
) -> None:
    """Recover under the method's own loss and write the student, its history and its record."""
    wanted = CompressSpec.model_validate_json(spec)
    settings = wanted.plan.for_recovery()
    session = Run(__name__, wanted, settings, Files(task, tokens, work, [*teacher, *start], outputs=outputs))
    student = open_student(start, wanted.goal.kind)
    session.open_rows(student.config.pad_token_id)
    missing = gone(student, teacher, wanted.goal.kind, settings)
    method = method_class(settings.method)(settings, session.fixed_stage(settings.recover.epochs, missing))
    masks = read_masks(next(path for path in start if path.name == "masks.safetensors"))
    method.handed_on = read_handed_on(start)
    rounds = settings.recover.int8
    result = session.train(student, method, teacher=teacher, masks=masks, history=history, int8_last=rounds)
    write_model(student, config, weights)
    session.finish(record, result)
