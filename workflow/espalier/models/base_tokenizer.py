"""The tokenizer of a base: opened without reading a file from elsewhere, and saved so that it gives what its model reads."""

from __future__ import annotations

import fnmatch
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from espalier.config.data import VOCABULARIES
from espalier.data.tokenizer import give_what_is_read
from espalier.models.bases import SETTINGS, file_names, first_line, wanted
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json, write_json

ELSEWHERE = ("*_file", "*_path", "vocab", "merges", "init_inputs")
"""Keys of a tokenizer's settings that could make transformers read a file from outside the base into the vocabulary."""


def save_tokenizer(folder: Path, target: Path, model: PreTrainedModel) -> Path:
    """Load the tokenizer of a folder and save it as tokenizer.json and tokenizer_config.json in `target`.

    What is saved gives at inference what training reads: the inputs of the model, padding on the right, and texts in the
    case that the vocabulary is in.

    Raises:
        UserError: there is no tokenizer, it is damaged, or it gives ids that the model has no embeddings for.
    """
    if not any(list(folder.glob(pattern)) for pattern in VOCABULARIES):
        raise UserError(f"{folder}: there is no tokenizer (none of {', '.join(VOCABULARIES)}); files: {file_names(folder)}")

    with _said(folder), tempfile.TemporaryDirectory() as copy:
        _copy_tokenizer(folder, Path(copy))
        _say_case(Path(copy))
        tokenizer = AutoTokenizer.from_pretrained(copy, trust_remote_code=False, local_files_only=True)
        if not tokenizer.is_fast:
            kind = type(tokenizer).__name__
            raise UserError(f"{folder}: the tokenizer ({kind}) has no fast form, so no tokenizer.json can be saved")

        _pad_as_training_does(tokenizer, folder, model.config.pad_token_id)
        give_what_is_read(tokenizer, model.config, type(model))
        _check_ids(tokenizer, folder, model)

        # neither the temporary path nor the way in which it was opened belongs into the saved settings
        tokenizer.name_or_path = ""
        for key in ("local_files_only", "is_local", "trust_remote_code"):
            tokenizer.init_kwargs.pop(key, None)
        # each task sets its own length
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.save_pretrained(target)
    return target


@contextmanager
def _said(folder: Path) -> Iterator[None]:
    """Turn whatever a damaged tokenizer raises into one sentence.

    Raises:
        UserError: the block raised anything but a request to stop.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt, SystemExit):
        raise
    # the library tokenizers raises a bare Exception for a file that it cannot read; a panic of its is none at all
    except BaseException as error:
        raise UserError(f"{folder}: the tokenizer cannot be loaded: {first_line(error)}") from error


def _copy_tokenizer(folder: Path, copy: Path) -> None:
    """Copy the files of a tokenizer; settings that name files elsewhere are left out."""
    for path in folder.iterdir():
        if path.is_file() and wanted(path.name) and path.suffix != ".safetensors":
            shutil.copyfile(path, copy / path.name)

    for path in (copy / name for name in SETTINGS if (copy / name).is_file()):
        settings = read_json(path)
        for pattern in ELSEWHERE:
            settings = {key: value for key, value in settings.items() if not fnmatch.fnmatch(key, pattern)}
        write_json(path, settings)


def _say_case(copy: Path) -> None:
    """Write down whether texts are lower-cased, where the settings do not say it: most classes take it for granted.

    The normaliser of tokenizer.json says it, or else the entries of vocab.txt.
    """
    path = copy / "tokenizer_config.json"
    settings = read_json(path) if path.is_file() else {}
    if (copy / "tokenizer.json").is_file():
        content = read_json(copy / "tokenizer.json")
        if content["model"].get("type", "WordPiece") != "WordPiece":
            return
        told = _normalisation(content.get("normalizer"))
    elif (copy / "vocab.txt").is_file():
        told = {"do_lower_case": False} if _is_cased(copy / "vocab.txt") else {}
    else:
        return

    if told.keys() - settings.keys():
        write_json(path, told | settings)


def _normalisation(normalizer: dict[str, Any] | None) -> dict[str, Any]:
    """What a normaliser of tokenizer.json does, in the words of tokenizer_config.json."""
    parts = list(_parts(normalizer))
    told: dict[str, Any] = {"do_lower_case": any(part["type"] == "Lowercase" or part.get("lowercase") for part in parts)}
    for part in parts:
        if part["type"] == "BertNormalizer":
            told |= {"strip_accents": part["strip_accents"], "tokenize_chinese_chars": part["handle_chinese_chars"]}
    return told


def _parts(normalizer: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if normalizer is None:
        return
    yield normalizer
    for part in normalizer.get("normalizers", ()):
        yield from _parts(part)


def _is_cased(vocabulary: Path) -> bool:
    """Whether words have capital letters; tokens in brackets, such as [CLS] and <MASK>, are no words."""
    tokens = vocabulary.read_text(encoding="utf-8").splitlines()
    words = [token for token in tokens if not (token[:1] in ("[", "<") and token[-1:] in ("]", ">"))]
    return any(word != word.lower() for word in words)


def _pad_as_training_does(tokenizer: PreTrainedTokenizerBase, folder: Path, pad: int) -> None:
    """Training fills rows up on the right, with the model's padding token."""
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "right"
    if tokenizer.pad_token is None:
        token = tokenizer.convert_ids_to_tokens(pad) if pad < len(tokenizer) else None
        if token is None:
            raise UserError(f"{folder}: the tokenizer has no padding token, and pad_token_id {pad} is none of its tokens")
        tokenizer.pad_token = token


def _check_ids(tokenizer: PreTrainedTokenizerBase, folder: Path, model: PreTrainedModel) -> None:
    """See that the model has an embedding for everything that the tokenizer gives."""
    rows = model.get_input_embeddings().num_embeddings
    token, largest = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if len(tokenizer) > rows:
        raise UserError(f"{folder}: the tokenizer has {len(tokenizer):,} tokens, but the model's vocab_size is {rows:,}")
    if largest >= rows:
        raise UserError(f"{folder}: the tokenizer's token {token!r} has the number {largest:,}, but vocab_size is {rows:,}")

    # the special tokens of pairs are looked up when a pair is encoded
    encoded = tokenizer("a", "b", return_token_type_ids=True)
    if not (encoded["input_ids"] and tokenizer("a")["input_ids"]):
        raise UserError(f"{folder}: the tokenizer gives no token, not even a special one, for some texts or pairs of texts")

    types = max(encoded["token_type_ids"])
    if "token_type_ids" in tokenizer.model_input_names and types >= model.config.type_vocab_size:
        said = f"but type_vocab_size is {model.config.type_vocab_size}"
        raise UserError(f"{folder}: the tokenizer gives token types up to {types}, {said}")
