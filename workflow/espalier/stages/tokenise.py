"""Turn a task's rows into token ids, once for each base and length."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value

from espalier.config.job_specs import TokeniseSpec
from espalier.data.span_windows import Cutting, write_windows
from espalier.data.tokenizer import open_tokenizer
from espalier.runtime.files import atomic

TYPES = {"input_ids": List(Value("int32")), "token_type_ids": List(Value("int8"))}
"""Columns that are kept of what the tokenizer gives, and how they are stored."""


def run(
    spec: str,
    *,
    tokenizer: list[Path],
    train: Path,
    evaluation: Path,
    tokens_train: Path,
    tokens_evaluation: Path,
) -> None:
    """Write input_ids (and token_type_ids, where the tokenizer gives them) beside label and set, without padding.

    Span tasks have a row a window, and columns of their own: see data/span_windows.py.
    """
    settings = TokeniseSpec.model_validate_json(spec)
    encoder = open_tokenizer(tokenizer, settings.max_length)
    for rows, tokens in ((train, tokens_train), (evaluation, tokens_evaluation)):
        if settings.kind == "span":
            cutting = Cutting(settings.max_length, settings.stride, settings.max_answer_length)
            questions, windows = write_windows(encoder, cutting, rows, tokens)
            print(f"{tokens.name}: {questions:,} questions in {windows:,} windows")
        else:
            _tokenise(encoder, settings.max_length, rows, tokens)


def _tokenise(encoder: Any, max_length: int, rows: Path, tokens: Path) -> None:
    with tempfile.TemporaryDirectory() as cache:
        data = Dataset.from_parquet(str(rows), cache_dir=cache)
        texts = [name for name in ("text_a", "text_b") if name in data.column_names]

        kept = {name: kind for name, kind in TYPES.items() if name in encoder.model_input_names}

        def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
            encoded = encoder(*(batch[name] for name in texts), truncation="longest_first", max_length=max_length)
            return {name: encoded[name] for name in kept}

        features = Features(kept | {name: kind for name, kind in data.features.items() if name not in texts})
        encoded = data.map(encode, batched=True, remove_columns=texts, features=features, desc=f"tokenise {rows.name}")
        with atomic(tokens) as temporary:
            encoded.to_parquet(str(temporary))
    print(f"{tokens.name}: {len(encoded):,} rows, {sum(map(len, encoded['input_ids'])) / len(encoded):.1f} tokens a row")
