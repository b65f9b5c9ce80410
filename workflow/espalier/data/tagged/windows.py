"""Sentences become rows of tokens: the tag of a word stands at its first token, long sentences are cut between words.

Each word is a word of exactly one row, so that it counts once in training and in evaluation. Rows of a cut sentence are as few
as can be and of about equal length, so that no word is left nearly without context.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from espalier.config.blocks import shortened
from espalier.data.batches import IGNORED
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic

SENTENCES_AT_ONCE = 1000
"""Sentences that are in memory at once."""
CLASSES_KEY = b"espalier"
"""Key of the schema under which prepared and tokenised tables keep the names of the tags."""
UNKNOWN_TAG = 0
"""Index in the place of the tag of a word that has none."""


@dataclass(frozen=True)
class Cut:
    """A part of a sentence."""

    first: int
    """Its first word, counted from 0."""
    words: int
    input_ids: list[int]
    """With special tokens."""
    places: list[int]
    """Place of the first token of each word."""


def class_metadata(names: Sequence[str]) -> dict[bytes, bytes]:
    """Names of the tags in order, for a table's schema."""
    return {CLASSES_KEY: json.dumps({"classes": list(names)}).encode()}


def classes_in_schema(schema: pa.Schema) -> tuple[str, ...]:
    """What `class_metadata` gave; none where a table has no tags."""
    stored = (schema.metadata or {}).get(CLASSES_KEY)
    return () if stored is None else tuple(json.loads(stored)["classes"])


def write_cut_sentences(encoder: PreTrainedTokenizerBase, max_length: int, rows: Path, tokens: Path) -> tuple[int, int]:
    """Write the rows of tokens of a table of sentences; returns the numbers of sentences and of rows.

    Columns: input_ids, token_type_ids (where the base reads them), and tags, an index at the first token of each word and
    `IGNORED` elsewhere. A table with the column `set` is for evaluation and has besides: set, sentence, the sentence's number,
    first, the number of the row's first word, and its words.

    Raises:
        UserError: the tokenizer makes nothing of a word, or one token of two words, or max_length leaves no room for a word.
    """
    source = pq.ParquetFile(rows)
    names = source.schema_arrow.names
    schema = _schema("token_type_ids" in encoder.model_input_names, "set" in names)
    schema = schema.with_metadata(class_metadata(classes_in_schema(source.schema_arrow)))
    sentences = written = 0
    with atomic(tokens) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for batch in source.iter_batches(SENTENCES_AT_ONCE):
            lines = list(_lines(encoder, max_length, rows, batch.to_pylist()))
            columns = [pa.array([line[field.name] for line in lines], field.type) for field in schema]
            writer.write_table(pa.table(columns, schema))
            sentences, written = sentences + batch.num_rows, written + len(lines)
    return sentences, written


def _schema(typed: bool, evaluation: bool) -> pa.Schema:
    fields = {"input_ids": pa.list_(pa.int32()), **({"token_type_ids": pa.list_(pa.int8())} if typed else {})}
    fields["tags"] = pa.list_(pa.int32())
    if evaluation:
        fields |= {"set": pa.string(), "sentence": pa.int64(), "first": pa.int32(), "words": pa.list_(pa.string())}
    return pa.schema(fields)


