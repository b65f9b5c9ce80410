"""A two-layer BERT with its tokenizer and a task of a few rows: everything real, nothing large."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate import Accelerator
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

WORDS = [f"word{index}" for index in range(60)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def config(**changes: object) -> BertConfig:
    shape = {
        "vocab_size": len(SPECIAL) + len(WORDS),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 40,
        "pad_token_id": 0,
    }
    return BertConfig(**{**shape, **changes})


def classifier(seed: int = 0, classes: int = 3, **changes: object) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    return BertForSequenceClassification(config(num_labels=classes, initializer_range=0.3, **changes))


def write_base(folder: Path) -> Path:
    """A pre-trained base: config.json, model.safetensors, tokenizer."""
    torch.manual_seed(7)
    BertModel(config(initializer_range=0.2)).save_pretrained(folder)
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(SPECIAL + WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=40, **names).save_pretrained(folder)
    return folder


def write_task(folder: Path, rows: int = 64, kind: str = "classification", seed: int = 0) -> Path:
    """Tokenised rows whose class is the third of the vocabulary that their words come from (with noise)."""
    folder.mkdir(parents=True, exist_ok=True)
    for offset, (name, count) in enumerate((("train", rows), ("evaluation", rows // 2))):
        generator = np.random.default_rng(seed + offset)
        labels = np.arange(count) % 3
        ids = [[2, *(4 + 20 * label + generator.integers(0, 20, generator.integers(3, 12))).tolist(), 3] for label in labels]
        columns = {
            "input_ids": pa.array(ids, pa.list_(pa.int32())),
            "token_type_ids": pa.array([[0] * len(row) for row in ids], pa.list_(pa.int8())),
            "label": pa.array(labels, pa.int64()) if kind == "classification" else pa.array(labels / 2.0, pa.float64()),
        }
        if name == "evaluation":
            columns["set"] = pa.array(["validation"] * count)
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    classes = ["low", "middle", "high"] if kind == "classification" else None
    (folder / "task.json").write_text(json.dumps({"kind": kind, "classes": classes, "sets": ["validation"]}))
    return folder


def accelerator() -> Accelerator:
    return Accelerator(cpu=True, mixed_precision="no")
