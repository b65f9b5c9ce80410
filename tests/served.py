"""Models in every format: their folders, and rows to ask them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from transformers import BertForMaskedLM, PreTrainedModel

from espalier.deployment.runtimes import FormatRunner, TokenArrays
from espalier.models.files import write_compact
from espalier.models.onnx import input_names, write_onnx
from tests import tagged, tiny

FILES = ("config.json", "model.safetensors", "modeling_espalier.py")


def write_folder(folder: Path, model: PreTrainedModel, base: Path | None = None) -> Path:
    """What `export` writes of a model; the tokenizer is that of a base."""
    write_compact(model, *(folder / name for name in FILES))
    write_onnx(model.eval(), folder / "onnx/model.onnx")
    for name in ("tokenizer.json", "tokenizer_config.json") if base else ():
        shutil.copyfile(base / name, folder / name)
    return folder


def models() -> dict[str, PreTrainedModel]:
    """Kind of task → a model of two layers whose logits are far apart."""
    torch.manual_seed(0)
    return {
        "classification": tiny.classifier(),
        "regression": tiny.classifier(classes=1),
        "span": tiny.answerer(),
        "tokens": tagged.tagger(),
        "text": BertForMaskedLM(tiny.config(initializer_range=0.3)),
    }


def asked(model: PreTrainedModel, rows: int = 64, seed: int = 0) -> list[TokenArrays]:
    """Rows of words, each as a batch of its own."""
    generator = np.random.default_rng(seed)
    names, batches = input_names(model), []
    for _ in range(rows):
        ids = generator.integers(4, 60, (1, generator.integers(4, 32)))
        known = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        batches.append({name: known[name] for name in names})
    return batches


def padded(batches: list[TokenArrays]) -> TokenArrays:
    """The same rows as one batch."""
    longest = max(batch["input_ids"].shape[1] for batch in batches)
    return {name: np.concatenate([_wide(batch[name], longest) for batch in batches]) for name in batches[0]}


def _wide(array: np.ndarray, length: int) -> np.ndarray:
    return np.pad(array, [(0, 0), (0, length - array.shape[1])])


def gap(runner: FormatRunner, expected: FormatRunner, batches: list[TokenArrays]) -> float:
    """Mean distance of the outputs at real tokens, as a fraction of how far the expected ones are spread."""
    own, wanted = ([_real(run(batch), batch) for batch in batches] for run in (runner, expected))
    own, wanted = np.concatenate(own), np.concatenate(wanted)
    return float(np.abs(own - wanted).mean() / wanted.std())


def _real(outputs: dict[str, np.ndarray], batch: TokenArrays) -> np.ndarray:
    """All outputs of a batch in one line, those of padding left out."""
    real = batch["attention_mask"].astype(bool)
    chosen = [array[real] if array.shape[:2] == real.shape else array for array in outputs.values()]
    return np.concatenate([array.reshape(-1) for array in chosen])
