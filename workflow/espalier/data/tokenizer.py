"""Opening the tokenizer of a base."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from espalier.config.lengths import longest_row_in, too_long
from espalier.provenance.job_environment import MEASURED_LENGTH
from espalier.runtime.errors import UserError


def open_tokenizer(files: Sequence[Path], max_length: int) -> PreTrainedTokenizerBase:
    """The tokenizer whose files these are.

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
    return tokenizer
