"""Masks of packed rows: how many, which, what becomes of them, and that nothing but (seed, epoch, row) decides."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from espalier.data.batches import IGNORED
from espalier.data.packed import CHUNK, PackedRows, Vocabulary, masked, uniforms

PAD, CLS, SEP, MASK = 0, 2, 3, 4
VOCABULARY = Vocabulary(1000, PAD, MASK, (PAD, 1, CLS, SEP, MASK))
CPU = torch.device("cpu")


def write(path, rows: int, length: int = 128, last: int | None = None) -> np.ndarray:
    """Packed rows of random words with some [SEP] among them; the last row is `last` tokens long."""
    generator = np.random.default_rng(0)
    ids = generator.integers(5, VOCABULARY.size, (rows, length)).astype(np.int32)
    ids[generator.random(ids.shape) < 0.02] = SEP
    ids[:, 0], ids[:, -1] = CLS, SEP
    if last:
        ids[-1, last - 1], ids[-1, last:] = SEP, PAD
    schema = pa.schema([("input_ids", pa.list_(pa.int32(), length)), ("set", pa.string())], VOCABULARY.metadata())
    with pa.ipc.new_file(str(path), schema) as writer:
        for start in range(0, rows, CHUNK):
            part = ids[start : start + CHUNK]
            columns = [pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), length), pa.array(["all"] * len(part))]
            writer.write_batch(pa.record_batch(columns, schema=schema))
    return ids


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "train.arrow"
    return path, write(path, CHUNK + 300, last=40)


def test_rows_come_back_from_every_record_batch(rows):
    path, ids = rows
    packed = PackedRows(path, 0)
    picked = np.array([CHUNK + 299, 0, CHUNK - 1, CHUNK])
    batch = packed.batch(picked, CPU)
    restored = torch.where(batch.masked, batch.labels, batch.input_ids).numpy()
    assert len(packed) == len(ids) and set(packed.lengths.tolist()) == {128} and set(packed.sets) == {"all"}
    assert np.array_equal(restored, ids[picked]) and batch.rows.tolist() == picked.tolist()
    assert batch.attention_mask.sum(dim=1).tolist() == [40, 128, 128, 128] and batch.token_type_ids is None


def test_fifteen_per_cent_are_asked_for_and_80_10_10_of_them_change(rows):
    path, ids = rows
    batch = PackedRows(path, 1).batch(np.arange(1000), CPU)
    original, seen, asked = ids[:1000], batch.input_ids.numpy(), batch.masked.numpy()
    assert set(asked.sum(axis=1)) == {19}  # round(0.15 x 128)
    assert not asked[np.isin(original, VOCABULARY.special)].any()
    assert np.array_equal(batch.labels.numpy(), np.where(asked, original, IGNORED))
    assert np.array_equal(seen[~asked], original[~asked])
    total = asked.sum()
    to_mask, kept = (seen[asked] == MASK).sum() / total, (seen[asked] == original[asked]).sum() / total
    assert to_mask == pytest.approx(0.8, abs=0.012) and kept == pytest.approx(0.1, abs=0.009)  # four standard deviations
    other = seen[asked & (seen != MASK) & (seen != original)]
    assert len(other) / total == pytest.approx(0.1, abs=0.009)
    assert other.mean() == pytest.approx(500, abs=30), "any token of the vocabulary"
    places = asked[:, 1:-1].mean(axis=0)
    assert places.std() < 0.02 and abs(places.mean() - 19 / 126) < 1e-9, "every place alike"


def test_masks_depend_on_seed_epoch_and_row_alone(rows):
    path, _ = rows
    packed = PackedRows(path, 3)
    alone, among = packed.batch(np.array([7]), CPU, 2), PackedRows(path, 3).batch(np.array([1100, 7, 2]), CPU, 2)
    assert torch.equal(alone.input_ids[0], among.input_ids[1]) and torch.equal(alone.labels[0], among.labels[1])
    for other in (packed.batch(np.array([7]), CPU, 3), PackedRows(path, 4).batch(np.array([7]), CPU, 2)):
        assert not torch.equal(alone.masked, other.masked)
    draws = uniforms(0, 0, np.arange(200), 4).reshape(-1)
    assert len(set(draws.tolist())) == len(draws) and draws.min() >= 0.0 and draws.max() < 1.0


@pytest.mark.parametrize(("words", "asked"), [(1, 1), (0, 0)])
def test_a_short_row_asks_for_what_it_has(words, asked):
    ids = np.array([[CLS, *[9] * words, SEP, *[PAD] * (6 - words)]], np.int32)
    special = np.isin(np.arange(VOCABULARY.size), VOCABULARY.special)
    _, labels = masked(ids, ids != PAD, special, uniforms(0, 0, [0], ids.shape[1]), MASK)
    assert (labels != IGNORED).sum() == asked
