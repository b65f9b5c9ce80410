"""Run one stage of a path: from the student before, or the base or teacher, to the stage's target sparsity."""

from __future__ import annotations

from pathlib import Path

from espalier.core.aims import aim_of
from espalier.core.masks import read_masks, write_masks
from espalier.core.models import open_base, open_student, write_model
from espalier.core.runtime import write_json
from espalier.core.training import Files, Run, read_plan


def run(
    spec: str,
    *,
    teacher: list[Path],
    start: list[Path],
    task: Path,
    tokens: list[Path],
    latency: list[Path],
    work: Path,
    config: Path,
    weights: Path,
    masks: Path,
    structure: Path,
    history: Path,
    record: Path,
) -> None:
    """Compress and write the student with its masks, what it kept, its history and its record."""
    wanted, kind, settings = read_plan(spec)
    session = Run("compress", wanted, settings, Files(task, tokens, work, [*teacher, *start, *latency]))
    files = {path.name: path for path in start}
    first = "masks.safetensors" not in files
    fresh = first and settings.start == "pretrained"
    student = open_base(start, wanted.goal.kind, session.task["classes"]) if fresh else open_student(start, wanted.goal.kind)
    session.open_rows(student.config.pad_token_id)
    aim = aim_of(wanted, teacher, latency)
    method = kind(settings, session.pruning_stage(settings, first, aim))
    before = None if first else read_masks(files["masks.safetensors"])
    student = method.cut(student, before)
    result = session.train(student, method, teacher=teacher, masks=before, history=history)
    write_model(method.shrink(student), config, weights)
    write_masks(masks, method.end())
    write_json(structure, {"target": aim.target, **method.structure()})
    session.finish(record, result)
