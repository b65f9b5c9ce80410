"""Span tasks: questions and contexts become rows of tokens, several windows where a context is long.

Windows overlap by `stride` tokens. The answer's places are those of its first and last token in the window that holds the
whole of it; elsewhere, and where a question has no answer, they are 0, the place of [CLS] (Devlin et al. 2019, arXiv
1810.04805, and its run_squad.py).
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

from espalier.data.spans import NO_ANSWER, SPANS_KEY
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic

QUESTIONS_AT_ONCE = 1000
"""Questions that are in memory at once."""
Offsets = Sequence[tuple[int, int]]
"""First character and the one behind the last, of each token."""


@dataclass(frozen=True)
class Cutting:
    """How contexts are cut."""

    max_length: int
    """Tokens of a window, question and special tokens included."""
    stride: int
    """Tokens by which windows overlap."""
    max_answer_length: int
    """Tokens of an answer, for who reads the table."""


@dataclass(frozen=True)
class Window:
    """One row of tokens."""

    example: int
    input_ids: list[int]
    token_type_ids: list[int]
    first: int
    """Place of the first context token."""
    offsets: Offsets
    """Where each token of the context begins and ends, in characters."""

    def places(self, span: tuple[int, int] | None) -> tuple[int, int]:
        """Places of the tokens that begin and end where the span does; (0, 0) where not both are in this window."""
        begins, ends = ([offset[side] for offset in self.offsets] for side in (0, 1))
        if span is None or span[0] not in begins or span[1] not in ends:
            return 0, 0
        return self.first + begins.index(span[0]), self.first + len(ends) - 1 - ends[::-1].index(span[1])


def write_windows(encoder: PreTrainedTokenizerBase, cutting: Cutting, rows: Path, tokens: Path) -> tuple[int, int]:
    """Write the windows of a table of questions; returns the numbers of questions and of windows.

    Columns: input_ids, token_type_ids (where the base reads them), start, end, and context_from and context_to, between
    which an answer may lie. A table with the column `set` is for evaluation and has besides: set, example, the question's
    number, offsets of the context's tokens, and in a question's first window its id, context and answers, to score by.

    Raises:
        UserError: the room that a question leaves is not larger than the stride, or a context has no token.
    """
    source = pq.ParquetFile(rows)
    names = source.schema_arrow.names
    schema = _schema("token_type_ids" in encoder.model_input_names, "set" in names, NO_ANSWER in names, cutting)
    questions = windows = 0
    with atomic(tokens) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for batch in source.iter_batches(QUESTIONS_AT_ONCE):
            table = pa.table(list(_columns(encoder, cutting, rows, batch.to_pylist(), questions, schema)), schema)
            writer.write_table(table)
            questions, windows = questions + batch.num_rows, windows + table.num_rows
    return questions, windows


def _schema(typed: bool, evaluation: bool, no_answer: bool, cutting: Cutting) -> pa.Schema:
    fields = {"input_ids": pa.list_(pa.int32()), **({"token_type_ids": pa.list_(pa.int8())} if typed else {})}
    fields |= dict.fromkeys(("start", "end", "context_from", "context_to"), pa.int32())
    if evaluation:
        fields |= {"set": pa.string(), "example": pa.int32(), "offsets": pa.list_(pa.int32())}
        fields |= {"id": pa.string(), "context": pa.string(), "answers": pa.list_(pa.string())}
    said = {"max_answer_length": cutting.max_answer_length} | ({NO_ANSWER: True} if no_answer else {})
    return pa.schema(fields, {SPANS_KEY: json.dumps(said)})


def _columns(
    encoder: PreTrainedTokenizerBase, cutting: Cutting, place: Path, rows: list[dict[str, Any]], before: int, schema: pa.Schema
) -> Iterator[pa.Array]:
    """The columns of the schema for these rows, of which so many came before."""
    windows = list(encode(encoder, cutting, place, rows))
    spans = [_token_span(own, row) for own, row in zip(_grouped(windows, len(rows)), rows, strict=True)]

    lines, seen = [], -1
    for window in windows:
        row = rows[window.example]
        start, end = window.places(spans[window.example])
        line: dict[str, Any] = {"start": start, "end": end}
        line |= {"context_from": window.first, "context_to": window.first + len(window.offsets)}
        line |= {"input_ids": window.input_ids, "token_type_ids": window.token_type_ids, "set": row.get("set")}
        line |= {"example": before + window.example, "offsets": [character for pair in window.offsets for character in pair]}

        # what belongs to the question stands in its first window alone
        if window.example != seen:
            line |= {"id": row["id"], "context": row["text_b"], "answers": row["answers"]["text"]}
        seen = window.example
        lines.append(line)

    for field in schema:
        yield pa.array([line.get(field.name) for line in lines], field.type)


def encode(encoder: PreTrainedTokenizerBase, cutting: Cutting, place: Path, rows: Sequence[dict[str, Any]]) -> Iterator[Window]:
    """The windows of these rows, in order."""
    questions = [row["text_a"].lstrip() for row in rows]  # in some tokenizers it could not be told from the special tokens
    _check_room(encoder, cutting, place, questions)
    encoded = encoder(
        questions,
        [row["text_b"] for row in rows],
        truncation="only_second",
        max_length=cutting.max_length,
        stride=cutting.stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
    )
    for index, example in enumerate(encoded["overflow_to_sample_mapping"]):
        parts = encoded.sequence_ids(index)
        if 1 not in parts:
            raise UserError(f"{place}: the context of the question {rows[example]['text_a']!r} has no token that can be read")
        first = parts.index(1)
        offsets = encoded["offset_mapping"][index][first : first + parts.count(1)]
        yield Window(example, encoded["input_ids"][index], encoded["token_type_ids"][index], first, offsets)


def _check_room(encoder: PreTrainedTokenizerBase, cutting: Cutting, place: Path, questions: Sequence[str]) -> None:
    special = encoder.num_special_tokens_to_add(pair=True)
    for question, ids in zip(questions, encoder(questions, add_special_tokens=False)["input_ids"], strict=True):
        room = cutting.max_length - special - len(ids)
        if room <= cutting.stride:
            raise UserError(
                f"{place}: stride: got {cutting.stride}; it must be smaller than the room for the context, {max(0, room)} "
                f"tokens: max_length {cutting.max_length} less {special} special and {len(ids)} of the question {question!r}"
            )


def _grouped(windows: Sequence[Window], count: int) -> list[list[Window]]:
    groups: list[list[Window]] = [[] for _ in range(count)]
    for window in windows:
        groups[window.example].append(window)
    return groups


def _token_span(windows: Sequence[Window], row: dict[str, Any]) -> tuple[int, int] | None:
    """Where the first token of the (first) answer begins and its last one ends, in characters; None where it has none.

    A question without an answer has no such tokens. Tokens may be wider than the answer, and characters at its ends may belong
    to none.
    """
    if not row["answers"]["answer_start"]:
        return None
    begin = row["answers"]["answer_start"][0]
    stop = begin + len(row["answers"]["text"][0])
    touched = [offset for window in windows for offset in window.offsets if offset[0] < stop and offset[1] > begin]
    return (min(start for start, _ in touched), max(end for _, end in touched)) if touched else None
