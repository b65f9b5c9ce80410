"""Admit a fine-tuned checkpoint as the teacher: check it, put its classes in the task's order, score it. Nothing is trained."""

from __future__ import annotations

from pathlib import Path

from espalier.config.teachers.specs import AdmitSpec
from espalier.config.training import FineTuning
from espalier.methods.dense import Dense
from espalier.models.files import write_model
from espalier.models.own_teacher import check_architecture, open_own_teacher
from espalier.runtime.files import read_json
from espalier.training.run import Files, Run


def run(
    spec: str,
    *,
    checkpoint: list[Path],
    base: list[Path],
    source: Path,
    task: Path,
    tokens: list[Path],
    work: Path,
    config: Path,
    weights: Path,
    history: Path,
    record: Path,
) -> None:
    """Write the model, a history of one evaluation, and a record that names the checkpoint.

    Args:
        spec: an `AdmitSpec` as JSON.
        checkpoint: config.json, model.safetensors and tokenizer.json of the fine-tuned model.
        base: config.json and tokenizer.json of the base that students are made of.
        source: source.json, which says where the checkpoint came from.
        task, tokens, work: task.json, tokens of training and evaluation rows, and a folder for what is kept meanwhile.
        config, weights, history, record: what is written.
    """
    wanted = AdmitSpec.model_validate_json(spec)
    settings = FineTuning()
    check_architecture(checkpoint, base)

    session = Run(__name__, wanted, settings, Files(task, tokens, work, checkpoint))
    model = open_own_teacher(checkpoint[:2], wanted.goal.kind, session.task["classes"], wanted.matching)
    session.open_rows(model.config.pad_token_id)

    # no epoch: the loop scores the model and trains nothing
    result = session.train(model, Dense(settings, session.fixed_stage(0.0)), history=history)
    write_model(model, config, weights)
    session.finish(record, {**result, "matching": wanted.matching, "source": read_json(source)})
