"""Make the teacher of a text task: a base with a head for masked-language modelling, its own or a new one."""

from __future__ import annotations

from pathlib import Path

from espalier.config.job_specs import PretrainSpec
from espalier.methods.dense import Dense
from espalier.models.files import open_with_head, write_model
from espalier.runtime.errors import UserError
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
    """Train what the settings say and write the model, its history and its record, which tells of the head."""
    wanted = PretrainSpec.model_validate_json(spec)
    settings = wanted.settings
    session = Run(__name__, wanted, settings, Files(task, tokens, work, base))
    model, brought = open_with_head(base, "text", None)
    epochs = settings.epochs
    if epochs is None:
        epochs = 0.0 if brought else 1.0
    if not (brought or epochs):
        raise UserError("pretrain.epochs: got 0, but the base brings no head for masked-language modelling; it must be trained")
    if settings.train == "head":
        model.base_model.requires_grad_(False)
    session.open_rows(model.config.pad_token_id)
    result = session.train(model, Dense(settings, session.fixed_stage(epochs)), history=history)
    write_model(model, config, weights)
    session.finish(record, {**result, "head": "own" if brought else "new", "trained": settings.train if epochs else "nothing"})
