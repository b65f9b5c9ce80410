"""Run one stage of a path: from the student before, or the base or teacher, to the stage's target sparsity."""

from __future__ import annotations

from pathlib import Path

from espalier.config.job_specs import CompressSpec
from espalier.models.files import open_base, open_student, write_model
from espalier.pruning.aims import aim_of
from espalier.pruning.handover import gone, taken_over
from espalier.pruning.masks import read_masks, write_masks
from espalier.runtime.files import write_json
from espalier.training.run import Files, Run, method_class


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
    wanted = CompressSpec.model_validate_json(spec)
    settings, chosen = wanted.plan, method_class(wanted.plan.method)
    session = Run("compress", wanted, settings, Files(task, tokens, work, [*teacher, *start, *latency]))
    files, kind = {path.name: path for path in start}, wanted.goal.kind
    student = open_base(start, kind, session.task["classes"]) if wanted.new_head else open_student(start, kind)
    session.open_rows(student.config.pad_token_id)
    aim, before, path_begins = aim_of(wanted, teacher, latency), None, True
    if "masks.safetensors" in files:
        path_begins = wanted.new_head
        before = taken_over(read_masks(files["masks.safetensors"]), chosen.masks_over, student)
        aim = aim._replace(gone=gone(student, teacher, kind, settings))
    if before is None:
        aim = aim._replace(before=aim.gone)
    method = chosen(settings, session.pruning_stage(settings, path_begins, aim))
    student = method.cut(student, before)
    result = session.train(student, method, teacher=teacher, masks=before, history=history)
    write_model(method.shrink(student), config, weights)
    write_masks(masks, method.end())
    write_json(structure, {"target": aim.target, **method.structure()})
    session.finish(record, result)
