"""Opening the tokenizer of a base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from espalier.config.lengths import positions_in, too_long
from espalier.core.runtime import UserError


def open_tokenizer(files: Sequence[Path], max_length: int, measured_length: int = 0) -> PreTrainedTokenizerBase:
    """The tokenizer whose files these are.

    Raises:
        UserError: it does not take rows of `max_length` tokens, or the base beside it takes neither those nor the rows that
            `measure` will time.
    """
    folder = files[0].parent
    most = positions_in(folder)
    for key, length in (("max_length", max_length), ("measure.length", measured_length)):
        if most is not None and length > most:
            raise UserError(too_long(key, length, folder.name, most))
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if max_length > tokenizer.model_max_length:
        raise UserError(
            f"max_length: got {max_length}; the tokenizer in {folder} takes at most {tokenizer.model_max_length} tokens"
        )
    return tokenizer
