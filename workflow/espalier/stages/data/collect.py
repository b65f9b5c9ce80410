"""Read a task's texts without labels and turn them into token ids, for plans that distil."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from espalier.config.kinds.specs import CollectSpec
from espalier.data.tokenizer import open_tokenizer
from espalier.data.unlabelled import rows_in, unlabelled_rows
from espalier.kinds.base import task_kind


def run(spec: str, *, tokenizer: list[Path], train: Path, evaluation: Path, tokens: Path) -> None:
    """Write the token ids of all texts that are used.

    Args:
        spec: a `CollectSpec` as JSON.
        tokenizer: config.json and files of the base's tokenizer.
        train, evaluation: the task's own rows, which no text may repeat.
        tokens: what is written.
    """
    settings = CollectSpec.model_validate_json(spec)
    encoder = open_tokenizer(tokenizer, settings.rows.max_length)
    known = {row for path in (train, evaluation) for row in rows_in(path)}
    with tempfile.TemporaryDirectory(prefix="espalier-") as scratch:
        rows = Path(scratch) / tokens.name
        pq.write_table(unlabelled_rows(settings, known), rows)
        task_kind(settings.rows.kind).tokenise(encoder, settings.rows, rows, tokens)
