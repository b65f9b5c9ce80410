"""Fine-tune a base on a task: the teacher."""

from __future__ import annotations

from pathlib import Path

from espalier.config.job_specs import FinetuneSpec
from espalier.config.kinds import KIND_RULES
from espalier.methods.dense import Dense
from espalier.models.files import open_base, write_model
from espalier.training.run import Files, Run


def run(
    spec: str,
    *,
    base: list[Path],
    task: Path,
    tokens: list[Path],
    work: Path,
    config: Path,
    weights: Path,
    history: Path,
    record: Path,
) -> None:
    """Train with the task loss alone and write the model, its history and its record.

    Where the base itself teaches, it is only checked and scored.
    """
    wanted = FinetuneSpec.model_validate_json(spec)
    session = Run(__name__, wanted, wanted.settings, Files(task, tokens, work, base))
    model = open_base(base, wanted.goal.kind, session.task["classes"])
    session.open_rows(model.config.pad_token_id)
    stage = session.fixed_stage(0.0 if KIND_RULES[wanted.goal.kind].vectors else wanted.settings.epochs)
    result = session.train(model, Dense(wanted.settings, stage), history=history)
    write_model(model, config, weights)
    session.finish(record, result)