def _lines(
    encoder: PreTrainedTokenizerBase, max_length: int, place: Path, rows: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The columns of each row of tokens."""
    for row, cuts in zip(rows, cut_sentences(encoder, max_length, place, rows), strict=True):
        tags = row.get("tags") or [UNKNOWN_TAG] * len(row["words"])
        for cut in cuts:
            labels = [IGNORED] * len(cut.input_ids)
            for word, token in enumerate(cut.places):
                labels[token] = tags[cut.first + word]
            line: dict[str, Any] = {"input_ids": cut.input_ids, "token_type_ids": [0] * len(cut.input_ids), "tags": labels}
            line |= {"set": row.get("set"), "sentence": row["sentence"], "first": cut.first + 1}
            yield line | {"words": row["words"][cut.first : cut.first + cut.words]}


def cut_sentences(
    encoder: PreTrainedTokenizerBase, max_length: int, place: Path, rows: Sequence[dict[str, Any]]
) -> Iterator[list[Cut]]:
    """The parts of each sentence.

    Words are joined by blanks and cut together, as a text would be, so that tokenizers which tell the beginning of a word by
    the blank before it read what they were trained on.
    """
    before, after = special_tokens(encoder)
    room = max_length - len(before) - len(after)
    texts = [" ".join(row["words"]) for row in rows]
    encoded = encoder(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    for row, ids, offsets in zip(rows, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        starts = first_tokens(row["words"], offsets)
        if (problem := _problem(row["words"], starts, room)) is not None:
            known = f"set {row['set']}" if row.get("set") else "training rows"
            raise UserError(f"{place}, {known}, data row {row['sentence']}, word {problem[0] + 1}: {problem[1]}")

        # a word's tokens end where those of the next one begin; of a word longer than a row the first ones are read
        ends = [*starts[1:], len(ids)]
        pieces = [ids[start : min(end, start + room)] for start, end in zip(starts, ends, strict=True)]
        yield [
            _cut(first, pieces[first:stop], before, after) for first, stop in cuts_of([len(piece) for piece in pieces], room)
        ]


def special_tokens(encoder: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    encoded = encoder("a", return_special_tokens_mask=True)
    own = [place for place, special in enumerate(encoded["special_tokens_mask"]) if not special]
    ids = encoded["input_ids"]
    return ids[: own[0]], ids[own[-1] + 1 :]


def first_tokens(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[int | None]:
    """The first token of each word in the text of all words: the first that has a character of it; None where none has.

    Args:
        words: that are joined by single blanks.
        offsets: first character and the one behind the last, of each token of the text.
    """
    places: list[int | None] = []
    begin = token = 0
    for word in words:
        end = begin + len(word)
        # tokens come in order, so those that end before this word are of no later one
        while token < len(offsets) and (offsets[token][1] <= begin or offsets[token][0] == offsets[token][1]):
            token += 1
        places.append(token if token < len(offsets) and offsets[token][0] < end else None)
        begin = end + 1
    return places


def _problem(words: Sequence[str], starts: Sequence[int | None], room: int) -> tuple[int, str] | None:
    """The first word that cannot be read, and why; None if all can."""
    if room < 1:
        return 0, "max_length leaves no room beside the special tokens; make it larger"
    for place, (word, start) in enumerate(zip(words, starts, strict=True)):
        if start is None:
            return place, f"the tokenizer makes nothing of {shortened(word)}; leave the word out, or write it otherwise"
        if place and start == starts[place - 1]:
            return place, f"the tokenizer makes one token of {shortened(words[place - 1])} and {shortened(word)}"
    return None


def cuts_of(lengths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """First word and the one behind the last of each part: the fewest parts, and among these the shortest longest one.

    Args:
        lengths: tokens of each word, at most `room`.
        room: tokens of a part, without special ones.
    """
    fewest = len(_filled(lengths, room))
    low, high = max(lengths), room
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(_filled(lengths, middle)) == fewest else (middle + 1, high)
    return _filled(lengths, low)


def _filled(lengths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Parts that take words while they fit."""
    starts, used = [0], 0
    for word, length in enumerate(lengths):
        if used + length > room:
            starts.append(word)
            used = 0
        used += length
    return list(zip(starts, [*starts[1:], len(lengths)], strict=True))


def _cut(first: int, pieces: Sequence[Sequence[int]], before: list[int], after: list[int]) -> Cut:
    """A part of these words' tokens."""
    ids, places = list(before), []
    for piece in pieces:
        places.append(len(ids))
        ids += piece
    return Cut(first, len(pieces), [*ids, *after], places)
