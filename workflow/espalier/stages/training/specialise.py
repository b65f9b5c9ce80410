"""Fine-tune a task-agnostic student on a task, as if it were a pre-trained encoder; what it kept stays as it is."""

from __future__ import annotations

from pathlib import Path

from espalier.config.job_specs import CompressSpec
from espalier.models.files import write_model
from espalier.runtime.files import copy_file
from espalier.training.run import Files, Run


def run(
    spec: str,
    *,
    teacher: list[Path],
    start: list[Path],
    kept: Path,
    task: Path,
    tokens: list[Path],
    outputs: list[Path],
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
    session = Run(__name__, wanted, settings, Files(task, tokens, work, [*teacher, *start, kept], outputs=outputs))
    student, _, result = session.fine_tune(settings, start, teacher=teacher, history=history)
    write_model(student, config, weights)
    files = {path.name: path for path in start}
    for source, target in ((files["masks.safetensors"], masks), (kept, structure)):
        copy_file(source, target)
    session.finish(record, result)
