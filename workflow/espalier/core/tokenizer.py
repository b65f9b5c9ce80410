"""Opening the tokenizer of a base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from espalier.core.runtime import UserError


def open_tokenizer(files: Sequence[Path], max_length: int) -> PreTrainedTokenizerBase:
    """The tokenizer whose files these are.

    Raises:
        UserError: it does not take rows of `max_length` tokens.
    """
    folder = files[0].parent
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if max_length > tokenizer.model_max_length:
        raise UserError(
            f"max_length: got {max_length}; the tokenizer in {folder} takes at most {tokenizer.model_max_length} tokens"
        )
    return tokenizer
