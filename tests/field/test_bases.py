"""Bases as people have them: what others report of such folders, in small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PreTrainedModel

from espalier.data.span_windows import Cutting, write_windows
from espalier.data.tokenizer import open_tokenizer, write_tokens
from espalier.models.files import open_base, write_model
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json
from espalier.stages.data import fetch
from tests import tiny

OUTPUTS = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "source.json")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "tree", "in", "berlin", "##s", "caf", "##e"]
CASED = [*WORDS, "Berlin", "Tree"]
TEXTS = [
    "a small tree stands in the wood",
    "the wood is old and dark",
    "small birds sing in the tree",
    "Die alten Bäume in Berlin",
]


def write(folder: Path, model: PreTrainedModel, vocabulary: list[str] | None = None, **settings: Any) -> Path:
    """A base whose tokenizer is a vocab.txt, with settings beside it if there are any."""
    model.save_pretrained(folder)
    if vocabulary:
        (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def get(base: Path, out: Path | None = None) -> Path:
    """The folder of a base after it was fetched."""
    out = out or base.parent / f"{base.name}-fetched"
    paths = {Path(name).stem.replace("model", "weights"): out / name for name in OUTPUTS}
    fetch.run(json.dumps({"base": {"source": "local", "path": str(base)}}), **paths)
    return out


def tokens_of(folder: Path, text: str) -> list[str]:
    """What the next stages, and whoever takes a model away, get of a text."""
    tokenizer = open_tokenizer([folder / "tokenizer.json", folder / "tokenizer_config.json"], 16)
    assert AutoTokenizer.from_pretrained(folder)(text) == tokenizer(text)
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


# A base that already is a classifier.


@pytest.mark.parametrize(("before", "after"), [(3, 2), (5, 3), (2, 1), (3, 3)])
@pytest.mark.parametrize("variant", ["roberta", "bert", "distilbert"])
def test_a_base_with_a_classifier_is_fine_tuned_on_other_labels(tmp_path, variant, before, after):
    """huggingface/transformers#14218, huggingface/transformers#11545, ThilinaRajapakse/simpletransformers#1370: the size of
    the classifier does not fit. Own audit: where it fits, the old one was kept."""
    model = tiny.encoder(variant, num_labels=before)
    model.save_pretrained(tmp_path)
    kind, classes = ("regression", None) if after == 1 else ("classification", list("abc"[:after]))
    again = open_base([tmp_path / "config.json", tmp_path / "model.safetensors"], kind, classes)
    assert again.num_labels == after and len(again.config.id2label) == after
    last = [list(each.parameters())[-2] for each in (model, again)]
    assert last[0].shape != last[1].shape or not torch.equal(*last)


# Token types.


def typed(base: Path) -> bool:
    """Whether training rows, windows and the saved tokenizer have token types: all of them, or none."""
    out = get(base)
    tokenizer = open_tokenizer([out / "tokenizer.json", out / "tokenizer_config.json"], 16)
    row = {"text_a": "a tree", "text_b": "in berlin", "label": 0}
    pq.write_table(pa.Table.from_pylist([row]), base / "rows.parquet")
    write_tokens(tokenizer, 16, base / "rows.parquet", base / "tokens.parquet")

    answers = {"text": ["berlin"], "answer_start": [3]}
    pq.write_table(pa.Table.from_pylist([{**row, "answers": answers, "id": "x"}]), base / "asked.parquet")
    write_windows(tokenizer, Cutting(12, 2, 4), base / "asked.parquet", base / "windows.parquet")

    said = {"token_type_ids" in pq.read_schema(base / name).names for name in ("tokens.parquet", "windows.parquet")}
    said.add("token_type_ids" in AutoTokenizer.from_pretrained(out)("a tree", "in berlin"))
    assert len(said) == 1
    return said.pop()


def test_a_tokenizer_of_a_generic_class_on_a_bert_base(tmp_path):
    """Own audit: pairs were trained without token types, which the exported model was then given."""
    assert typed(tiny.write_base(tmp_path / "base"))
    out = tmp_path / "base-fetched"
    assert AutoTokenizer.from_pretrained(out)("word1", "word2")["token_type_ids"] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("names", [["input_ids"], ["input_ids", "attention_mask"], ["input_ids", "token_type_ids"]])
def test_settings_that_name_other_inputs_than_the_model_reads(tmp_path, names):
    """huggingface/optimum#1758, huggingface/optimum#1500: the tokenizer's class decides, and the model reads something else."""
    assert typed(
        write(tmp_path / "bert", tiny.encoder("bert"), WORDS, tokenizer_class="BertTokenizer", model_input_names=names)
    )
    distilbert = write(tmp_path / "distilbert", tiny.encoder("distilbert"), WORDS, model_input_names=names)
    assert not typed(distilbert)


