"""A fine-tuned checkpoint of one's own as a teacher: complete, of the base's architecture, its classes in the task's order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from espalier.config.blocks import shortened
from espalier.config.kinds import KIND_RULES, Kind
from espalier.config.teachers.matching import architecture_problem, class_names_in, class_order
from espalier.config.training import Matching
from espalier.models.files import encoder_problem, folder_of, open_with_report
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json

UNCOMPARED = ("truncation", "padding", "version")
"""Parts of tokenizer.json that say nothing about the tokens of a text."""


def check_architecture(checkpoint: Sequence[Path], base: Sequence[Path]) -> None:
    """See that a checkpoint has the architecture and the tokenizer of the base that students are made of.

    Args:
        checkpoint: its config.json, model.safetensors and tokenizer.json.
        base: the base's config.json and tokenizer.json.

    Raises:
        UserError: it has not.
    """
    own, wanted = (AutoConfig.from_pretrained(_file(files, "config.json").parent).to_dict() for files in (checkpoint, base))
    if problem := architecture_problem(own, wanted):
        raise UserError(f"{_file(checkpoint, 'config.json')}: {problem}")
    tokenizers = [read_json(_file(files, "tokenizer.json")) for files in (checkpoint, base)]
    if problem := _tokenizer_problem(*tokenizers):
        raise UserError(
            f"{_file(checkpoint, 'tokenizer.json')}: the checkpoint's tokenizer is not the base's, by which all rows are "
            f"tokenised: {problem}; name the base that was fine-tuned, or leave bases out"
        )


def _file(files: Sequence[Path], name: str) -> Path:
    return next(file for file in files if file.name == name)


def _tokenizer_problem(own: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """Where two tokenizers differ, if they do."""
    ours, theirs = (_vocabulary(tokenizer) for tokenizer in (own, wanted))
    if len(ours) != len(theirs):
        return f"it has {len(ours):,} tokens, the base's has {len(theirs):,}"
    if different := next((place for place, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]), None):
        return f"token {different} is {shortened(ours[different])}, in the base's it is {shortened(theirs[different])}"

    parts = [part for part in own.keys() | wanted.keys() if part not in UNCOMPARED]
    differing = sorted(part for part in parts if own.get(part) != wanted.get(part))
    return f"they differ in {', '.join(differing)}" if differing else None


def _vocabulary(tokenizer: dict[str, Any]) -> list[str]:
    """The tokens in the order of their ids."""
    vocabulary = tokenizer["model"]["vocab"]
    if isinstance(vocabulary, dict):
        return sorted(vocabulary, key=vocabulary.__getitem__)
    return [str(entry[0]) for entry in vocabulary]


def open_own_teacher(files: Sequence[Path], kind: Kind, classes: Sequence[str] | None, matching: Matching) -> PreTrainedModel:
    """A fine-tuned checkpoint with its head; the head's outputs stand in the order of the task's classes.

    Args:
        files: config.json and model.safetensors of the checkpoint.
        kind: of the task; the head must be one of this kind.
        classes: the task's classes in order, where it has any.
        matching: whether classes are matched by their names or by their places.

    Raises:
        UserError: weights are missing or of another shape, or the head is not the task's.
    """
    folder = folder_of(files)
    config = AutoConfig.from_pretrained(folder)
    model, report = open_with_report(folder, config, kind)
    _check_weights(folder, model, report, kind)

    rules = KIND_RULES[kind]
    head = rules.head(classes)
    if not rules.named_classes and config.num_labels != head.get("num_labels", config.num_labels):
        wanted = head["num_labels"]
        raise UserError(f"{folder}: the head has {config.num_labels} outputs; a task of kind {kind} has {wanted}")
    if rules.named_classes:
        own = class_names_in(config.to_dict()) or [f"LABEL_{place}" for place in range(config.num_labels)]
        try:
            order = class_order(own, classes or (), by_position=matching == "by-position")
        except ValueError as error:
            raise UserError(f"{folder}/config.json: {error}") from None
        reorder_outputs(model, order)

    for name, value in head.items():
        setattr(model.config, name, value)
    return model


def _check_weights(folder: Path, model: PreTrainedModel, report: dict[str, Any], kind: Kind) -> None:
    """Refuse a checkpoint without all weights of encoder and head; heads of other kinds beside it are left out, and named."""
    if problem := encoder_problem(model, report):
        raise UserError(f"{folder}/{problem}")
    if missing := sorted(report["missing_keys"]):
        made_for = ", ".join(getattr(model.config, "architectures", None) or ["nothing"])
        raise UserError(
            f"{folder}/model.safetensors lacks {len(missing)} weights of the head, such as {missing[0]!r}: it was saved as "
            f"{made_for}, and kind {kind} needs {KIND_RULES[kind].auto_class}; a checkpoint without that head is a base, which "
            "teacher.source finetune trains"
        )
    if wrong := sorted(report["mismatched_keys"]):
        name, got, wanted = wrong[0]
        raise UserError(
            f"{folder}/model.safetensors: {name} is of shape {list(got)}; by config.json it is of shape {list(wanted)}"
        )
    if left := sorted(report["unexpected_keys"]):
        print(f"{folder}: {len(left)} weights have no place in the model and are left out, such as {left[0]}")


@torch.no_grad()
def reorder_outputs(model: PreTrainedModel, order: Sequence[int]) -> None:
    """Put the outputs of a model's head into another order, in place.

    Args:
        model: with a head whose last linear map has an output a class.
        order: for each new place the old one.

    Raises:
        UserError: the head has no such map, or its outputs are not those in the new order.
    """
    if list(order) == list(range(len(order))):
        return
    heads = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and not name.startswith(f"{model.base_model_prefix}.")
        and module.out_features == len(order)
    ]
    before = _some_logits(model)

    # z' = P (W h + b) = (P W) h + P b: the rows of weight and bias are permuted
    for parameter in heads[-1].parameters() if heads else ():
        parameter.copy_(parameter[list(order)])
    if not heads or not torch.equal(_some_logits(model), before[..., list(order)]):
        raise UserError(f"the outputs of a {type(model).__name__} cannot be put into the order of the task's classes")


def _some_logits(model: PreTrainedModel) -> Tensor:
    """Logits of two rows of some tokens."""
    ids = torch.arange(5, 5 + 2 * 8).view(2, 8) % model.config.vocab_size
    return model.eval()(input_ids=ids).logits
