"""Fine-tune a ready-made small encoder on a task, under the teacher of another base; nothing is removed."""

from __future__ import annotations

from pathlib import Path

from espalier.config.job_specs import CompressSpec
from espalier.models.files import write_model
from espalier.runtime.files import write_json
from espalier.training.run import Files, Run


def run(
    spec: str,
    *,
    teacher: list[Path],
    teacher_tokens: list[Path],
    start: list[Path],
    task: Path,
    tokens: list[Path],
    work: Path,
    config: Path,
    weights: Path,
    structure: Path,
    history: Path,
    record: Path,
) -> None:
    """Train and write the student with its history and its record.

    Args:
        spec: a `CompressSpec` as JSON.
        teacher, teacher_tokens: the fine-tuned model of the base that is compressed, and the training rows as it reads them.
        start, tokens: the ready-made encoder, and the training and evaluation rows as it reads them.
        task, work: task.json, and the folder for what a resumed run needs.
        config, weights, structure, history, record: what is written.
    """
    wanted = CompressSpec.model_validate_json(spec)
    settings = wanted.plan
    session = Run(__name__, wanted, settings, Files(task, tokens, work, [*teacher, *start], teacher_tokens=teacher_tokens))
    student, method, result = session.fine_tune(settings, start, teacher=teacher, history=history)

    write_model(student, config, weights)
    write_json(structure, {"target": wanted.target, **method.structure()})
    session.finish(record, result)
