"""A smaller tokenizer cuts every text that it covers as the whole one does, and other texts into pieces it has."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from espalier.config.deployment.embeddings import KeptVocabulary
from espalier.data.smaller_tokenizer import (
    agreement,
    always_kept,
    count_tokens,
    cuts_alike,
    kept_tokens,
    smaller_tokenizer,
    tokens_of,
)

DOCS = Path(__file__).parents[2] / "docs"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@cache
def lines() -> tuple[str, ...]:
    """Real sentences: the documentation of this project."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))]
    return tuple(line for text in texts for line in text.splitlines() if line.strip())[:1500]


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(lines(), trainers.WordPieceTrainer(vocab_size=1500, special_tokens=SPECIAL))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def byte_bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"vocab_size": 1500, "special_tokens": SPECIAL, "initial_alphabet": alphabet}
    tokenizer.train_from_iterator(lines(), trainers.BpeTrainer(**options))
    tokenizer.post_processor = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def marked_bpe() -> Tokenizer:
    """Tokens inside words, and at their ends, carry marks, as in fastBPE's and CLIP's vocabularies."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", continuing_subword_prefix="@", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    options = {"vocab_size": 1500, "special_tokens": SPECIAL}
    marks = {"continuing_subword_prefix": "@", "end_of_word_suffix": "</w>"}
    tokenizer.train_from_iterator(lines(), trainers.BpeTrainer(**options, **marks))
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    options = {"vocab_size": 1500, "special_tokens": SPECIAL, "unk_token": "[UNK]"}
    tokenizer.train_from_iterator(lines(), trainers.UnigramTrainer(**options))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(["[SEP]", "<extra>"])
    return tokenizer


KINDS = {"WordPiece": word_piece, "bytes": byte_bpe, "marks": marked_bpe, "Unigram": unigram}
whole = cache(lambda name: KINDS[name]())


def document_of(tokenizer: Tokenizer) -> dict:
    return json.loads(tokenizer.to_str())


def cut_down(name: str, texts: list[str], **rule) -> tuple[Tokenizer, list[int]]:
    document = document_of(whole(name))
    counts = count_tokens(whole(name), texts, whole(name).get_vocab_size())
    kept = kept_tokens(document, counts, KeptVocabulary(**rule))
    return Tokenizer.from_str(json.dumps(smaller_tokenizer(document, kept))), kept


some_lines = st.lists(st.sampled_from(range(1500)), min_size=1, max_size=30).map(
    lambda places: [lines()[place % len(lines())] for place in places]
)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=15, deadline=None)
@given(texts=some_lines)
def test_texts_whose_tokens_are_kept_are_cut_as_before(name: str, texts: list[str]) -> None:
    small, kept = cut_down(name, texts, keep="used")
    assert cuts_alike(document_of(whole(name)))
    for text in texts:
        before, after = whole(name).encode(text), small.encode(text)
        assert [kept[number] for number in after.ids] == before.ids
        assert after.tokens == before.tokens

    # other texts that happen to be covered, too
    counted = agreement(whole(name), small, kept, lines())
    assert counted.covered >= len(set(texts) & set(lines()))
    assert counted.different == 0
    assert small.get_vocab_size() == len(kept) < whole(name).get_vocab_size()


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=40, deadline=None)
@given(texts=some_lines, other=st.text(max_size=40))
def test_other_texts_keep_their_characters(name: str, texts: list[str], other: str) -> None:
    small, _ = cut_down(name, texts, keep="used")
    unknown = whole(name).token_to_id("[UNK]")

    # a word is unknown to the smaller tokenizer only where it was unknown before
    before = whole(name).encode(other, add_special_tokens=False)
    after = small.encode(other, add_special_tokens=False)
    assert after.ids.count(small.token_to_id("[UNK]")) == before.ids.count(unknown)
    if name == "bytes":
        assert small.decode(after.ids) == whole(name).decode(before.ids)


@pytest.mark.parametrize("name", KINDS)
def test_the_most_frequent_tokens_cover_the_part_that_is_asked_for(name: str) -> None:
    texts = list(lines()[:600])
    sizes = []
    for coverage in (0.5, 0.9, 0.99, 1.0):
        small, kept = cut_down(name, texts, coverage=coverage)
        assert agreement(whole(name), small, kept, texts).coverage >= coverage
        sizes.append(len(kept))
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(cut_down(name, texts, keep="used")[1])
    assert sizes[1] < sizes[-1]


@pytest.mark.parametrize("name", KINDS)
def test_a_number_of_tokens_is_the_most_that_are_kept(name: str) -> None:
    texts = list(lines()[:600])
    document = document_of(whole(name))
    least = len(always_kept(document))
    for number in (least + 20, least + 200):
        small, kept = cut_down(name, texts, tokens=number)
        assert number - 5 <= len(kept) <= number
        assert agreement(whole(name), small, kept, texts).different == 0


@pytest.mark.parametrize("name", KINDS)
def test_special_tokens_and_single_characters_stay(name: str) -> None:
    small, kept = cut_down(name, ["the"], keep="used")
    assert [small.token_to_id(token) for token in SPECIAL] == [0, 1, 2, 3, 4]
    every = tokens_of(document_of(whole(name)))
    for token, number in every.items():
        if len(token) == 1:
            assert number in kept


def test_merges_keep_their_order_and_the_tokens_between() -> None:
    tokenizer = Tokenizer(
        models.BPE(
            {token: place for place, token in enumerate(["a", "b", "c", "d", "ab", "cd", "abcd", "bc", "abc"])},
            [("a", "b"), ("c", "d"), ("ab", "cd"), ("b", "c"), ("ab", "c")],
        )
    )
    document = document_of(tokenizer)
    kept = kept_tokens(document, np.array([0, 0, 0, 0, 0, 0, 3, 0, 0]), KeptVocabulary(keep="used"))
    smaller = smaller_tokenizer(document, kept)
    assert [*smaller["model"]["vocab"]] == ["a", "b", "c", "d", "ab", "cd", "abcd"]
    assert smaller["model"]["merges"] == [["a", "b"], ["c", "d"], ["ab", "cd"]]


def test_an_unknown_character_costs_what_it_did() -> None:
    """`b` is no token, so it costs 10 more than "zz", the token with the lowest score; without "zz" it would be cheap."""
    tokenizer = Tokenizer(models.Unigram([("[UNK]", 0.0), ("bc", -12.0), ("d", -12.0), ("cd", -0.5), ("zz", -30.0)], 0))
    assert tokenizer.encode("bcd").tokens == ["bc", "d"]
    document = document_of(tokenizer)
    kept = kept_tokens(document, count_tokens(tokenizer, ["bcd", "cd"], 5), KeptVocabulary(keep="used"))
    small = Tokenizer.from_str(json.dumps(smaller_tokenizer(document, kept)))
    assert small.encode("bcd").tokens == ["bc", "d"]

    without = smaller_tokenizer(document, [0, 1, 2, 3])
    assert Tokenizer.from_str(json.dumps(without)).encode("bcd").tokens != ["bc", "d"]
