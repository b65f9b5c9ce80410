"""Rows for a folder's model, in the tokens of the folder's own tokenizer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Int
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from espalier.config.job_specs import SERVING, TokeniseSpec
from espalier.config.kinds import KIND_RULES
from espalier.data.batches import SAMPLE_SEED, Batch, TaskRows
from espalier.data.packed import FIXED_SEED
from espalier.deployment.runtimes import TokenArrays
from espalier.kinds.base import open_rows, task_kind

CPU = torch.device("cpu")


def folder_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model's folder; none of its code is run."""
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def model_vocabulary(folder: Path) -> int:
    """Number of tokens that the model of a folder knows."""
    return AutoConfig.from_pretrained(folder).vocab_size


def rows_for(folder: Path, settings: TokeniseSpec, rows: Path, sample: int | None = None) -> TaskRows:
    """A task's rows as the model of a folder reads them.

    Args:
        folder: with config.json and a tokenizer.
        settings: how rows become tokens.
        rows: the prepared rows; for text, which is packed once for all models, the packed ones.
        sample: take so many of them at random, the same ones for every model; all where nothing is said.
    """
    config = AutoConfig.from_pretrained(folder)
    pad, served = config.pad_token_id, getattr(config, SERVING, {})
    if not KIND_RULES[settings.kind].labelled:
        return open_rows(rows, settings.kind, pad, FIXED_SEED)

    with tempfile.TemporaryDirectory() as temporary:
        tokens = Path(temporary) / "tokens.parquet"
        if sample is not None:
            rows = _sampled(rows, sample, Path(temporary) / rows.name)
        task_kind(settings.kind).tokenise(folder_tokenizer(folder), settings, rows, tokens)
        return task_kind(settings.kind).as_served(open_rows(tokens, settings.kind, pad, FIXED_SEED), served)


def _sampled(rows: Path, count: int, target: Path) -> Path:
    """Write a random part of a table of prepared rows, in the table's order."""
    table = pq.read_table(rows)
    pq.write_table(table.take(pa.array(_picked(len(table), count))), target)
    return target


def _picked(rows: int, count: int) -> Int[np.ndarray, " picked"]:
    """Indices of so many rows at random, or of all where there are fewer, in order."""
    return np.sort(np.random.default_rng(SAMPLE_SEED).permutation(rows)[:count])


def single_rows(rows: TaskRows, count: int) -> list[TokenArrays]:
    """So many rows at random, each as a batch without padding."""
    return [as_arrays(rows.batch(np.array([index]), CPU)) for index in _picked(len(rows), count)]


def batches_of(rows: TaskRows, size: int, count: int) -> list[TokenArrays]:
    """So many batches of rows as they come, padded to the longest row of each; rows come again where there are too few."""
    indices: Iterator[int] = cycle(range(len(rows)))
    return [as_arrays(rows.batch(np.array([next(indices) for _ in range(size)]), CPU)) for _ in range(count)]


def as_arrays(batch: Batch) -> TokenArrays:
    """A batch's inputs as runtimes take them."""
    return {name: tensor.numpy() for name, tensor in batch.inputs().items()}
