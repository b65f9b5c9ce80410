"""Opening and writing models: always the stock classes, always safetensors, always strict."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from espalier.config.kinds import KIND_RULES, Kind
from espalier.models import modeling_espalier
from espalier.models.classes import as_stock, auto_class
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic, reading


def folder_of(files: Sequence[Path]) -> Path:
    """The folder of a model, given its config.json and model.safetensors (and masks.safetensors)."""
    folders = {file.parent for file in files}

    if len(folders) != 1 or not {"config.json", "model.safetensors"} <= {file.name for file in files}:
        raise UserError(f"a model is config.json and model.safetensors of one folder; got {', '.join(map(str, files))}")
    return folders.pop()


def open_base(files: Sequence[Path], kind: Kind, classes: Sequence[str] | None) -> PreTrainedModel:
    """A pre-trained encoder with a head. New parts of the head are drawn at random, so seed torch before.

    Args:
        files: config.json and model.safetensors of the base.
        kind: of the task; its rules say what outputs the head has. Heads are new, except that text has the base's own head
            for masked-language modelling where it brings one.
        classes: names in order, where the task has any.

    Raises:
        UserError: weights besides the head are missing.
    """
    return open_with_head(files, kind, classes)[0]


def open_with_head(files: Sequence[Path], kind: Kind, classes: Sequence[str] | None) -> tuple[PreTrainedModel, bool]:
    """What `open_base` returns, and whether all weights of the head came with the base."""
    folder = folder_of(files)
    config = AutoConfig.from_pretrained(folder)

    for name, value in KIND_RULES[kind].head(classes).items():
        setattr(config, name, value)

    model, report = _open(folder, config, kind)
    prefix = f"{model.base_model_prefix}."
    # a pooler counts as part of the head, since a base may come without one
    if missing := sorted(key for key in report["missing_keys"] if key.startswith(prefix) and ".pooler." not in key):
        raise UserError(f"{folder}/model.safetensors lacks {len(missing)} weights of the encoder, such as {missing[0]!r}")
    return model, not any(key for key in report["missing_keys"] if not key.startswith(prefix))


def open_student(files: Sequence[Path], kind: Kind) -> PreTrainedModel:
    """A model of this project, complete and with nothing left over.

    Raises:
        UserError: weights are missing, left over or of another shape.
    """
    folder = folder_of(files)
    model, report = _open(folder, AutoConfig.from_pretrained(folder), kind)

    wrong = {what: sorted(map(str, keys)) for what, keys in report.items() if keys and what.endswith("_keys")}
    if wrong:
        raise UserError(f"{folder}/model.safetensors does not fit its config.json: {wrong}")
    return model


def empty_model(files: Sequence[Path], kind: Kind) -> PreTrainedModel:
    """A model of this project without its weights, for counting."""
    config = AutoConfig.from_pretrained(folder_of(files))
    with torch.device("meta"):
        return _auto_class(kind).from_config(config)


def _auto_class(kind: Kind) -> type:
    """The class in transformers that opens models of a kind of task."""
    return getattr(transformers, KIND_RULES[kind].auto_class)


def _open(folder: Path, config: PreTrainedConfig, kind: Kind) -> tuple[PreTrainedModel, dict]:
    with reading(folder / "model.safetensors", SafetensorError):
        return _auto_class(kind).from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )


def write_model(model: PreTrainedModel, config: Path, weights: Path) -> None:
    """Write config.json and model.safetensors, each under a temporary name first."""
    with tempfile.TemporaryDirectory(dir=_made(weights.parent), prefix=".partial-") as folder:
        try:
            model.save_pretrained(folder, max_shard_size="1TB")
        # mostly a full disk
        except SafetensorError as error:
            raise UserError(f"{weights}: cannot be written: {error}") from error

        for name, path in (("model.safetensors", weights), ("config.json", config)):
            with atomic(path) as temporary:
                (Path(folder) / name).replace(temporary)


def write_compact(model: PreTrainedModel, config: Path, weights: Path, code: Path) -> None:
    """Write a model for others to open: in transformers' own class where its shape is uniform.

    Otherwise config.json names the classes of `code`, a copy of models/modeling_espalier.py, so that the folder opens with
    `trust_remote_code=True` where espalier is not installed. The file lies beside a stock model too, and is not used.
    """
    if model.config.model_type.startswith("compact-"):
        if (stock := as_stock(model)) is not None:
            model = stock
        else:
            # "Auto class" → "file.Class", as `trust_remote_code=True` reads it
            classes = {"AutoConfig": type(model.config), auto_class(model).__name__: type(model)}
            model.config.auto_map = {name: f"{modeling_espalier.MODULE}.{kind.__name__}" for name, kind in classes.items()}

    write_model(model, config, weights)
    with atomic(code) as temporary:
        shutil.copyfile(modeling_espalier.__file__, temporary)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
