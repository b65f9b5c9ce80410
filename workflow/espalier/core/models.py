"""Opening and writing models: always the stock classes, always safetensors, always strict."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from espalier.core.batches import Batch
from espalier.core.losses import Kind
from espalier.core.method import Outputs, Representation
from espalier.core.runtime import UserError, atomic

AUTO_CLASS: dict[Kind, type] = {
    "classification": AutoModelForSequenceClassification,
    "regression": AutoModelForSequenceClassification,
}


def folder_of(files: Sequence[Path]) -> Path:
    """The folder of a model, given its config.json and model.safetensors (and masks.safetensors)."""
    folders = {file.parent for file in files}
    if len(folders) != 1 or not {"config.json", "model.safetensors"} <= {file.name for file in files}:
        raise UserError(f"a model is config.json and model.safetensors of one folder; got {', '.join(map(str, files))}")
    return folders.pop()


def open_base(files: Sequence[Path], kind: Kind, classes: Sequence[str] | None) -> PreTrainedModel:
    """A pre-trained encoder with a new, randomly initialised head; seed torch before.

    Args:
        files: config.json and model.safetensors of the base.
        kind: classification has one output a class, regression has one.
        classes: names in order, for classification.

    Raises:
        UserError: weights besides the head are missing.
    """
    folder = folder_of(files)
    config = AutoConfig.from_pretrained(folder)
    if kind == "regression":
        config.num_labels, config.problem_type = 1, "regression"
    else:
        config.id2label = dict(enumerate(classes))
        config.label2id = {name: index for index, name in enumerate(classes)}
        config.problem_type = "single_label_classification"
    model, report = _open(folder, config, kind)
    prefix = f"{model.base_model_prefix}."
    if missing := sorted(key for key in report["missing_keys"] if key.startswith(prefix) and ".pooler." not in key):
        raise UserError(f"{folder}/model.safetensors lacks {len(missing)} weights of the encoder, such as {missing[0]!r}")
    return model


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


def _open(folder: Path, config: PreTrainedConfig, kind: Kind) -> tuple[PreTrainedModel, dict]:
    return AUTO_CLASS[kind].from_pretrained(
        folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
    )


def write_model(model: PreTrainedModel, config: Path, weights: Path) -> None:
    """Write config.json and model.safetensors, each under a temporary name first."""
    with tempfile.TemporaryDirectory(dir=_made(weights.parent), prefix=".partial-") as folder:
        model.save_pretrained(folder, max_shard_size="1TB")
        for name, path in (("model.safetensors", weights), ("config.json", config)):
            with atomic(path) as temporary:
                (Path(folder) / name).replace(temporary)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def forward(model: nn.Module, batch: Batch, representation: Representation | None = None) -> Outputs:
    """One forward pass; `representation` asks for a vector of each row besides the logits."""
    raw = model(**batch.inputs(), output_hidden_states=representation is not None)
    if representation is None:
        return Outputs(raw.logits)
    return Outputs(raw.logits, pool(raw.hidden_states[-1], batch.attention_mask, representation))


def pool(
    hidden: Float[Tensor, "batch length hidden"], mask: Int[Tensor, "batch length"], how: Representation
) -> Float[Tensor, "batch hidden"]:
    """The first token's state, or the mean over the real tokens."""
    if how == "first-token":
        return hidden[:, 0]
    real = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * real).sum(dim=1) / real.sum(dim=1)
