"""Compute what plans read of a teacher's outputs for all training rows, once for all jobs of these plans."""

from __future__ import annotations

import time
from pathlib import Path

from espalier.config.job_specs import Storing, TeachSpec
from espalier.data.packed import FIXED_SEED
from espalier.models.files import open_student
from espalier.runtime.files import write_json
from espalier.runtime.process import exclusive
from espalier.training.run import accelerator_for, open_training_rows
from espalier.training.stored_outputs import CONTENTS, depth_of, digests_of, write_outputs
from espalier.training.storing import chosen


def run(spec: str, storing: str, *, teacher: list[Path], tokens: list[Path], work: Path, outputs: Path) -> None:
    """Write logits and what else is read, where that is worth its space, and a note that says where."""
    wanted, settings = TeachSpec.model_validate_json(spec), Storing.model_validate_json(storing)
    reads, precision = wanted.reads, wanted.precision or "fp32"
    accelerator = accelerator_for(wanted.machine)
    model = open_student(teacher, wanted.kind).requires_grad_(False).eval().to(accelerator.device)
    # every row once, whatever share a run takes of those without labels
    rows = open_training_rows(tokens, wanted.kind, 0.0, model.config.pad_token_id, FIXED_SEED)
    note = {"folder": work.as_posix(), "precision": wanted.precision, "digests": digests_of(teacher, tokens)}
    with exclusive(work):
        choice = chosen(model, rows, accelerator, work, settings, reads, precision)
        print(f"teacher's layers: {choice.why}", flush=True)
        for old in (work / CONTENTS, *work.glob("*.npy")):
            old.unlink(missing_ok=True)
        began = time.perf_counter()
        write_outputs(model, rows, accelerator, work, reads, choice.layers, precision)
        contents = {
            "reads": reads.name,
            "layers": choice.layers,
            "why": choice.why,
            "depth": depth_of(model),
            "precision": precision,
            "bytes": sum(path.stat().st_size for path in work.glob("*.npy")),
            "seconds": round(time.perf_counter() - began, 3),
            "digests": note["digests"],
        }
        write_json(work / CONTENTS, contents)
    write_json(outputs, note)