@pytest.mark.parametrize("settings", [{"type_vocab_size": 1}, {"type_vocab_size": 2}, {"type_vocab_size": 4}])
def test_the_number_of_token_types_decides(tmp_path, settings):
    """huggingface/transformers#48128: whether a tokenizer gives token types depends on the version of its class."""
    base = write(tmp_path / "base", tiny.encoder("electra", **settings), WORDS, tokenizer_class="BertTokenizer")
    assert typed(base) == (settings["type_vocab_size"] > 1)


def test_a_key_that_no_model_reads_gives_no_token_types(tmp_path):
    """Own audit: a config.json that was converted from BERT's may have BERT's keys."""
    base = write(tmp_path / "base", tiny.encoder("distilbert"), WORDS)
    (base / "config.json").write_text(json.dumps(read_json(base / "config.json") | {"type_vocab_size": 2}))
    assert not typed(base)


def test_padding_is_on_the_right_as_in_training(tmp_path):
    """huggingface/optimum#1500 is of the same kind: what training had is not what the saved tokenizer gives. Own audit."""
    base = write(tmp_path / "base", tiny.encoder("bert"), WORDS, padding_side="left", tokenizer_class="BertTokenizer")
    rows = AutoTokenizer.from_pretrained(get(base))(["a", "a tree in"], padding=True)
    assert rows["attention_mask"][0] == [1, 1, 1, 0, 0]


def test_a_tokenizer_without_a_padding_token_gets_the_model_s(tmp_path):
    """Own audit: the card's `padding=True` would fail."""
    base = tiny.write_base(tmp_path / "base")
    settings = {key: value for key, value in read_json(base / "tokenizer_config.json").items() if key != "pad_token"}
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    assert AutoTokenizer.from_pretrained(get(base)).pad_token == "[PAD]"


# The case of texts.


@pytest.mark.parametrize("variant", ["bert", "electra", "distilbert"])
@pytest.mark.parametrize(
    ("vocabulary", "settings", "tokens"),
    [
        (CASED, {}, ["a", "Tree", "in", "Berlin"]),
        (CASED, {"model_max_length": 40}, ["a", "Tree", "in", "Berlin"]),
        (CASED, {"do_lower_case": True}, ["a", "tree", "in", "berlin"]),
        (WORDS, {}, ["a", "tree", "in", "berlin"]),
        (WORDS, {"do_lower_case": False}, ["a", "[UNK]", "in", "[UNK]"]),
        ([*WORDS, "[E1]", "<URL>"], {}, ["a", "tree", "in", "berlin"]),
        ([*WORDS, "##S"], {}, ["a", "[UNK]", "in", "[UNK]"]),
    ],
)
def test_a_cased_vocabulary_alone_is_not_lower_cased(tmp_path, variant, vocabulary, settings, tokens):
    """huggingface/transformers#343, huggingface/transformers#3823, dmis-lab/biobert-pytorch#24, allenai/scibert#79: without
    settings the tokenizer of a cased model lower-cases."""
    base = write(tmp_path / "base", tiny.encoder(variant), vocabulary, **settings)
    assert tokens_of(get(base), "a Tree in Berlin")[1:-1] == tokens


@pytest.mark.parametrize("settings", [{}, {"tokenizer_class": "BertTokenizer"}, {"tokenizer_class": "BertTokenizerFast"}])
@pytest.mark.parametrize("lower", [True, False])
def test_tokenizer_json_says_the_case_where_the_settings_do_not(tmp_path, lower, settings):
    """emilyalsentzer/clinicalBERT#26 is the same kind; own audit: the class builds its own normaliser."""
    base = write(tmp_path / "first", tiny.encoder("bert"), CASED, do_lower_case=lower, strip_accents=False)
    again = write(tmp_path / "again", tiny.encoder("bert"))
    (again / "tokenizer.json").write_bytes((get(base) / "tokenizer.json").read_bytes())
    (again / "tokenizer_config.json").write_text(json.dumps(settings))
    assert tokens_of(get(again), "Tree Café")[1:] == (["tree", "[UNK]", "[SEP]"] if lower else ["Tree", "[UNK]", "[SEP]"])


# A sentencepiece file alone.


def spm(folder: Path, name: str, **pieces: Any) -> sentencepiece.SentencePieceProcessor:
    """Train a sentencepiece model on a few texts; returns it."""
    folder.mkdir(exist_ok=True)
    (folder / "texts").write_text("\n".join(TEXTS * 20))
    names = {"input": str(folder / "texts"), "model_prefix": str(folder / "trained"), "vocab_size": 50, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(**names, hard_vocab_limit=False, **pieces)
    (folder / "trained.model").rename(folder / name)
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / name))


