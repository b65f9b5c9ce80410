"""Opening and writing models: always the stock classes, always safetensors, always strict."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import ModelOutput

from espalier.config.data import Kind
from espalier.core import structure
from espalier.core.batches import Batch
from espalier.core.method import Outputs, Representation
from espalier.core.relations import Recording, recorded
from espalier.core.runtime import UserError, atomic, reading
from espalier.core.shrink import as_stock, auto_class
from espalier.core.spans import place_logits

AUTO_CLASS: dict[Kind, type] = {
    "classification": AutoModelForSequenceClassification,
    "regression": AutoModelForSequenceClassification,
    "span": AutoModelForQuestionAnswering,
    "text": AutoModelForMaskedLM,
}


def folder_of(files: Sequence[Path]) -> Path:
    """The folder of a model, given its config.json and model.safetensors (and masks.safetensors)."""
    folders = {file.parent for file in files}
    if len(folders) != 1 or not {"config.json", "model.safetensors"} <= {file.name for file in files}:
        raise UserError(f"a model is config.json and model.safetensors of one folder; got {', '.join(map(str, files))}")
    return folders.pop()


def open_base(files: Sequence[Path], kind: Kind, classes: Sequence[str] | None) -> PreTrainedModel:
    """A pre-trained encoder with a head; seed torch before, for what of the head is new.

    Args:
        files: config.json and model.safetensors of the base.
        kind: classification has one output a class, regression has one, span has two a token, all always new; text has the
            base's own head for masked-language modelling where it brings one.
        classes: names in order, for classification.

    Raises:
        UserError: weights besides the head are missing.
    """
    return open_with_head(files, kind, classes)[0]


def open_with_head(files: Sequence[Path], kind: Kind, classes: Sequence[str] | None) -> tuple[PreTrainedModel, bool]:
    """The same, and whether all weights of the head came with the base."""
    folder = folder_of(files)
    config = AutoConfig.from_pretrained(folder)
    if kind == "regression":
        config.num_labels, config.problem_type = 1, "regression"
    elif kind == "classification":
        config.id2label = dict(enumerate(classes))
        config.label2id = {name: index for index, name in enumerate(classes)}
        config.problem_type = "single_label_classification"
    elif kind == "span":
        config.num_labels = 2
    model, report = _open(folder, config, kind)
    prefix = f"{model.base_model_prefix}."
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
        return AUTO_CLASS[kind].from_config(config)


def _open(folder: Path, config: PreTrainedConfig, kind: Kind) -> tuple[PreTrainedModel, dict]:
    with reading(folder / "model.safetensors", SafetensorError):
        return AUTO_CLASS[kind].from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )


def write_model(model: PreTrainedModel, config: Path, weights: Path) -> None:
    """Write config.json and model.safetensors, each under a temporary name first."""
    with tempfile.TemporaryDirectory(dir=_made(weights.parent), prefix=".partial-") as folder:
        try:
            model.save_pretrained(folder, max_shard_size="1TB")
        except SafetensorError as error:  # a full disk, mostly
            raise UserError(f"{weights}: cannot be written: {error}") from error
        for name, path in (("model.safetensors", weights), ("config.json", config)):
            with atomic(path) as temporary:
                (Path(folder) / name).replace(temporary)


def write_compact(model: PreTrainedModel, config: Path, weights: Path, code: Path) -> None:
    """Write a model for others to open: in transformers' own class where its shape is uniform.

    Otherwise config.json names the classes of `code`, a copy of core/structure.py, so that the folder opens with
    `trust_remote_code=True` where espalier is not installed. The file lies beside a stock model too, and is not used.
    """
    if model.config.model_type.startswith("compact-"):
        if (stock := as_stock(model)) is not None:
            model = stock
        else:
            classes = {"AutoConfig": type(model.config), auto_class(model).__name__: type(model)}
            model.config.auto_map = {name: f"{structure.MODULE}.{kind.__name__}" for name, kind in classes.items()}
    write_model(model, config, weights)
    with atomic(code) as temporary:
        shutil.copyfile(structure.__file__, temporary)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def forward(
    model: nn.Module,
    batch: Batch,
    representation: Representation | None = None,
    hidden_states: bool = False,
    relations: Recording | None = None,
) -> Outputs:
    """One forward pass; where labels are masked tokens, the head computes these alone.

    Args:
        model: with a head.
        batch: padded rows.
        representation: which vector of each row to give, if any.
        hidden_states: give the outputs of all encoder layers.
        relations: give the scores of all attention layers and these embeddings, or the maps of all heads.
    """
    states = hidden_states or representation is not None
    with _asked_for(model, batch.masked), recorded(model, relations) if relations else nullcontext() as found:
        raw = model(**batch.inputs(), output_hidden_states=states)
    vectors = pool(raw.hidden_states[-1], batch.attention_mask, representation) if representation else None
    return Outputs(
        logits=_logits(raw, batch),
        representation=vectors,
        hidden_states=tuple(raw.hidden_states[1:]) if hidden_states else (),
        embedding=found.embedding if relations else None,
        attention=tuple(found.attention) if relations else (),
        maps=tuple(found.maps or ()) if relations else (),
    )


def _logits(raw: ModelOutput, batch: Batch) -> Float[Tensor, "rows classes"]:
    if batch.allowed is not None:
        return place_logits(raw.start_logits, raw.end_logits, batch.allowed)
    return raw.logits if batch.masked is None else raw.logits.squeeze(0)


@contextmanager
def _asked_for(model: nn.Module, masked: Bool[Tensor, "batch length"] | None) -> Iterator[None]:
    """Let the head see the masked tokens only, as one row: logits of every token would need gigabytes.

    Heads for masked-language modelling take each token by itself, so their logits are the same numbers.
    """
    if masked is None:
        yield
        return

    def gather(module: nn.Module, arguments: object, outputs: ModelOutput) -> ModelOutput:
        outputs.last_hidden_state = outputs.last_hidden_state[masked].unsqueeze(0)
        return outputs

    handle = model.base_model.register_forward_hook(gather)
    try:
        yield
    finally:
        handle.remove()


def pool(
    hidden: Float[Tensor, "batch length hidden"], mask: Int[Tensor, "batch length"], how: Representation
) -> Float[Tensor, "batch hidden"]:
    """The first token's state, or the mean over the real tokens."""
    if how == "first-token":
        return hidden[:, 0]
    real = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * real).sum(dim=1) / real.sum(dim=1)
