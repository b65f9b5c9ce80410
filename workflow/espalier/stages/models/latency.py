"""Time a base's sublayers at every number of heads and at some FFN widths, for plans that aim at a speed."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig

from espalier.config.job_specs import LatencySpec
from espalier.evaluation.sublayer_times import measure_table
from espalier.runtime.device import pick_device, seed_everything
from espalier.runtime.files import write_json


def run(spec: str, *, config: Path, table: Path) -> None:
    """Write the table of one base, batch size and length on this machine."""
    wanted = LatencySpec.model_validate_json(spec)
    seed_everything(0)
    device = pick_device(wanted.device)
    write_json(table, measure_table(AutoConfig.from_pretrained(config), wanted.batch_size, wanted.length, device))
