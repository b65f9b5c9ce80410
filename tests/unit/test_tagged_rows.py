"""Sentences as rows of tokens: every word in exactly one row, its tag at its first token, and batches of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from espalier.config.data import Task
from espalier.config.job_specs import PrepareSpec, TokeniseSpec
from espalier.data.batches import IGNORED
from espalier.data.tagged.rows import TokenRows
from espalier.data.tagged.sentences import sentence_columns
from espalier.data.tagged.windows import class_metadata, first_tokens, parts_of, special_tokens
from espalier.data.tokenizer import open_tokenizer
from espalier.kinds.base import open_rows, task_kind
from espalier.kinds.tokens import TaggedWords
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json
from espalier.stages import prepare
from tests import tiny

DATA = Path("/work/shared/data/udpos")
CPU = torch.device("cpu")
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##want", "##ed", "we", "saw", "it", ".", "##s"]


def wordpieces() -> PreTrainedTokenizerFast:
    """A tokenizer as BERT's, which drops control characters."""
    backend = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64)


def tokenised(folder: Path, words: list[list[str]], max_length: int, tags: list[list[int]] | None = None) -> TokenRows:
    """Rows of an evaluation table; where no tags are given, the tag of each word is its place in the sentence."""
    tags = tags or [list(range(len(sentence))) for sentence in words]
    table = pa.table({**sentence_columns(words), "tags": tags, "set": ["validation"] * len(words)})
    table = table.replace_schema_metadata(class_metadata(["O", "B-X", "I-X"]))
    pq.write_table(table, folder / "rows.parquet")
    settings = TokeniseSpec(kind="tokens", max_length=max_length, stride=None, max_answer_length=None)
    task_kind("tokens").tokenise(wordpieces(), settings, folder / "rows.parquet", folder / "tokens.parquet")
    return open_rows(folder / "tokens.parquet", "tokens", 0, 0)


def test_a_word_s_tag_stands_at_its_first_token(tmp_path):
    rows = tokenised(tmp_path, [["we", "unwanted", "saw", "it."], ["its"]], 16)
    batch = rows.batch(np.array([0, 1]), CPU)
    assert [PIECES[token] for token in batch.input_ids[0]] == ["[CLS]", "we", "un", "##want", "##ed", "saw", "it", ".", "[SEP]"]
    assert batch.labels.tolist()[0] == [IGNORED, 0, 1, IGNORED, IGNORED, 2, 3, IGNORED, IGNORED]
    assert batch.labels.tolist()[1] == [IGNORED, 0, *[IGNORED] * 7] and batch.attention_mask[1].sum() == 4


def test_long_sentences_are_cut_between_words_and_each_word_counts_once(tmp_path):
    words = [["we", "unwanted", "saw", "it", "unwanted", ".", "we"], ["it"], ["unwanted"] * 9]
    rows = tokenised(tmp_path, words, 8)
    assert rows.lengths.max() <= 8 and rows.sentences.numbers.tolist() == [1, 1, 2, 3, 3, 3, 3, 3]
    read = {number: [] for number in (1, 2, 3)}
    for number, own in zip(rows.sentences.numbers, rows.sentences.words, strict=True):
        read[number] += own
    assert list(read.values()) == words
    # 11 tokens are 6 and 5, with two special ones each
    assert rows.lengths.tolist()[:2] == [8, 7]
    owner, place, labels = rows.words
    assert labels.tolist() == [*range(7), 0, *range(9)] and len(owner) == 17 and (place >= 1).all()
    firsts = [(number, first) for number, first in zip(rows.sentences.numbers, rows.sentences.first, strict=True)]
    assert firsts == [(1, 1), (1, 5), (2, 1), (3, 1), (3, 3), (3, 5), (3, 7), (3, 9)]


@pytest.mark.parametrize(
    ("lengths", "room", "parts"),
    [
        ([1, 1, 1], 3, [(0, 3)]),
        ([1, 1, 1, 1], 3, [(0, 2), (2, 4)]),
        ([3, 1, 1, 3], 4, [(0, 2), (2, 4)]),
        ([4, 4, 1], 4, [(0, 1), (1, 2), (2, 3)]),
        ([1] * 10, 4, [(0, 4), (4, 8), (8, 10)]),
    ],
)
def test_parts_are_few_and_even(lengths, room, parts):
    assert parts_of(lengths, room) == parts


def test_a_word_longer_than_a_row_is_read_as_far_as_it_fits(tmp_path):
    rows = tokenised(tmp_path, [["we", "unwantededed", "saw"]], 5)
    assert rows.lengths.tolist() == [3, 5, 3] and rows.words[2].tolist() == [0, 1, 2]


def test_a_token_may_begin_with_the_blank_before_its_word():
    assert first_tokens(["ab", "c", "de"], [(0, 2), (2, 4), (4, 5), (5, 7)]) == [0, 1, 3]
    # two words in one token; a token of no characters; a word without any
    assert first_tokens(["ab", "c"], [(0, 4)]) == [0, 0]
    assert first_tokens(["ab", "c"], [(0, 0), (0, 2)]) == [1, None]


