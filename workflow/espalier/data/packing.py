"""Documents → rows of one length: [CLS] … [SEP], documents joined by [SEP], nothing left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int
from transformers import PreTrainedTokenizerBase

from espalier.data.packed import CHUNK, Vocabulary
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic

FRAGMENTS_AT_ONCE = 256
"""Fragments that are tokenised together."""
LONGEST_FRAGMENT = 4096
"""Characters of a fragment: a whole book in one row would fill the memory while it is tokenised."""
NEEDED = ("cls", "sep", "pad", "mask")
PackedBlock = Int[np.ndarray, "rows length"]


class Fragment(NamedTuple):
    """A text, or a part of a long one."""

    set: str
    begins: bool
    """Whether it is the first part of its text."""
    text: str


class Packer:
    """Writes the packed rows of one tokenizer at one length.

    Raises:
        UserError: the tokenizer lacks a token that packing or masking needs.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, length: int) -> None:
        self.tokenizer, self.length = tokenizer, length
        ids = {name: getattr(tokenizer, f"{name}_token_id") for name in NEEDED}
        if missing := [name for name, number in ids.items() if number is None]:
            raise UserError(f"the tokenizer has no {', '.join(missing)} token; text tasks need {', '.join(NEEDED)}")
        self.cls, self.sep, self.pad, self.mask = ids.values()
        special = tuple(sorted({*ids.values(), *tokenizer.all_special_ids}))
        self.vocabulary = Vocabulary(len(tokenizer), self.pad, self.mask, special)

    def write(self, rows: Path, path: Path, limit: int | None = None) -> int:
        """Pack a table with the column text_a, each of its sets by itself, into an Arrow file that can be mapped.

        Args:
            rows: a parquet file, with the column `set` or without.
            path: where the Arrow file goes.
            limit: write the first so many rows of each set; all where nothing is said.

        Returns:
            Number of rows written.
        """
        named = "set" in pq.read_schema(rows).names
        column = pa.field("input_ids", pa.list_(pa.int32(), self.length))
        fields = [column, *([pa.field("set", pa.string())] if named else [])]
        schema = pa.schema(fields, metadata=self.vocabulary.metadata())
        written = 0
        with atomic(path) as temporary, pa.ipc.new_file(str(temporary), schema) as writer:
            for block, names in in_chunks(self._blocks(rows, limit)):
                ids = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), self.length)
                writer.write_batch(pa.record_batch([ids, pa.array(names, pa.string())][: len(fields)], schema=schema))
                written += len(block)
        return written

    def _blocks(self, rows: Path, limit: int | None) -> Iterator[tuple[PackedBlock, str]]:
        """Packed rows, of each set the first `limit`, and the set that they belong to."""
        for name, fragments in groupby(_fragments(rows), key=lambda fragment: fragment.set):
            left = limit
            for block in self.pack(self._streams(fragments)):
                yield block[:left], name
                left = None if left is None else left - len(block[:left])
                if left == 0:
                    break

    def _streams(self, fragments: Iterator[Fragment]) -> Iterator[list[int]]:
        """Tokens of some fragments at a time, [SEP] before every document but the first."""
        first = True
        while part := list(islice(fragments, FRAGMENTS_AT_ONCE)):
            stream: list[int] = []
            for fragment, tokens in zip(part, self.encode([fragment.text for fragment in part]), strict=True):
                stream += [self.sep, *tokens] if fragment.begins and not first else tokens
                first = False
            yield stream

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Tokens of each text; what looks like a special token is text like any other."""
        return self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]

    def pack(self, streams: Iterable[Sequence[int]]) -> Iterator[PackedBlock]:
        """Rows as they fill up; what is left at the end is filled up with padding."""
        room, rest = self.length - 2, np.empty(0, np.int32)
        for stream in streams:
            rest = np.concatenate([rest, np.asarray(stream, np.int32)])
            full = len(rest) // room
            if full:
                yield self._rows(rest[: full * room].reshape(full, room))
                rest = rest[full * room :]
        if len(rest):
            row = np.full((1, self.length), self.pad, np.int32)
            row[0, : len(rest) + 2] = self._rows(rest[None])[0]
            yield row

    def _rows(self, inner: PackedBlock) -> Int[np.ndarray, "rows length+2"]:
        edge = np.ones((len(inner), 1), np.int32)
        return np.concatenate([self.cls * edge, inner, self.sep * edge], axis=1)


def _fragments(rows: Path) -> Iterator[Fragment]:
    """All texts in the order of the table, cut where they are long."""
    for batch in pq.ParquetFile(rows, pre_buffer=False).iter_batches(batch_size=FRAGMENTS_AT_ONCE):
        texts = batch["text_a"].to_pylist()
        sets = batch["set"].to_pylist() if "set" in batch.schema.names else [""] * len(texts)
        for name, text in zip(sets, texts, strict=True):
            for index, part in enumerate(cut(text)):
                yield Fragment(name, index == 0, part)


def cut(text: str) -> Iterator[str]:
    """Parts of at most `LONGEST_FRAGMENT` characters; each but the first begins with a blank where there is one."""
    start = 0
    while len(text) - start > LONGEST_FRAGMENT:
        end = text.rfind(" ", start + 1, start + LONGEST_FRAGMENT)
        end = start + LONGEST_FRAGMENT if end < 0 else end
        yield text[start:end]
        start = end
    yield text[start:]


def in_chunks(blocks: Iterable[tuple[PackedBlock, str]]) -> Iterator[tuple[PackedBlock, list[str]]]:
    """Rows regrouped into blocks of `CHUNK`, the last one smaller, with the set of each row."""
    held: list[PackedBlock] = []
    names: list[str] = []
    for block, name in blocks:
        held.append(block)
        names += [name] * len(block)
        while len(names) >= CHUNK:
            whole = np.concatenate(held)
            yield whole[:CHUNK], names[:CHUNK]
            held, names = [whole[CHUNK:]], names[CHUNK:]
    if names:
        yield np.concatenate(held), names
