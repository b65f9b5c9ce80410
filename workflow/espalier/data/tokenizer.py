"""The tokenizer of a base: opening it, and turning texts into token ids."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from espalier.config.lengths import longest_row_in, too_long
from espalier.provenance.job_environment import MEASURED_LENGTH
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic

TOKEN_COLUMNS = {"input_ids": List(Value("int32")), "token_type_ids": List(Value("int8"))}
"""Columns that are kept of what the tokenizer gives, and how they are stored."""


def open_tokenizer(files: Sequence[Path], max_length: int) -> PreTrainedTokenizerBase:
    """The tokenizer whose files these are; it gives what the base beside it reads.

    Raises:
        UserError: it, or the base beside it, does not take rows of `max_length` tokens; or the base does not take the rows
            that `measure` will time, which is said here rather than after all training.
    """
    folder = files[0].parent
    most = longest_row_in(folder)
    for key, length in (("max_length", max_length), ("measure.length", int(os.environ.get(MEASURED_LENGTH, "0")))):
        if most is not None and length > most:
            raise UserError(too_long(key, length, folder.name, most))
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if max_length > tokenizer.model_max_length:
        raise UserError(
            f"max_length: got {max_length}; the tokenizer in {folder} takes at most {tokenizer.model_max_length} tokens"
        )
    if (folder / "config.json").is_file():
        config = AutoConfig.from_pretrained(folder)
        give_what_is_read(tokenizer, config, AutoModel._model_mapping[type(config)])
    return tokenizer


def reads_token_types(config: PreTrainedConfig, model: Any) -> bool:
    """Whether a model, or a class of models, reads token types: it has more than one of them."""
    # models without types may take the argument and ignore it, and a configuration may hold keys that no model reads
    return (getattr(config, "type_vocab_size", 0) or 0) > 1 and "token_type_ids" in inspect.signature(model.forward).parameters


def give_what_is_read(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, model: Any) -> None:
    """Let a tokenizer give the inputs of a model, whatever its own class gives, now and after it was saved."""
    types = ["token_type_ids"] if reads_token_types(config, model) else []
    tokenizer.model_input_names = ["input_ids", *types, "attention_mask"]
    tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names


def write_tokens(encoder: PreTrainedTokenizerBase, max_length: int, rows: Path, tokens: Path) -> None:
    """Write input_ids (and token_type_ids, where the base reads them) in place of the texts, without padding.

    All other columns, such as label and set, stay as they are.
    """
    with tempfile.TemporaryDirectory() as cache:
        data = Dataset.from_parquet(str(rows), cache_dir=cache)
        texts = [name for name in ("text_a", "text_b") if name in data.column_names]

        kept = {name: kind for name, kind in TOKEN_COLUMNS.items() if name in encoder.model_input_names}

        def encode(batch: Mapping[str, Any]) -> dict[str, list[Any]]:
            encoded = encoder(*(batch[name] for name in texts), truncation="longest_first", max_length=max_length)
            return {name: encoded[name] for name in kept}

        features = Features(kept | {name: kind for name, kind in data.features.items() if name not in texts})
        encoded = data.map(encode, batched=True, remove_columns=texts, features=features, desc=f"tokenise {rows.name}")
        with atomic(tokens) as temporary:
            encoded.to_parquet(str(temporary))

    print(f"{tokens.name}: {len(encoded):,} rows, {sum(map(len, encoded['input_ids'])) / len(encoded):.1f} tokens a row")
