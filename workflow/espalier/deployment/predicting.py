"""Answers of an exported model to texts of one's own, in any format: texts are read as in evaluation, by the same functions."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import Accelerator
from transformers import AutoConfig

from espalier.config.deployment.formats import Format
from espalier.config.job_specs import Serving, TokeniseSpec
from espalier.config.kinds import KIND_RULES
from espalier.config.kinds.sides import sides_of
from espalier.config.layout import TOKENIZER
from espalier.data.labelled import SourceTable
from espalier.deployment.rows import rows_for
from espalier.deployment.runtimes import FormatRunner, open_format
from espalier.deployment.scoring import RunnerModel
from espalier.deployment.serving import read_serving
from espalier.kinds.base import task_kind
from espalier.runtime.errors import UserError

ANSWERED_AT_ONCE = 2048
"""Rows that are read, computed and written together; within them batches go by length."""


class ServedModel(NamedTuple):
    """An exported model, opened in one format."""

    folder: Path
    serving: Serving
    classes: tuple[str, ...]
    """Names in order; empty where the task has none."""
    runner: FormatRunner


def open_served(folder: Path, format: Format) -> ServedModel:
    """Open a model in one of its formats.

    Raises:
        UserError: the folder is no exported model, lacks the format, or a file of its tokenizer.
    """
    serving = read_serving(folder)
    if missing := [name for name in TOKENIZER if not (folder / name).is_file()]:
        raise UserError(f"{folder}: no {missing[0]}; a folder of a finished study is needed")

    if not KIND_RULES[serving.kind].labelled:
        raise UserError(f"{folder}: a model of kind {serving.kind} guesses masked words and has no answer to a text")

    config = AutoConfig.from_pretrained(folder)
    named = KIND_RULES[serving.kind].named_classes
    classes = tuple(config.id2label[index] for index in range(config.num_labels)) if named else ()
    return ServedModel(folder, serving, classes, open_format(folder, format, serving.kind))


def predictions_for(model: ServedModel, source: SourceTable, columns: tuple[str, ...]) -> Iterator[pd.DataFrame]:
    """A line for each row, in order, in pieces of `ANSWERED_AT_ONCE` rows.

    Args:
        model: opened in the format that is to compute.
        source: the user's table.
        columns: its columns of text.

    Raises:
        UserError: a column is missing, the table is empty, or a text is empty; before anything is computed.
    """
    serving = model.serving
    names = dict(zip(serving.text, columns, strict=True))
    sides = [side.renamed(names) for side in sides_of(serving.text, serving.template)]
    texts = pa.table(task_kind(serving.kind).new_texts(source, sides))
    for start in range(0, texts.num_rows, ANSWERED_AT_ONCE):
        yield _answers(model, texts.slice(start, ANSWERED_AT_ONCE))


def _answers(model: ServedModel, texts: pa.Table) -> pd.DataFrame:
    """The answers to a few rows, by way of a file such as the stage `prepare` writes."""
    serving = model.serving
    kind = task_kind(serving.kind)
    settings = TokeniseSpec(
        kind=serving.kind,
        max_length=serving.max_length,
        stride=serving.stride,
        max_answer_length=serving.max_answer_length,
    )

    with tempfile.TemporaryDirectory(prefix="espalier-") as scratch:
        file = Path(scratch) / "rows.parquet"
        columns = {name: texts[name] for name in texts.column_names} | kind.unknown_labels(texts.num_rows)
        pq.write_table(pa.table({**columns, "set": ["new"] * texts.num_rows}), file)

        # answers go to the standard output, so what is said there of tokens goes nowhere
        with contextlib.redirect_stdout(io.StringIO()):
            rows = rows_for(model.folder, settings, file)

    measured = kind.measure(RunnerModel(model.runner), rows, Accelerator(cpu=True, mixed_precision="no"))
    return kind.answers(measured, rows, model.classes)
