"""Fine-tune a task-agnostic student on a task, as if it were a pre-trained encoder; what it kept stays as it is."""

from __future__ import annotations

import shutil
from pathlib import Path

from espalier.config.job_specs import CompressSpec
from espalier.models.files import open_base, write_model
from espalier.runtime.files import atomic
from espalier.training.run import Files, Run, method_class


def run(
    spec: str,
    *,
    teacher: list[Path],
    start: list[Path],
    kept: Path,
    task: Path,
    tokens: list[Path],
    work: Path,
    config: Path,
    weights: Path,
    masks: Path,
    structure: Path,
    history: Path,
    record: Path,
) -> None:
    """Train and write the student with its history and record; masks and structure are those of the student before."""
    wanted = CompressSpec.model_validate_json(spec)
    settings = wanted.plan
    session = Run("specialise", wanted, settings, Files(task, tokens, work, [*teacher, *start, kept]))
    student = open_base(start, wanted.goal.kind, session.task["classes"])
    session.open_rows(student.config.pad_token_id)
    stage = session.fixed_stage(sum(settings.parts(first_stage=True)))
    method = method_class(settings.method)(settings, stage)
    result = session.train(student, method, teacher=teacher, history=history)
    write_model(student, config, weights)
    files = {path.name: path for path in start}
    for source, target in ((files["masks.safetensors"], masks), (kept, structure)):
        with atomic(target) as temporary:
            shutil.copyfile(source, temporary)
    session.finish(record, result)
