"""The stage trim: a folder beside the compact one that has fewer words, opens alike and gives the same answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizer,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaTokenizer,
)

from espalier.config.deployment.embeddings import Factorise, KeptVocabulary
from espalier.config.deployment.specs import TrimSpec
from espalier.data.tokenizer import give_what_is_read
from espalier.models.files import write_compact
from espalier.models.modeling_espalier import shape_of
from espalier.pruning.parts import full_masks
from espalier.pruning.shrink import shrink
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json
from espalier.stages.models import trim
from tests import tiny

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["never", "used", "oak", "elm", "prune", "leaf", "root", "##less", "tree", "ash"]
VOCABULARY = [*SPECIAL, *WORDS[:2], *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS[2:]]
TRAIN = ["oaks pruned", "elm leaf", "rootless tree", "pruned elms"]
EVALUATION = ["pruned oaks", "elm tree", "never pruned"]
OUTPUTS = (
    "config.json",
    "model.safetensors",
    "modeling_espalier.py",
    "onnx/model.onnx",
    "tokenizer.json",
    "tokenizer_config.json",
)


def write_rows(folder: Path, pairs: bool = False) -> None:
    for name, texts in (("train", TRAIN), ("evaluation", EVALUATION)):
        columns: dict[str, Any] = {"text_a": texts, "set": ["validation"] * len(texts)}
        columns |= {"text_b": texts[::-1]} if pairs else {}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def write_folder(folder: Path, model, tokenizer) -> None:
    files = (folder / name for name in OUTPUTS[:3])
    write_compact(model, *files, {"task": "trees"})
    give_what_is_read(tokenizer, model.config, type(model))
    tokenizer.save_pretrained(folder)


def bert_folder(folder: Path, kind: str = "classification") -> Path:
    model = tiny.classifier(0, vocab_size=len(VOCABULARY))
    if kind == "text":
        torch.manual_seed(0)
        model = AutoModelForMaskedLM.from_config(tiny.config(vocab_size=len(VOCABULARY)))
    write_folder(folder, model.eval(), BertTokenizer(vocab={word: place for place, word in enumerate(VOCABULARY)}))
    return folder


def run(folder: Path, kind: str = "classification", pairs: bool = False, **wanted: Any) -> dict[str, Any]:
    write_rows(folder, pairs)
    spec = TrimSpec(**{"kind": kind, "max_length": 16, "vocabulary": None, "factorise": None, **wanted})
    places = {name: folder / "trimmed" / name for name in OUTPUTS}
    trim.run(
        spec.model_dump_json(),
        model=[folder / "config.json", folder / "model.safetensors"],
        tokenizer=[folder / "tokenizer.json", folder / "tokenizer_config.json"],
        train=folder / "train.parquet",
        evaluation=folder / "evaluation.parquet",
        config=places["config.json"],
        weights=places["model.safetensors"],
        code=places["modeling_espalier.py"],
        onnx=places["onnx/model.onnx"],
        tokenizer_json=places["tokenizer.json"],
        tokenizer_config=places["tokenizer_config.json"],
        sentences=[],
        report=folder / "trimmed/trim.json",
    )
    assert all(path.is_file() for path in places.values())
    return read_json(folder / "trimmed/trim.json")


def logits(folder: Path, *texts: str) -> torch.Tensor:
    """What whoever opens the folder gets for a text or a pair of texts."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(**tokenizer(*texts, return_tensors="pt")).logits


@pytest.mark.parametrize("pairs", [False, True])
def test_words_that_training_does_not_use_are_gone_and_answers_are_the_same(tmp_path: Path, pairs: bool) -> None:
    told = run(bert_folder(tmp_path), pairs=pairs, vocabulary=KeptVocabulary(keep="used"))

    # "never", "used" and "ash" are gone
    vocabulary = AutoTokenizer.from_pretrained(tmp_path / "trimmed").get_vocab()
    assert VOCABULARY[5:7] == ["never", "used"]
    assert {*VOCABULARY} - vocabulary.keys() == {"never", "used", "ash"}
    assert told["vocabulary"]["kept"] == len(VOCABULARY) - 3 == read_json(tmp_path / "trimmed/config.json")["vocab_size"]
    assert told["vocabulary"]["train"]["coverage"] == 1.0
    assert told["vocabulary"]["evaluation"]["covered"] == (len(EVALUATION) - 1) * (2 if pairs else 1)
    assert told["largest_difference"] == 0.0 and told["compared_rows"] == (1 if pairs else 2)

    for texts in (("pruned oaks",), ("rootless elms", "oak leaf")):
        assert torch.equal(logits(tmp_path, *texts), logits(tmp_path / "trimmed", *texts))
    # what is not covered is cut into single characters, none of them unknown
    tokens = AutoTokenizer.from_pretrained(tmp_path / "trimmed").tokenize("never ash")
    assert tokens == ["n", "##e", "##v", "##e", "##r", "a", "##s", "##h"]


