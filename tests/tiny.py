"""A two-layer BERT with its tokenizer and a task of a few rows, and a small encoder of each family: all real, none large."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate import Accelerator
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from espalier.config.data import Task
from espalier.config.job_specs import PrepareSpec, TokeniseSpec
from espalier.data.span_windows import Cutting, write_windows
from espalier.data.tokenizer import open_tokenizer
from espalier.kinds.base import task_kind
from espalier.models.classes import model_class
from espalier.models.modeling_espalier import FAMILIES
from espalier.training.loop import Loop

WORDS = [f"word{index}" for index in range(60)]
THIRDS = ["low", "middle", "high"]
"""Classes of the words, a third of them each."""
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]

_DEBERTA = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
    "position_buckets": 8,
    "type_vocab_size": 0,
    "position_biased_input": False,
}
_MODERNBERT = {"global_attn_every_n_layers": 3, "local_attention": 8}
_BIASES = dict.fromkeys(("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"), True)
_SMALLER = {"initializer_range": 0.1}
"""With larger weights these models are so ill-conditioned that fp32 itself is off by 2e-4 and more."""
VARIANTS: dict[str, tuple[str, dict]] = {
    "bert": ("bert", {}),
    "roberta": ("roberta", {}),
    "xlm-roberta": ("xlm-roberta", {}),
    "camembert": ("camembert", {}),
    "electra": ("electra", {"embedding_size": 32}),
    "electra, projected": ("electra", {"embedding_size": 16}),
    "deberta-v2": ("deberta-v2", {**_DEBERTA, "share_att_key": False}),
    "deberta-v2, shared keys": ("deberta-v2", {**_DEBERTA, "share_att_key": True}),
    "distilbert": ("distilbert", {}),
    "modernbert": ("modernbert", _MODERNBERT),
    "modernbert, biases": ("modernbert", {**_MODERNBERT, **_BIASES}),
    "nomic_bert": ("nomic_bert", _SMALLER),
    "gte": ("gte", {"type_vocab_size": 2, **_SMALLER}),
    "gte, no token types": ("gte", {"type_vocab_size": 0, **_SMALLER}),
}
"""A row for each way in which a supported family is built: model type and what its configuration says besides sizes."""
WHOLE_HEADS: dict[str, tuple[str, dict]] = {"mpnet": ("mpnet", _SMALLER)}
"""As VARIANTS: families whose layers keep all of their heads or none (tests/unit/test_whole_heads.py)."""
EVERY = VARIANTS | WHOLE_HEADS
_DISTILBERT = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
}


def encoder(variant: str, seed: int = 0, **changes: object) -> PreTrainedModel:
    """A three-layer classifier of four heads, 24 units and 32 dimensions in eval mode, every parameter large and random."""
    family, extra = EVERY[variant]
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24}
    if family == "distilbert":
        sizes = {_DISTILBERT[name]: size for name, size in sizes.items()}
    common = {"vocab_size": 60, "max_position_embeddings": 40, "num_labels": 3, "initializer_range": 0.5}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    config = FAMILIES[family].config(**{**sizes, **common, **tokens, **extra, **changes})
    torch.manual_seed(seed)
    return randomised(model_class(config)(config))


@torch.no_grad()
def randomised(model: PreTrainedModel) -> PreTrainedModel:
    """In eval mode, with every parameter large and random, so that none is 0 or 1 and errors show."""
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def padded_batch() -> dict[str, torch.Tensor]:
    """Three rows of 17 tokens, of which the second ends after 10."""
    ids = torch.randint(3, 60, (3, 17), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    mask[1, 10:] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


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


def answerer(seed: int = 0, **changes: object) -> BertForQuestionAnswering:
    torch.manual_seed(seed)
    return BertForQuestionAnswering(config(initializer_range=0.3, **changes))


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


def span_rows(count: int, seed: int) -> list[dict]:
    """Questions that name a third of the vocabulary; the answer is where the context's words come from it."""
    generator, rows = np.random.default_rng(seed), []
    for number in range(count):
        third, words = number % 3, generator.integers(8, 24)
        others = [WORDS[20 * ((third + 1 + generator.integers(2)) % 3) + generator.integers(20)] for _ in range(words)]
        answer = [WORDS[20 * third + generator.integers(20)] for _ in range(generator.integers(1, 4))]
        place = generator.integers(words)
        before = "".join(f"{word} " for word in others[:place])
        context, text = before + " ".join([*answer, *others[place:]]), " ".join(answer)
        row = {"text_a": WORDS[20 * third], "text_b": context, "answers": {"text": [text], "answer_start": [len(before)]}}
        rows.append({**row, "id": f"{seed}-{number}"})
    return rows


