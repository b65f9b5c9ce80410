"""Which tokens of a model's vocabulary are kept, and how what is left answers beside the whole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from espalier.config.deployment.embeddings import KeptVocabulary
from espalier.config.kinds import PACKED, Kind
from espalier.data.smaller_tokenizer import Document, agreement, count_tokens, cuts_alike, kept_tokens
from espalier.models.onnx import output_names
from espalier.models.word_tables import needed_tokens
from espalier.runtime.errors import UserError
from espalier.runtime.files import digits

Texts = tuple[str, ...]
"""The texts of one row: one, or a pair."""
SEARCHED = 2000
"""Rows among which covered ones are looked for."""
COMPARED_ROWS = 64
"""Covered rows whose outputs are compared."""
COMPARED_AT_ONCE = 8
"""Rows in a forward pass: a model that predicts words has a logit for each of them at every token."""


class Whole(NamedTuple):
    """A model and the tokenizer that it reads."""

    model: PreTrainedModel
    encoder: PreTrainedTokenizerBase

    def cut(self, row: Texts, max_length: int) -> list[int]:
        """Token numbers of a row."""
        return self.encoder(*row, truncation="longest_first", max_length=max_length)["input_ids"]

    def outputs(self, rows: list[Texts], max_length: int) -> Float[Tensor, "outputs rows ..."]:
        """What the model gives for some rows."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        options = {"truncation": "longest_first", "max_length": max_length, "padding": True, "return_tensors": "pt"}
        given = self.model(**self.encoder(*columns, **options))
        return torch.stack([given[name] for name in output_names(self.model)])


def texts_in(path: Path) -> Iterator[Texts]:
    """The texts of each prepared row of a task."""
    file = pq.ParquetFile(path, pre_buffer=False)
    names = [name for name in ("text_a", "text_b") if name in file.schema_arrow.names]
    for batch in file.iter_batches(columns=names):
        yield from zip(*(batch[name].to_pylist() for name in names), strict=True)


def _cutter(encoder: PreTrainedTokenizerBase, kind: Kind) -> Tokenizer:
    """A tokenizer that only cuts; in unlabelled text what looks like a special token is text like any other."""
    cutter = Tokenizer.from_str(encoder.backend_tokenizer.to_str())
    cutter.no_truncation()
    cutter.no_padding()
    cutter.encode_special_tokens = kind in PACKED
    return cutter


def tokens_for(wanted: KeptVocabulary, whole: Whole, document: Document, train: Path, kind: Kind) -> list[int]:
    """Numbers of the tokens that a model keeps, in ascending order.

    Args:
        wanted: the rule.
        whole: the model and its tokenizer.
        document: the content of its tokenizer.json.
        train: the task's training rows.
        kind: of the task.

    Raises:
        UserError: the tokenizer works by another algorithm, or there is no room for the tokens that are always kept.
    """
    texts = (text for row in texts_in(train) for text in row)
    counts = count_tokens(_cutter(whole.encoder, kind), texts, whole.model.config.vocab_size)
    return kept_tokens(document, counts, wanted, needed_tokens(whole.model))


def coverage_of(whole: Whole, small: Whole, kept: list[int], document: Document, rows: Path, kind: Kind) -> dict[str, Any]:
    """How many texts and tokens of a task's rows a smaller vocabulary covers.

    Args:
        whole: the model and its tokenizer.
        small: the model and tokenizer with fewer tokens.
        kept: their numbers in the whole tokenizer.
        document: the whole tokenizer.json.
        rows: of the task.
        kind: of the task.

    Raises:
        UserError: a covered text is cut otherwise than before, which the tokenizer's algorithm excludes.
    """
    texts = (text for row in texts_in(rows) for text in row)
    counted = agreement(_cutter(whole.encoder, kind), _cutter(small.encoder, kind), kept, texts)
    if counted.different and cuts_alike(document):
        raise UserError(f"{rows}: {counted.different:,} covered texts are cut otherwise than by the whole tokenizer")
    return counted._asdict() | {"coverage": digits(counted.coverage)}


@torch.inference_mode()
def compared(whole: Whole, small: Whole, kept: list[int] | None, rows: Path, max_length: int) -> dict[str, float | int | None]:
    """How far outputs of a smaller model are from the whole one's, on rows whose tokens it has kept; None where there is none.

    Args:
        whole: the model and its tokenizer.
        small: what is left of them.
        kept: numbers of the kept tokens in the whole tokenizer; None where all are.
        rows: of the task.
        max_length: of a row, in tokens.
    """
    new = None if kept is None else {number: place for place, number in enumerate(kept)}
    covered: list[Texts] = []
    for row in islice(texts_in(rows), SEARCHED):
        before, after = whole.cut(row, max_length), small.cut(row, max_length)
        if after == (before if new is None else [new.get(number, -1) for number in before]):
            covered.append(row)
        if len(covered) == COMPARED_ROWS:
            break

    difference = largest = None
    for start in range(0, len(covered), COMPARED_AT_ONCE):
        first, second = (side.outputs(covered[start : start + COMPARED_AT_ONCE], max_length) for side in (whole, small))
        # a model that predicts words has a logit for the kept ones only
        first = first if first.shape == second.shape or kept is None else first[..., kept]
        difference = max(difference or 0.0, float((first - second).abs().max()))
        largest = max(largest or 0.0, float(first.abs().max()))
    return {"compared_rows": len(covered), "largest_difference": difference, "largest_output": largest}
