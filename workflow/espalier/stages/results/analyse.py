"""Analyse a student beside its teacher: its representations, the errors of its layers, its weights."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from espalier.analyses.of_students import FINDERS, ROWS, Subject
from espalier.config.job_specs import AnalyseSpec
from espalier.data.batches import TokenisedRows
from espalier.data.packed import FIXED_SEED
from espalier.kinds.base import open_rows
from espalier.models.files import open_student
from espalier.runtime.files import read_json, write_json
from espalier.training.run import accelerator_for


def run(spec: str, *, student: list[Path], teacher: list[Path], task: Path, tokens: Path, analysis: Path) -> None:
    """Write analysis.json: what was asked for, by name, and the number of rows it was found on."""
    wanted = AnalyseSpec.model_validate_json(spec)
    accelerator = accelerator_for(wanted.machine)
    models = [open_student(files, wanted.kind).eval().to(accelerator.device) for files in (student, teacher)]
    # the configuration allows analyses only of tasks whose rows have one label each
    whole = cast(TokenisedRows, open_rows(tokens, wanted.kind, models[0].config.pad_token_id, FIXED_SEED))
    rows = whole.of_set(read_json(task)["sets"][0]).sample(ROWS, "evaluation")
    subject = Subject(models[0], models[1], rows, wanted, accelerator)
    write_json(analysis, {"rows": len(rows), **{name: FINDERS[name](subject) for name in wanted.analyses}})