def test_special_tokens_are_those_of_the_tokenizer(tmp_path):
    base = tiny.write_base(tmp_path)
    assert special_tokens(open_tokenizer([base / "tokenizer.json"], 16)) == ([2], [3])


@pytest.mark.parametrize(
    ("words", "max_length", "said"),
    [
        (["we", "\u200b\x00", "it"], 16, "set validation, data row 2, word 2: the tokenizer makes nothing of"),
        (["we"], 2, "word 1: max_length leaves no room beside the special tokens; make it larger"),
    ],
)
def test_a_word_that_cannot_be_read_is_refused(tmp_path, words, max_length, said):
    with pytest.raises(UserError, match=re.escape(said)):
        tokenised(tmp_path, [["we"] if max_length > 2 else words, words], max_length)


def test_logits_of_words_are_stored_and_found_again(tmp_path):
    rows = tokenised(tmp_path, [["we", "unwanted", "saw"], ["it"], ["unwanted", "we"]], 16)
    batch = rows.widened(12).batch(np.array([2, 0]), CPU)
    assert batch.input_ids.shape == (2, 12) and batch.lines([1, 1]) == [2, 3] == batch.vectors([1, 1])
    logits = torch.randn(5, 4)
    stored = batch.to_store(logits, int(rows.lengths.max()))
    assert stored.shape == (2, 7, 4) and torch.equal(batch.from_store(stored), logits)

    # another batch finds its own words in what is stored of the table
    table = torch.zeros(3, 7, 4).index_copy(0, batch.rows, stored)
    part = rows.batch(np.array([0]), CPU)
    assert torch.equal(part.from_store(table[part.rows]), logits[2:])
    assert torch.equal(batch.part(slice(1, 2)).labels[0], batch.labels[1])


def test_scores_are_counted_over_whole_sentences(tmp_path):
    """A name that a cut runs through is one entity, and is found or missed as one."""
    kind, words = task_kind("tokens"), [["unwanted"] * 3 + ["we"], ["it"]]
    tags = [[0, 1, 2, 0], [1]]  # O B-X I-X O, B-X
    rows = tokenised(tmp_path, words, 8, tags)
    assert len(rows) == 3
    logits = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 0, 0]), 3).float() * 9
    measured = TaggedWords(logits, rows.words[2])
    scores = kind.scores(measured, rows, ["entity-f1", "accuracy"])["validation"]
    # 2 gold, 1 predicted, 1 shared; 4 of 5 words
    assert scores["rows"] == 2 and scores["entity-f1"] == pytest.approx(2 / 3) and scores["accuracy"] == pytest.approx(0.8)
    table = kind.predictions(measured, rows)
    assert table.columns.tolist() == ["set", "sentence", "place", "word", "label", "prediction"]
    assert table["prediction"].tolist() == ["O", "B-X", "I-X", "O", "O"] and table["place"].tolist() == [1, 2, 3, 4, 1]
    assert table["sentence"].tolist() == [1, 1, 1, 1, 2] and table["word"].tolist() == [*words[0], *words[1]]


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the treebanks in {DATA}, which git does not hold")
def test_real_treebanks_are_prepared_and_tokenised(tmp_path):
    """UD POS: English to train on and five languages to score; tags are numbers with stored names."""
    sets = {language: str(DATA / f"validation.{language}.parquet") for language in ("en", "nl", "zh")}
    files = {"source": "files", "train": str(DATA / "validation.en.parquet"), "validation": sets}
    block = {"kind": "tokens", **files, "text": ["tokens"], "label": "pos_tags", "metric": "accuracy", "evaluation_rows": 300}
    paths = {"train": tmp_path / "train.parquet", "evaluation": tmp_path / "evaluation.parquet", "task": tmp_path / "task.json"}
    prepare.run(PrepareSpec(name="ud", task=Task.model_validate(block | {"rows": 500})).model_dump_json(), **paths)
    card = read_json(paths["task"])
    assert len(card["classes"]) == 17 and card["classes"][:2] == ["ADJ", "ADP"] and 0.1 < card["majority"]["en"] < 0.3

    base = tiny.write_base(tmp_path / "base")
    encoder = open_tokenizer([base / "tokenizer.json"], 24)
    settings = TokeniseSpec(kind="tokens", max_length=24, stride=None, max_answer_length=None)
    task_kind("tokens").tokenise(encoder, settings, paths["evaluation"], tmp_path / "tokens.parquet")
    rows = open_rows(tmp_path / "tokens.parquet", "tokens", 0, 0)
    table = pq.read_table(paths["evaluation"]).to_pydict()
    assert rows.lengths.max() <= 24 and set(rows.sets) == set(sets) and len(rows) > 900
    assert rows.words[2].tolist() == [tag for tags in table["tags"] for tag in tags]
    assert [word for own in rows.sentences.words for word in own] == [word for words in table["words"] for word in words]
