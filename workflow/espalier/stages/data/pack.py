"""Pack a corpus into rows of token ids of one length, once for each base and length."""

from __future__ import annotations

from pathlib import Path

from espalier.config.job_specs import PackSpec
from espalier.data.packing import Packer
from espalier.data.tokenizer import open_tokenizer
from espalier.runtime.errors import UserError


def run(
    spec: str,
    *,
    tokenizer: list[Path],
    train: Path,
    evaluation: Path,
    packed_train: Path,
    packed_evaluation: Path,
) -> None:
    """Write both tables as Arrow files that can be mapped into memory, of each set its first rows."""
    settings = PackSpec.model_validate_json(spec)
    encoder = open_tokenizer(tokenizer, settings.max_length)
    packer = Packer(encoder, settings.max_length)
    written = packer.write(train, packed_train, settings.rows)
    if settings.rows and written < settings.rows:
        packed_train.unlink()
        raise UserError(f"rows: got {settings.rows:,}; the corpus has {written:,} rows of {settings.max_length} tokens")
    print(f"{packed_train.name}: {written:,} rows of {settings.max_length} tokens")
    print(f"{packed_evaluation.name}: {packer.write(evaluation, packed_evaluation, settings.evaluation_rows):,} rows")
