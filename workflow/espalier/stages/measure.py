"""Count a model's parameters and operations, and time it beside the dense teacher."""

from __future__ import annotations

from pathlib import Path

from espalier.config.specs import MeasureSpec
from espalier.core.cost import cost_of
from espalier.core.device import pick_device
from espalier.core.models import open_student
from espalier.core.runtime import write_json


def run(spec: str, *, model: list[Path], dense: list[Path], cost: Path) -> None:
    """Write cost.json."""
    wanted = MeasureSpec.model_validate_json(spec)
    weights = next(path for path in model if path.suffix == ".safetensors")
    settings = wanted.measure
    result = cost_of(
        open_student(model, wanted.kind),
        open_student(dense, wanted.kind),
        weights,
        batch_sizes=settings.batch_sizes,
        length=settings.length,
        repeats=settings.repeats,
        device=pick_device(wanted.machine.device),
    )
    write_json(cost, result)