def write_span_task(folder: Path, rows: int = 64, seed: int = 0) -> Path:
    """Tokenised windows of 16 tokens, in which half of the contexts do not fit."""
    base = write_base(folder / "base")
    encoder = open_tokenizer([base / "tokenizer.json"], 16)
    for offset, (name, count) in enumerate((("train", rows), ("evaluation", rows // 2))):
        found = [row | ({"set": "validation"} if name == "evaluation" else {}) for row in span_rows(count, seed + offset)]
        pq.write_table(pa.Table.from_pylist(found), folder / f"{name}-rows.parquet")
        write_windows(encoder, Cutting(16, 6, 8), folder / f"{name}-rows.parquet", folder / f"{name}.parquet")
    (folder / "task.json").write_text(json.dumps({"kind": "span", "classes": None, "sets": ["validation"]}))
    return folder


def accelerator() -> Accelerator:
    return Accelerator(cpu=True, mixed_precision="no")


def weights_of(loop: Loop) -> dict[str, torch.Tensor]:
    """A copy of the student's weights as they are now."""
    return {name: tensor.clone() for name, tensor in loop.student.state_dict().items()}


def equal(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    """Whether both have the same names and, under each, the same bits."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def halted(loop: Loop, step: int) -> Loop:
    """Run to the beginning of a step."""
    one_step = loop._one_step

    def stop_at(picked: np.ndarray) -> None:
        if loop.step == step:
            raise InterruptedError
        one_step(picked)

    loop._one_step = stop_at
    with pytest.raises(InterruptedError):
        loop.run()
    return loop


def label_set_rows(count: int, seed: int) -> list[dict]:
    """A title and a body whose words come from some thirds of the vocabulary, which are the labels; a row may have none."""
    generator, rows = np.random.default_rng(seed), []
    for _ in range(count):
        thirds = [third for third in range(3) if generator.random() < 0.4]
        words = [WORDS[20 * third + number] for third in thirds for number in generator.integers(0, 19, 3)]
        # the last word of each third says nothing
        words += [WORDS[20 * third + 19] for third in generator.integers(0, 3, 2)]
        mixed = [words[place] for place in generator.permutation(len(words))]
        rows.append({"title": mixed[0], "body": " ".join(mixed[1:]), "labels": [THIRDS[third] for third in thirds]})
    return rows


def ranking_rows(queries: int, seed: int, texts: int = 4) -> list[dict]:
    """Queries with texts of a title and a body; the grade, 0 to 2, is how many of both have words of the first third."""
    generator, rows = np.random.default_rng(seed), []
    for query in range(queries):
        names = {"id": f"q{seed}-{query}", "query": WORDS[generator.integers(20)]}
        for grade in generator.integers(0, 3, texts):
            thirds = [0 if part < grade else generator.integers(1, 3) for part in range(2)]
            words = [" ".join(WORDS[20 * third + number] for number in generator.integers(0, 20, 3)) for third in thirds]
            rows.append({**names, "title": words[0], "body": words[1], "grade": int(grade)})
    return rows


def write_rows_task(folder: Path, kind: str, rows: int = 64, seed: int = 0, **changes: object) -> Path:
    """A task of a kind whose rows the stages `prepare` and `tokenise` make from files: 0 and 1 of classes, or grades."""
    base, columns = write_base(folder / "base"), {"train": "train.jsonl", "validation": "validation.jsonl"}
    for offset, (name, file) in enumerate(columns.items()):
        count = rows if name == "train" else rows // 2
        made = label_set_rows(count, seed + offset) if kind == "multilabel" else ranking_rows(count // 4, seed + offset)
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in made))
    own = {
        "multilabel": {"text": ["title", "body"], "label": "labels", "metric": "micro-f1"},
        "ranking": {"text": ["query", "title", "body"], "label": "grade", "query": "id", "metric": "ndcg@10"},
    }[kind]
    files = {name: str(folder / file) for name, file in columns.items()}
    task = Task.model_validate({"kind": kind, "source": "files", **files, "max_length": 16, **own, **changes})

    paths = {name: folder / f"{name}-rows.parquet" for name in ("train", "evaluation")}
    card = task_kind(kind).prepare(PrepareSpec(name="mine", task=task), **paths)
    (folder / "task.json").write_text(json.dumps(card))
    encoder = open_tokenizer([base / "tokenizer.json"], 16)
    for name, path in paths.items():
        settings = TokeniseSpec(kind=kind, max_length=16, stride=None, max_answer_length=None)
        task_kind(kind).tokenise(encoder, settings, path, folder / f"{name}.parquet")
    return folder
