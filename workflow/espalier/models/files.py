"""Opening and writing models: always the stock classes, always safetensors, always strict."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from espalier.config.job_specs import SERVING
from espalier.config.kinds import KIND_RULES, Kind
from espalier.models import modeling_espalier
from espalier.models.classes import as_stock, auto_class, is_compact, model_class
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic, copy_file, reading


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
        kind: of the task; its rules say what outputs the head has. Heads are new, whatever head the base brings, except that
            text has the base's own head for masked-language modelling where it brings one.
        classes: names in order, where the task has any.

    Raises:
        UserError: weights besides the head are missing, left over or of another shape.
    """
    return open_with_head(files, kind, classes)[0]


def open_with_head(files: Sequence[Path], kind: Kind, classes: Sequence[str] | None) -> tuple[PreTrainedModel, bool]:
    """What `open_base` returns, and whether all weights of the head came with the base."""
    folder = folder_of(files)
    config = AutoConfig.from_pretrained(folder)

    for name, value in KIND_RULES[kind].head(classes).items():
        setattr(config, name, value)

    generator = torch.get_rng_state()
    model, report = open_with_report(folder, config, kind)
    if problem := encoder_problem(model, report):
        raise UserError(f"{folder}/{problem}")

    head = {name for name in model.state_dict() if not name.startswith(f"{model.base_model_prefix}.")}
    brought = head - report["missing_keys"] - {name for name, *_ in report["mismatched_keys"]}
    if brought and not KIND_RULES[kind].own_head:
        # the head is drawn from the same random numbers as that of a base without one
        torch.set_rng_state(generator)
        return _without_head(model, report), False
    return model, brought == head


def encoder_problem(model: PreTrainedModel, report: Mapping[str, Any]) -> str | None:
    """What is wrong with the weights of a base besides its head and its pooler, which a base may come without; None if nothing.

    Args:
        model: as it was opened, with or without a head.
        report: of opening it: the keys that are missing, left over, and of another shape.
    """
    own = f"{model.base_model_prefix}."
    prefix = "" if model.base_model is model else own
    parts = {name for name, _ in model.base_model.named_children()} - {"pooler"}

    def of_encoder(key: str) -> bool:
        return key.removeprefix(own).partition(".")[0] in parts and (key.startswith(prefix) or not prefix)

    if missing := sorted(filter(of_encoder, report["missing_keys"])):
        return f"model.safetensors lacks {len(missing)} weights of the encoder, such as {missing[0]!r}"

    wrong = sorted(shapes for shapes in report["mismatched_keys"] if shapes[0].startswith(prefix))
    if wrong:
        name, got, wanted = wrong[0]
        return f"model.safetensors: {name} is of shape {list(got)}; by config.json it is of shape {list(wanted)}"

    left_over = sorted(key for key in report["unexpected_keys"] if key.removeprefix(own).partition(".")[0] in parts)
    if left_over:
        layers = model.config.num_hidden_layers
        return (
            f"model.safetensors holds {len(left_over)} weights of the encoder that config.json, with its {layers} layers, "
            f"has no place for, such as {left_over[0]!r}"
        )
    return None


def _without_head(model: PreTrainedModel, report: Mapping[str, Any]) -> PreTrainedModel:
    """The encoder of a model that was opened, under a new head."""
    prefix = f"{model.base_model_prefix}."
    brought = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.startswith(prefix) and name not in report["missing_keys"]
    }
    return type(model).from_pretrained(None, config=model.config, state_dict=brought, dtype=torch.float32)


def open_student(files: Sequence[Path], kind: Kind) -> PreTrainedModel:
    """A model of this project, complete and with nothing left over.

    Raises:
        UserError: weights are missing, left over or of another shape.
    """
    folder = folder_of(files)
    model, report = open_with_report(folder, AutoConfig.from_pretrained(folder), kind)

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


def open_with_report(folder: Path, config: PreTrainedConfig, kind: Kind) -> tuple[PreTrainedModel, dict]:
    """A model with the head of a kind of task, and which of its weights are missing, left over, or of another shape."""
    with reading(folder / "model.safetensors", SafetensorError):
        return _auto_class(kind).from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            # reported, so that they can be refused in words
            ignore_mismatched_sizes=True,
        )


def write_model(model: PreTrainedModel, config: Path, weights: Path) -> None:
    """Write config.json and model.safetensors, each under a temporary name first."""
    with tempfile.TemporaryDirectory(dir=_made(weights.parent), prefix=".partial-") as folder:
        try:
            # otherwise names that were read are written again, such as LayerNorm.gamma of old checkpoints
            model.save_pretrained(folder, max_shard_size="1TB", save_original_format=False)
        # mostly a full disk
        except SafetensorError as error:
            raise UserError(f"{weights}: cannot be written: {error}") from error

        for name, path in (("model.safetensors", weights), ("config.json", config)):
            with atomic(path) as temporary:
                (Path(folder) / name).replace(temporary)


def write_compact(
    model: PreTrainedModel, config: Path, weights: Path, code: Path, serving: Mapping[str, Any] | None = None
) -> None:
    """Write a model for others to open: in transformers' own class where its shape is uniform.

    Otherwise config.json names the classes of `code`, a copy of models/modeling_espalier.py, so that the folder opens with
    `trust_remote_code=True` where espalier is not installed. The file lies beside a stock model too, and is not used.

    Args:
        model: complete, with its head.
        config: config.json of the folder.
        weights: model.safetensors of the folder.
        code: modeling_espalier.py of the folder.
        serving: what whoever asks the model must know, for the section `espalier` of config.json (`config.job_specs.Serving`).
    """
    if is_compact(model.config):
        if (stock := as_stock(model)) is not None:
            model = stock
        else:
            # "Auto class" → "file.Class", as `trust_remote_code=True` reads it
            encoder = model_class(model.config, transformers.AutoModel)
            classes = {"AutoConfig": type(model.config), "AutoModel": encoder, auto_class(model).__name__: type(model)}
            model.config.auto_map = {name: f"{modeling_espalier.MODULE}.{kind.__name__}" for name, kind in classes.items()}

    if serving is not None:
        setattr(model.config, SERVING, dict(serving))
    write_model(model, config, weights)
    copy_file(Path(modeling_espalier.__file__), code)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