@pytest.mark.parametrize(
    ("variant", "name", "pieces", "offset", "ends"),
    [
        (
            *("deberta-v2", "spm.model"),
            {
                **{"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]"},
                **{"bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
            },
            *(0, ("[CLS]", "[SEP]")),
        ),
        ("xlm-roberta", "sentencepiece.bpe.model", {}, 1, ("<s>", "</s>")),
        ("camembert", "sentencepiece.bpe.model", {}, 4, ("<s>", "</s>")),
    ],
)
def test_a_base_with_a_sentencepiece_file_alone(tmp_path, variant, name, pieces, offset, ends):
    """microsoft/DeBERTa#117, microsoft/DeBERTa#70, huggingface/transformers#14470: such a tokenizer cannot be loaded."""
    types = {} if variant == "deberta-v2" else {"type_vocab_size": 1}
    base = write(tmp_path / "base", tiny.encoder(variant, pad_token_id=0 if variant == "deberta-v2" else 1, **types).base_model)
    model = spm(base, name, **pieces)
    out = get(base)
    tokenizer = AutoTokenizer.from_pretrained(out)
    for text in (*TEXTS, "a tree of Bäume"):
        ids = tokenizer(text)["input_ids"]
        wanted = [tokenizer.unk_token_id if piece == model.unk_id() else piece + offset for piece in model.encode(text)]
        assert ids[1:-1] == wanted and tuple(tokenizer.convert_ids_to_tokens([ids[0], ids[-1]])) == ends
    assert not typed(base)


# Old names, and weights that do not fit.


def test_old_names_of_layernorms_are_read_and_not_written(tmp_path):
    """huggingface/transformers#11809, huggingface/candle#1888: LayerNorm.gamma and LayerNorm.beta in files of today."""
    base = tiny.write_base(tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    old = {name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): each for name, each in tensors.items()}
    save_file(old, base / "model.safetensors", metadata={"format": "pt"})
    out = get(base)
    model = open_base([out / "config.json", out / "model.safetensors"], "classification", ["a", "b"])
    write_model(model, tmp_path / "config.json", tmp_path / "model.safetensors")
    written = load_file(tmp_path / "model.safetensors")
    assert not [name for name in written if "gamma" in name or "beta" in name]
    norm = "embeddings.LayerNorm.weight"
    assert torch.equal(written[f"bert.{norm}"], tensors[norm])


def with_more_tokens(base: Path) -> None:
    content = read_json(base / "tokenizer.json")
    content["added_tokens"].append({**content["added_tokens"][0], "id": 64, "content": "[NEW]"})
    (base / "tokenizer.json").write_text(json.dumps(content))


def with_a_token_far_away(base: Path) -> None:
    content = read_json(base / "tokenizer.json")
    content["model"]["vocab"] = {**content["model"]["vocab"], "word59": 700}
    (base / "tokenizer.json").write_text(json.dumps(content))


def with_a_larger_vocab_size(base: Path) -> None:
    (base / "config.json").write_text(json.dumps(read_json(base / "config.json") | {"vocab_size": 65}))
    with_more_tokens(base)


def with_fewer_layers(base: Path) -> None:
    (base / "config.json").write_text(json.dumps(read_json(base / "config.json") | {"num_hidden_layers": 1}))


def with_more_layers(base: Path) -> None:
    (base / "config.json").write_text(json.dumps(read_json(base / "config.json") | {"num_hidden_layers": 3}))


def with_a_pointer(base: Path) -> None:
    (base / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:53aa\nsize 90868376\n")


def with_an_unfinished_download(base: Path) -> None:
    (base / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:2000])


def with_quantised_weights(base: Path) -> None:
    settings = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (base / "config.json").write_text(json.dumps(read_json(base / "config.json") | {"quantization_config": settings}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_more_tokens, "the tokenizer has 65 tokens, but the model's vocab_size is 64"),
        (with_a_token_far_away, "the tokenizer's token 'word59' has the number 700, but vocab_size is 64"),
        (with_a_larger_vocab_size, "is of shape [64, 32]; by config.json it is of shape [65, 32]"),
        (with_fewer_layers, "holds 16 weights of the encoder that config.json, with its 1 layers, has no place for"),
        (with_more_layers, "lacks 16 weights of the encoder, such as"),
        (with_a_pointer, "model.safetensors is a pointer of Git LFS and not the file itself; 'git lfs pull' fetches that"),
        (with_an_unfinished_download, "the safetensors are damaged or incomplete"),
        (with_quantised_weights, "config.json: no model can be made of it"),
    ],
)
def test_weights_tokenizer_and_settings_that_do_not_fit(tmp_path, change, said):
    """huggingface/transformers#12763, EuroEval/EuroEval#52: ids beyond the embeddings. codefuse-ai/MFTCoder#20: HeaderTooLarge.
    Own audit: layers were dropped without a word."""
    base = tiny.write_base(tmp_path / "base")
    change(base)
    with pytest.raises(UserError) as error:
        get(base)
    assert said in str(error.value) and str(base) in str(error.value) and len(str(error.value).splitlines()) == 1


def test_the_same_base_in_another_folder_gives_the_same_files(tmp_path):
    """Own audit: a base that was moved trained everything again."""
    first = get(tiny.write_base(tmp_path / "first"), tmp_path / "one")
    second = get((tmp_path / "first").rename(tmp_path / "second"), tmp_path / "two")
    assert [name for name in OUTPUTS if (first / name).read_bytes() != (second / name).read_bytes()] == ["source.json"]
