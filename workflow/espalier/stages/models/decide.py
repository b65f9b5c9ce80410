"""Decide on held-out training rows what an exported model has to carry besides its weights, such as thresholds of labels."""

from __future__ import annotations

from pathlib import Path

from espalier.config.job_specs import EvaluateSpec, Machine
from espalier.data.packed import FIXED_SEED
from espalier.kinds.base import open_rows, task_kind
from espalier.models.files import open_student
from espalier.runtime.files import write_json
from espalier.training.run import accelerator_for


def run(spec: str, *, student: list[Path], tokens: Path, decisions: Path) -> None:
    """Write decisions.json: name → value, for the section `espalier` of the exported config.json.

    Args:
        spec: an `EvaluateSpec` as JSON.
        student: config.json and model.safetensors of the model that will be exported.
        tokens: evaluation rows, the held-out training rows among them.
        decisions: what is written.
    """
    wanted = EvaluateSpec.model_validate_json(spec)
    # in fp32, as the exported model is asked
    accelerator = accelerator_for(Machine(device=wanted.device, precision="fp32"))
    model = open_student(student, wanted.kind).to(accelerator.device)
    rows = open_rows(tokens, wanted.kind, model.config.pad_token_id, FIXED_SEED)
    write_json(decisions, task_kind(wanted.kind).decide(model, rows, accelerator))
