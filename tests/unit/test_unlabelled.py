"""Texts without labels: which ones an epoch draws, how batches mix them, and what the loss on labels sees."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from espalier.config.kinds.specs import CollectSpec
from espalier.data.batches import TokenisedRows
from espalier.data.mixing import drawn_texts, mixed_order
from espalier.data.unlabelled import unlabelled_rows
from espalier.kinds.base import label_terms, open_rows, soft_label_loss, task_loss
from espalier.runtime.errors import UserError
from tests import tiny

CPU = torch.device("cpu")


def write_tokens(path, lengths):
    ids = [[2, *range(4, 2 + length), 3] for length in lengths]
    pq.write_table(
        pa.table({"input_ids": pa.array(ids, pa.list_(pa.int32())), "token_type_ids": [[0] * len(row) for row in ids]}), path
    )
    return path


def mixed(folder, labelled=6, texts=5, share=0.25):
    lengths = np.arange(3, 3 + labelled)
    rows = TokenisedRows(
        ids=np.full(lengths.sum(), 9),
        types=np.zeros(lengths.sum(), dtype=np.int64),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        labels=np.arange(labelled) % 3,
        sets=None,
        pad=0,
    )
    return rows.with_unlabelled(write_tokens(folder / "unlabelled.parquet", range(4, 4 + texts)), share)


def test_an_endless_row_of_permutations_gives_every_text_before_any_comes_again():
    draws = np.concatenate([drawn_texts(5, 3, seed=1, epoch=epoch) for epoch in range(5)])
    assert len(draws) == 15
    assert all(sorted(draws[start : start + 5]) == [0, 1, 2, 3, 4] for start in (0, 5, 10))
    assert draws[:5].tolist() != draws[5:10].tolist(), "every round has an order of its own"


def test_an_epoch_may_need_more_texts_than_there_are():
    assert sorted(drawn_texts(2, 5, seed=0, epoch=0).tolist()) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])


def test_draws_depend_on_seed_and_epoch_alone():
    again = [drawn_texts(100, 10, seed=3, epoch=7).tolist() for _ in range(2)]
    assert again[0] == again[1] != drawn_texts(100, 10, seed=4, epoch=7).tolist()


@pytest.mark.parametrize(("labelled", "texts", "size"), [(6, 2, 4), (500, 500, 32), (7, 100, 16), (100, 3, 16), (1, 1, 8)])
def test_every_batch_has_its_share_of_both(labelled, texts, size):
    lengths = np.random.default_rng(0).integers(3, 40, labelled + texts)
    own, others = np.arange(labelled), labelled + np.arange(texts)
    batches = mixed_order(lengths, own, others, size, seed=1, epoch=2)
    assert sorted(np.concatenate(batches).tolist()) == list(range(labelled + texts))
    total = labelled + texts
    assert sorted(map(len, batches))[1:] == [size] * (len(batches) - 1) and len(batches) == math.ceil(total / size)
    for batch in batches:
        exact = len(batch) * labelled / total
        assert math.floor(exact) - 1 < (batch < labelled).sum() < math.ceil(exact) + 1
    assert [batch.tolist() for batch in mixed_order(lengths, own, others, size, seed=1, epoch=2)] == [
        batch.tolist() for batch in batches
    ]


def test_rows_of_like_length_meet():
    lengths = np.tile(np.arange(1, 33), 64)
    batches = mixed_order(lengths, np.arange(1024), 1024 + np.arange(1024), 32, seed=0, epoch=0)
    padding = sum(lengths[batch].max() * len(batch) for batch in batches) / lengths.sum()
    assert padding < 1.15, "in random order it is 1.9"


def test_an_epoch_is_one_pass_over_labels_and_the_share_beside_them(tmp_path):
    rows = mixed(tmp_path)
    # 6 rows are three quarters of 8
    assert len(rows) == 11 and rows.epoch_rows == 8
    seen = [np.concatenate(rows.batches_of_epoch(4, seed=0, epoch=epoch)) for epoch in range(3)]
    assert all(sorted(one[one < 6].tolist()) == list(range(6)) for one in seen)
    assert sorted(np.concatenate([one[one >= 6] for one in seen])[:5].tolist()) == [6, 7, 8, 9, 10]


def test_a_batch_knows_which_rows_have_labels(tmp_path):
    rows = mixed(tmp_path)
    batch = rows.batch(np.array([0, 8, 5, 10]), CPU)
    assert batch.labelled.tolist() == [True, False, True, False]
    assert batch.part(slice(1, 3)).labelled.tolist() == [False, True]
    assert batch.input_ids[1].tolist()[:6] == [2, 4, 5, 6, 7, 3], "the third text, of 6 tokens"
    assert rows.widened(30).batch(np.array([9]), CPU).labelled.tolist() == [False]


def test_rows_without_texts_are_as_before(tmp_path):
    rows = mixed(tmp_path).sample(6, "all")
    assert rows.labels.tolist() == [0, 1, 2, 0, 1, 2], "a sample for scoring has labels only"
    assert rows.batch(np.array([0]), CPU).labelled is None and rows.epoch_rows == len(rows) == 6


def test_the_loss_on_labels_is_a_mean_over_the_rows_with_one(tmp_path):
    batch = mixed(tmp_path).batch(np.array([0, 8, 1, 10]), CPU)
    logits = torch.tensor([[math.log(3.0), 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 0.0, 0.0], [-9.0, 9.0, 0.0]])
    # labels 0 and 1: -log(3/5) and -log(1/3)
    loss = label_terms(logits, batch, "classification")["task"]
    assert float(loss) == pytest.approx((math.log(5 / 3) + math.log(3)) / 2)


def test_without_any_label_the_loss_is_0_with_a_graph(tmp_path):
    batch = mixed(tmp_path).batch(np.array([8, 10]), CPU)
    logits = torch.ones(2, 3, requires_grad=True)
    loss = label_terms(logits, batch, "classification")["task"]
    loss.backward()
    assert loss.item() == 0.0 and logits.grad.eq(0).all()


@pytest.mark.parametrize(("kind", "classes"), [("multilabel", 3), ("ranking", 1)])
def test_other_kinds_mix_texts_in_as_well(tmp_path, kind, classes):
    """The loss on labels is that of the rows with one, whatever the model says of the texts beside them."""
    folder = tiny.write_rows_task(tmp_path, kind, rows=16)
    rows = open_rows(folder / "train.parquet", kind, 0, 1)
    whole = rows.with_unlabelled(write_tokens(tmp_path / "unlabelled.parquet", [4, 5]), 0.5)
    assert (len(whole), whole.labelled_rows, whole.unlabelled) == (len(rows) + 2, len(rows), 2)

    chosen = np.array([0, len(rows), 1, len(rows) + 1])
    batch, alone = whole.batch(chosen, CPU), rows.batch(np.array([0, 1]), CPU)
    assert batch.labelled.tolist() == [True, False, True, False]
    logits = torch.randn(4, classes, generator=torch.Generator().manual_seed(0))
    expected = task_loss(logits[[0, 2]], alone.labels, kind)
    assert float(label_terms(logits, batch, kind)["task"]) == pytest.approx(float(expected))
    assert float(soft_label_loss(logits, logits + 1.0, temperature=1.0, kind=kind)) > 0.0


def settings(files, pair=False, **unlabelled):
    rows = {"kind": "classification", "max_length": 16, "stride": None, "max_answer_length": None}
    text = ["text", "other"] if pair else ["text"]
    block = {"name": "mine", "rows": rows, "text": text, "together": pair, "unlabelled": {"files": files, **unlabelled}}
    return CollectSpec.model_validate_json(json.dumps(block))


def csv(path, text):
    path.write_text(text)
    return str(path)


def test_each_text_comes_once_and_none_that_the_task_has(tmp_path, capsys):
    first = csv(tmp_path / "a.csv", "text\none\ntwo\none\nknown\n")
    second = csv(tmp_path / "b.csv", "x,y\ntwo,three\nfour,known\n")
    found = unlabelled_rows(settings([first, {"path": second, "text": ["x", "y"]}]), {("known",)})
    assert found.to_pydict() == {"text_a": ["one", "two", "four", "three"]}
    said = capsys.readouterr().out
    assert "4 texts without labels; 8 texts read, 2 of them rows of the task, 2 not for the first time" in said


def test_a_sample_is_the_same_every_time(tmp_path):
    path = csv(tmp_path / "a.csv", "text\n" + "".join(f"t{number}\n" for number in range(50)))
    samples = [unlabelled_rows(settings([path], rows=7), set())["text_a"].to_pylist() for _ in range(2)]
    assert samples[0] == samples[1] and len(samples[0]) == 7


def test_pairs_are_rows_of_two_columns(tmp_path):
    path = csv(tmp_path / "a.csv", "text,other\none,two\none,three\n")
    found = unlabelled_rows(settings([path], pair=True), {("one", "two")})
    assert found.to_pydict() == {"text_a": ["one"], "text_b": ["three"]}


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        (
            "text\none\nknown\n",
            {"rows": 2},
            r"task mine: unlabelled.rows: got 2; there are 1 \(2 texts read, 1 of them rows",
        ),
        ("text\nknown\n", {}, r"task mine: unlabelled.rows: got all; there are 0"),
        ("words\none\n", {}, r"a.csv: there is no column 'text'"),
        ("text\none\n \n", {}, r"a.csv, data row 2, column 'text': got the empty text"),
        ("text\n", {}, r"a.csv: got 0 rows; at least 1 is needed"),
    ],
)
def test_what_is_wrong_with_texts_is_said(tmp_path, content, changes, message):
    path = csv(tmp_path / "a.csv", content)
    with pytest.raises(UserError, match=message):
        unlabelled_rows(settings([path], **changes), {("known",)})


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone.csv: there is no such file \(texts without labels\)"):
        unlabelled_rows(settings([str(tmp_path / "gone.csv")]), set())
