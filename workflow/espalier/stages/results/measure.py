"""Count a model's parameters and operations, and time it beside the dense teacher."""

from __future__ import annotations

from pathlib import Path

from espalier.config.job_specs import MeasureSpec
from espalier.config.kinds import Kind
from espalier.evaluation.cost import Candidate, cost_of
from espalier.models.files import open_student
from espalier.runtime.device import pick_device
from espalier.runtime.files import write_json


def run(spec: str, *, model: list[Path], dense: list[Path], cost: Path) -> None:
    """Write cost.json."""
    wanted = MeasureSpec.model_validate_json(spec)
    device = pick_device(wanted.machine.device)
    result = cost_of(_candidate(model, wanted.kind), _candidate(dense, wanted.kind), wanted.measure, device)
    write_json(cost, result)


def _candidate(files: list[Path], kind: Kind) -> Candidate:
    """The model in a compact folder, given its config.json, model.safetensors and onnx/model.onnx."""
    named = {file.name: file for file in files}
    model = open_student([named["config.json"], named["model.safetensors"]], kind)
    return Candidate(model, named["model.safetensors"], named["model.onnx"])
