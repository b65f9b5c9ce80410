"""Turn a task's rows into token ids, once for each base and length."""

from __future__ import annotations

from pathlib import Path

from espalier.config.job_specs import TokeniseSpec
from espalier.data.tokenizer import open_tokenizer
from espalier.kinds.base import task_kind


def run(
    spec: str,
    *,
    tokenizer: list[Path],
    train: Path,
    evaluation: Path,
    tokens_train: Path,
    tokens_evaluation: Path,
) -> None:
    """Write token ids in the place of texts, as the kind of task does it."""
    settings = TokeniseSpec.model_validate_json(spec)
    encoder = open_tokenizer(tokenizer, settings.max_length)
    for rows, tokens in ((train, tokens_train), (evaluation, tokens_evaluation)):
        task_kind(settings.kind).tokenise(encoder, settings, rows, tokens)
