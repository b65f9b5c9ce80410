"""Rows become token ids: cut, unpadded, with label and set beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import BertTokenizer

from espalier.config.job_specs import TokeniseSpec
from espalier.runtime.errors import UserError
from espalier.stages.data import tokenise

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]
CLS, SEP, A, B = 2, 3, 5, 6


def run(folder: Path, max_length: int, train: dict[str, Any], evaluation: dict[str, Any], **options: Any) -> list[pa.Table]:
    BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}, model_max_length=16, **options).save_pretrained(
        folder
    )
    for name, columns in (("train", train), ("evaluation", evaluation)):
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    tokenise.run(
        TokeniseSpec(kind="classification", max_length=max_length, stride=None, max_answer_length=None).model_dump_json(),
        tokenizer=[folder / "tokenizer.json", folder / "tokenizer_config.json"],
        train=folder / "train.parquet",
        evaluation=folder / "evaluation.parquet",
        tokens_train=folder / "tokens/train.parquet",
        tokens_evaluation=folder / "tokens/evaluation.parquet",
    )
    return [pq.read_table(folder / f"tokens/{name}.parquet") for name in ("train", "evaluation")]


def test_single_texts(tmp_path: Path) -> None:
    evaluation = {"text_a": ["b", "a"], "label": [1, 0], "set": ["validation", "selection"]}
    train, evaluated = run(tmp_path, 8, {"text_a": ["a b", "a " * 20], "label": [0, 1]}, evaluation)
    assert train["input_ids"].to_pylist() == [[CLS, A, B, SEP], [CLS, *[A] * 6, SEP]]
    assert train["label"].to_pylist() == [0, 1]
    assert train.schema.field("input_ids").type.value_type == pa.int32()
    assert train.schema.field("token_type_ids").type.value_type == pa.int8()
    assert evaluated.column_names == ["input_ids", "token_type_ids", "label", "set"]
    assert evaluated["set"].to_pylist() == ["validation", "selection"]


def test_pairs_lose_from_the_longer_text(tmp_path: Path) -> None:
    rows = {"text_a": ["a " * 12], "text_b": ["b b"], "label": [0.5]}
    train, _ = run(tmp_path, 8, rows, rows | {"set": ["validation"]})
    assert train["input_ids"].to_pylist() == [[CLS, A, A, A, SEP, B, B, SEP]]
    assert train["token_type_ids"].to_pylist() == [[0, 0, 0, 0, 0, 1, 1, 1]]
    assert train.schema.field("label").type == pa.float64()


def test_unlabelled_text_and_a_tokenizer_without_types(tmp_path: Path) -> None:
    names = ["input_ids", "attention_mask"]
    train, evaluated = run(tmp_path, 8, {"text_a": ["a"]}, {"text_a": ["b"], "set": ["validation"]}, model_input_names=names)
    assert train.column_names == ["input_ids"] and evaluated.column_names == ["input_ids", "set"]


def test_the_same_rows_give_the_same_file(tmp_path: Path) -> None:
    rows = {"text_a": ["a b", "c"], "label": [0, 1]}
    run(tmp_path, 8, rows, rows | {"set": ["validation"] * 2})
    first = (tmp_path / "tokens/train.parquet").read_bytes()
    run(tmp_path, 8, rows, rows | {"set": ["validation"] * 2})
    assert (tmp_path / "tokens/train.parquet").read_bytes() == first


def test_too_long_for_the_tokenizer(tmp_path: Path) -> None:
    rows = {"text_a": ["a"], "label": [0]}
    with pytest.raises(UserError, match=r"max_length: got 17; the tokenizer in .* takes at most 16 tokens"):
        run(tmp_path, 17, rows, rows | {"set": ["validation"]})
