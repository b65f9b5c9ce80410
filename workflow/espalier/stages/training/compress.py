"""Run one stage of a path: from the student before, or the base or teacher, to the stage's target sparsity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from espalier.config.job_specs import CompressSpec
from espalier.models.files import open_base, open_student, write_model
from espalier.pruning.aims import aim_of
from espalier.pruning.handover import gone, taken_over
from espalier.pruning.masks import read_handed_on, read_masks, write_masks
from espalier.results.landings import missed_target
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
    outputs: list[Path],
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
    session = Run(__name__, wanted, settings, Files(task, tokens, work, [*teacher, *start, *latency], outputs=outputs))
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
    method.handed_on = read_handed_on(start)
    student = method.cut(student, before)
    result = session.train(student, method, teacher=teacher, masks=before, history=history)
    result |= session.refit(small := method.shrink(student), method, teacher)
    write_model(small, config, weights)
    write_masks(masks, method.end(), method.hand_on())
    _write_structure(structure, {"target": aim.target, **method.structure()})
    session.finish(record, result)


def _write_structure(path: Path, content: dict[str, Any]) -> None:
    """Write structure.json, and warn where landing did what training had not."""
    write_json(path, content)
    if said := missed_target(content):
        print(f"warning: {said}", flush=True)
