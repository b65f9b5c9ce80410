"""Sentences as rows of tokens: every word in exactly one row, its tag at its first token, and batches of them."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from espalier.config.data import Task
from espalier.config.job_specs import PrepareSpec, TokeniseSpec
from espalier.data.batches import IGNORED
from espalier.data.tagged.rows import TokenRows
from espalier.data.tagged.sentences import sentence_columns
from espalier.data.tagged.windows import class_metadata, cuts_of, first_tokens, special_tokens
from espalier.data.tokenizer import open_tokenizer
from espalier.kinds.base import open_rows, task_kind
from espalier.kinds.tokens import TaggedWords
from espalier.models.classes import as_stock, model_class
from espalier.models.files import write_compact
from espalier.models.forward import forward
from espalier.models.modeling_espalier import shape_of
from espalier.pruning.equal_layers import with_narrow_head
from espalier.pruning.gates import attach
from espalier.pruning.parts import full_masks, heads_of, units_of
from espalier.pruning.shrink import shrink
from espalier.runtime import distributed
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json
from espalier.stages.data import prepare
from espalier.training.sharing import Share
from espalier.training.teachers import StoredTeacher
from tests import tagged, tiny

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
    assert cuts_of(lengths, room) == parts


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


def test_a_teacher_gives_what_it_would_give_beside_the_student(tmp_path):
    rows = TokenRows.read(tagged.write_task(tmp_path) / "train.parquet", 0)
    model = tagged.tagger().eval()
    batch = rows.batch(np.argsort(rows.lengths)[:5], CPU)
    live = forward(model, batch, "first-token")
    taught = StoredTeacher.of(model, rows, tiny.accelerator(), None)(batch)
    torch.testing.assert_close(taught.logits, live.logits, atol=1e-5, rtol=1e-5)

    # a vector of each word, where it begins
    assert live.representation.shape == (batch.lines([5])[0], 32)
    states = model(**batch.inputs(), output_hidden_states=True).hidden_states[-1]
    assert torch.equal(live.representation[0], states[0, 1])


def test_shares_of_a_batch_are_the_batch(tmp_path, monkeypatch):
    """What each of three processes computes, one after another, is what one computes."""
    rows = TokenRows.read(tagged.write_task(tmp_path) / "train.parquet", 0)
    batch, model, found = rows.batch(np.arange(7), CPU), tagged.tagger().eval(), []
    monkeypatch.setattr(distributed, "count", lambda: 3)
    for index in range(3):
        monkeypatch.setattr(distributed, "index", lambda index=index: index)
        share = Share(batch)
        found.append(forward(model, share.own, "mean"))
        assert len(found[-1].logits) == batch.lines(share.sizes)[index] == len(found[-1].representation)
    whole = forward(model, batch, "mean")
    torch.testing.assert_close(torch.cat([each.logits for each in found]), whole.logits)
    torch.testing.assert_close(torch.cat([each.representation for each in found]), whole.representation)


def family_tagger(variant: str) -> transformers.PreTrainedModel:
    """The family's model for tokens, every parameter large and random."""
    config = copy.deepcopy(tiny.encoder(variant).config)
    config.num_labels = 5
    torch.manual_seed(0)
    return tiny.randomised(model_class(config, transformers.AutoModelForTokenClassification)(config))


@torch.no_grad()
@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_a_smaller_student_of_every_family_is_the_masked_one(variant, tmp_path, double):
    model = family_tagger(variant)
    masks = full_masks(shape_of(model.config))
    masks["hidden"][[3, 9, 20]] = masks[heads_of(1)][:] = masks[heads_of(0)][2] = masks[units_of(2)][5:20] = False
    gated, small = copy.deepcopy(model), shrink(model, masks)
    attach(gated, lambda: {name: mask.to(torch.float64) for name, mask in masks.items()})
    logits = [each(**tiny.padded_batch()).logits for each in (model, gated, small)]
    size = logits[0].abs().max()
    assert (logits[1] - logits[2]).abs().max() <= 1e-9 * size < (logits[0] - logits[2]).abs().max()

    # opened by the stock class's name, with the code that travels along
    write_compact(small, *(tmp_path / name for name in ("config.json", "model.safetensors", "modeling_espalier.py")))
    opened = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path, dtype=torch.float64).eval()
    assert type(opened).__name__ == f"Compact{type(model).__name__}"
    assert (opened(**tiny.padded_batch()).logits - logits[2]).abs().max() <= 1e-9 * size


@torch.no_grad()
@pytest.mark.parametrize("variant", ["bert", "roberta", "distilbert", "modernbert"])
def test_a_uniform_student_is_stock(variant):
    model = family_tagger(variant)
    masks = full_masks(shape_of(model.config))
    for layer in range(3):
        masks[units_of(layer)][14:] = False
    stock = as_stock(shrink(model, masks))
    assert type(stock) is type(model)
    narrow = with_narrow_head(model, 16)
    assert narrow.classifier.in_features == (16 if variant == "modernbert" else 32)
