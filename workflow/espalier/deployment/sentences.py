"""The files by which sentence-transformers opens a folder: an encoder, the mean of its states over all tokens, and length 1.

Source: the files of sentence-transformers/all-MiniLM-L6-v2, and `SentenceTransformer.save` of sentence-transformers 2 to 5. The
module that gives vectors the length 1 has no file of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espalier.config.deployment.formats import POOLING
from espalier.runtime.files import write_json

LIBRARY_MODULES = "sentence_transformers.models"
"""Where the library has its modules; every version knows them under these names."""
OTHER_WAYS = ("cls_token", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
"""Ways of pooling that these models do not use."""


def modules() -> list[dict[str, Any]]:
    """What a text passes through, in order."""
    folders = {"Transformer": "", "Pooling": POOLING.partition("/")[0], "Normalize": "2_Normalize"}
    return [
        {"idx": place, "name": str(place), "path": folder, "type": f"{LIBRARY_MODULES}.{name}"}
        for place, (name, folder) in enumerate(folders.items())
    ]


def pooling(width: int) -> dict[str, Any]:
    """The mean over all tokens that are no padding.

    Args:
        width: dimensions of a vector.
    """
    return {
        "word_embedding_dimension": width,
        "pooling_mode_mean_tokens": True,
        **{f"pooling_mode_{way}": False for way in OTHER_WAYS},
        "include_prompt": True,
    }


def transformer(max_length: int) -> dict[str, Any]:
    """How the encoder reads a text.

    Args:
        max_length: tokens of a row, special ones included; longer texts are cut.
    """
    return {"max_seq_length": max_length, "do_lower_case": False}


def write_sentence_files(paths: Sequence[Path], width: int, max_length: int) -> None:
    """Write these files; nothing where there are none.

    Args:
        paths: in the order of `SENTENCE_FILES`, or none.
        width: dimensions of a vector.
        max_length: tokens of a row.
    """
    contents = (modules(), pooling(width), transformer(max_length))
    for path, content in zip(paths, contents, strict=bool(paths)):
        write_json(path, content)