def test_a_compact_student_is_trimmed_as_it_is(tmp_path: Path) -> None:
    bert_folder(tmp_path)
    model = tiny.classifier(0, vocab_size=len(VOCABULARY)).eval()
    masks = full_masks(shape_of(model.config))
    masks["layer.0.heads"][:2] = False
    small = shrink(model, masks)
    write_folder(tmp_path, small, BertTokenizer(vocab={word: place for place, word in enumerate(VOCABULARY)}))
    told = run(tmp_path, vocabulary=KeptVocabulary(coverage=1.0))
    assert told["largest_difference"] == 0.0
    assert torch.equal(logits(tmp_path, "pruned oaks"), logits(tmp_path / "trimmed", "pruned oaks"))
    # what whoever asks the model must know goes with it
    before, after = (read_json(folder / "config.json") for folder in (tmp_path, tmp_path / "trimmed"))
    assert after["espalier"] == before["espalier"] == {"task": "trees"} and after["auto_map"] == before["auto_map"]


def test_bytes_are_counted_before_and_after(tmp_path: Path) -> None:
    told = run(bert_folder(tmp_path), vocabulary=KeptVocabulary(keep="used"))
    for name in ("model.safetensors", "tokenizer.json"):
        sizes = told["bytes"][name]
        assert (
            sizes["before"] == (tmp_path / name).stat().st_size > sizes["after"] == (tmp_path / "trimmed" / name).stat().st_size
        )


def test_a_model_that_predicts_words_predicts_the_kept_ones(tmp_path: Path) -> None:
    told = run(bert_folder(tmp_path, "text"), kind="text", vocabulary=KeptVocabulary(keep="used"), factorise=Factorise(rank=4))
    assert told["largest_difference"] == 0.0 and told["compared_rows"] == 2
    # its output needs the whole table
    assert told["factorise"] is None
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "trimmed")
    assert model.get_output_embeddings().out_features == told["vocabulary"]["kept"]


def test_a_product_is_reported_with_its_error(tmp_path: Path) -> None:
    told = run(bert_folder(tmp_path), factorise=Factorise(rank=8))
    assert told["vocabulary"] is None
    assert told["factorise"]["rank"] == 8 and 0.0 < told["factorise"]["relative_error"] < 1.0
    assert told["largest_difference"] > 0.0
    assert read_json(tmp_path / "trimmed/config.json")["embedding_rank"] == 8
    assert (tmp_path / "trimmed/tokenizer.json").read_text() == (tmp_path / "tokenizer.json").read_text()


def test_a_table_that_a_product_would_not_make_smaller_stays(tmp_path: Path) -> None:
    told = run(bert_folder(tmp_path), factorise=Factorise(rank=30))
    assert told["factorise"] is None and told["largest_difference"] == 0.0
    assert "auto_map" not in read_json(tmp_path / "trimmed/config.json")


def test_a_vocabulary_too_small_for_its_fallback_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"deploy.vocabulary.tokens: got 20; .* are 57 tokens already"):
        run(bert_folder(tmp_path), vocabulary=KeptVocabulary(tokens=20))


def test_another_kind_of_tokenizer_is_refused(tmp_path: Path) -> None:
    tiny.write_base(tmp_path)
    write_compact(tiny.classifier(0).eval(), *(tmp_path / name for name in OUTPUTS[:3]))
    with pytest.raises(UserError, match="of the type WordLevel cannot be made smaller; supported: WordPiece, BPE, Unigram"):
        run(tmp_path, vocabulary=KeptVocabulary(keep="used"))


def roberta_folder(folder: Path) -> Path:
    """A byte-level tokenizer whose padding token has the number 1, from which positions are counted."""
    from tokenizers import pre_tokenizers

    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("o", "a"), ("oa", "k"), ("e", "l"), ("el", "m"), ("p", "r"), ("u", "n"), ("pr", "un"), ("n", "e"), ("ne", "v")]
    words = [first + second for first, second in merges]
    vocabulary = {token: place for place, token in enumerate([*specials, *words[-2:], *alphabet, *words[:-2], "<mask>"])}
    tokenizer = RobertaTokenizer(vocab=vocabulary, merges=merges)
    config = RobertaConfig(
        vocab_size=len(vocabulary) + 3,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
        num_labels=3,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    write_folder(folder, RobertaForSequenceClassification(config).eval(), tokenizer)
    return folder


def test_a_byte_level_tokenizer_keeps_its_merges_and_its_padding(tmp_path: Path) -> None:
    told = run(roberta_folder(tmp_path), vocabulary=KeptVocabulary(keep="used"))
    assert told["largest_difference"] == 0.0 and told["vocabulary"]["evaluation"]["different"] == 0

    written = json.loads((tmp_path / "trimmed/tokenizer.json").read_text())
    assert ["o", "a"] in written["model"]["merges"] and ["n", "e"] not in written["model"]["merges"]
    assert read_json(tmp_path / "trimmed/config.json")["pad_token_id"] == 1
    assert torch.equal(logits(tmp_path, "oak elm", "prune"), logits(tmp_path / "trimmed", "oak elm", "prune"))
