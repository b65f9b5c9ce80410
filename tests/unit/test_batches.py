import numpy as np
import pytest
import torch

from espalier.data.batches import TokenisedRows, epoch_order, in_length_order
from tests import tiny


@pytest.fixture
def rows(tmp_path):
    return TokenisedRows.read(tiny.write_task(tmp_path) / "train.parquet", pad=0)


def test_every_row_once_an_epoch_and_a_pure_function_of_seed_and_epoch(rows):
    first = epoch_order(rows.lengths, 7, seed=1, epoch=0)
    assert sorted(np.concatenate(first).tolist()) == list(range(64))
    assert sorted(len(batch) for batch in first) == [1] + [7] * 9
    again = epoch_order(rows.lengths, 7, seed=1, epoch=0)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    for other in (epoch_order(rows.lengths, 7, seed=1, epoch=1), epoch_order(rows.lengths, 7, seed=2, epoch=0)):
        assert np.concatenate(other).tolist() != np.concatenate(first).tolist()


def test_batches_are_grouped_by_length(rows):
    def padding(batches):
        return sum(int((rows.lengths[batch].max() - rows.lengths[batch]).sum()) for batch in batches)

    shuffled = np.random.default_rng(0).permutation(64)
    assert padding(epoch_order(rows.lengths, 8, 0, 0)) < 0.4 * padding([shuffled[i : i + 8] for i in range(0, 64, 8)])


def test_a_batch_is_padded_to_its_longest_row(rows):
    batch = rows.batch(np.array([3, 0, 5]), torch.device("cpu"))
    lengths = rows.lengths[[3, 0, 5]]
    assert batch.input_ids.shape == (3, lengths.max())
    assert batch.attention_mask.sum(dim=1).tolist() == lengths.tolist()
    assert (batch.input_ids[batch.attention_mask == 0] == 0).all()
    row = rows.ids[rows.offsets[3] : rows.offsets[4]]
    assert batch.input_ids[0, : lengths[0]].tolist() == row.tolist()
    assert batch.labels.tolist() == [0, 0, 2] and batch.labels.dtype == torch.int64


def test_on_a_gpu_a_batch_is_a_multiple_of_eight_tokens_but_not_longer_than_the_table(rows):
    gpu, longest = torch.device("cuda"), int(rows.lengths.max())
    assert longest % 8, "else the last line shows nothing"
    assert rows._width(9, gpu) == min(16, longest) and rows._width(8, gpu) == 8
    assert rows._width(longest, gpu) == longest
    assert rows.widened(longest + 3)._width(5, gpu) == longest + 3


def test_evaluation_order_goes_from_short_to_long(rows):
    order = np.concatenate(list(in_length_order(rows.lengths, 10)))
    assert sorted(order.tolist()) == list(range(64))
    assert (np.diff(rows.lengths[order]) >= 0).all()


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_sample_is_a_part_of_the_rows_and_the_same_one_every_time(tmp_path, kind):
    rows = TokenisedRows.read(tiny.write_task(tmp_path, kind=kind) / "train.parquet", pad=0)
    sample, again = rows.sample(20, "train"), rows.sample(20, "train")
    assert len(sample) == 20 and set(sample.sets) == {"train"} and (sample.ids == again.ids).all()

    def lines(table):
        return [(*table.ids[table.offsets[row] : table.offsets[row + 1]], table.labels[row]) for row in range(len(table))]

    everything = lines(rows)
    places = [everything.index(line) for line in lines(sample)]
    assert places == sorted(set(places)) and places != list(range(20)), "different rows, in order, at random"
    assert sample.batch(np.arange(20), torch.device("cpu")).input_ids.shape == (20, sample.lengths.max())
    assert len(rows.sample(1000, "train")) == 64
