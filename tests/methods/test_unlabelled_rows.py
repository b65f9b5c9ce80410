"""Every method that distils, on rows with and without labels: gradients, what labels say, resuming, stored teachers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from espalier.kinds.base import open_rows
from espalier.training.teachers import StoredTeacher
from tests import tiny
from tests.methods import pieces
from tests.methods.conftest import GATES, GRAIN, SPD, Harness
from tests.methods.stored import opened, stored

DISTILLING = {
    "distil": {"method": "distil", "path": [0.6], "alpha": 0.5},
    "sdp-kld": {"method": "sdp", "path": [0.6], "objective": "kld"},
    "sdp-cos": {"method": "sdp", "path": [0.6], "objective": "cos"},
    "spd": {"method": "spd", **SPD, "hard_label_weight": 1.0, "pred": {"regression_target": "teacher"}},
    "cofi": {"method": "cofi", **GATES},
    "grain": {"method": "grain", **GRAIN},
    "small-dense": {"method": "small-dense", "path": [0.6], "epochs": 2.0},
}


def mixed_harness(folder, kind="classification", share=0.4) -> Harness:
    harness = Harness(folder, kind)
    tiny.write_task(folder / "texts", rows=40, kind=kind, seed=9)
    table = pq.read_table(folder / "texts/train.parquet").drop(["label"])
    pq.write_table(table, folder / "unlabelled.parquet")
    harness.train = harness.train.with_unlabelled(folder / "unlabelled.parquet", share)
    return harness


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "classification") for name in DISTILLING), ("distil", "regression"), ("spd", "regression")]
)
def test_micro_batches_give_the_same_gradient(tmp_path, name, kind):
    pieces.check(pieces.stopped(mixed_harness(tmp_path, kind), DISTILLING[name]))


@pytest.mark.parametrize("name", DISTILLING)
def test_what_stands_in_the_place_of_a_label_says_nothing(tmp_path, name):
    weights = []
    for work, label in (("zeros", 0), ("ones", 1)):
        harness = mixed_harness(tmp_path)
        labels = harness.train.labels.copy()
        labels[-harness.train.unlabelled :] = label
        harness.train = replace(harness.train, labels=labels)
        weights.append(tiny.weights_of(harness.run(DISTILLING[name], work=work)))
    assert tiny.equal(*weights)


def test_texts_change_what_is_learned(tmp_path):
    harness = mixed_harness(tmp_path)
    mixed = tiny.weights_of(harness.run(DISTILLING["distil"], work="mixed"))
    alone = Harness(tmp_path).run(DISTILLING["distil"], work="alone")
    assert not tiny.equal(mixed, tiny.weights_of(alone))


@pytest.mark.parametrize("name", ["distil", "cofi"])
def test_interrupted_and_resumed_ends_bit_identical(tmp_path, monkeypatch, name):
    monkeypatch.setattr("espalier.training.loop.SAVE_EVERY", 1)
    harness = mixed_harness(tmp_path)
    whole = harness.run(DISTILLING[name], work="whole")
    tiny.halted(harness.loop(DISTILLING[name], work="stopped"), 5)
    resumed = harness.run(DISTILLING[name], work="stopped")
    assert resumed.saves.resumed_at and tiny.equal(tiny.weights_of(whole), tiny.weights_of(resumed))


def test_stored_outputs_are_those_of_the_teacher_for_texts_too(tmp_path):
    harness = mixed_harness(tmp_path)
    teacher, loop = harness.model(2), harness.loop(DISTILLING["distil"])
    reads = loop.method.settings.reads
    found = opened(stored(tmp_path / "outputs", teacher, harness.train, reads), harness.train, reads)
    taught = StoredTeacher(found.outputs, teacher, tiny.accelerator())
    batch = harness.train.batch(np.array([0, len(harness.train) - 1, 70]), torch.device("cpu"))
    with torch.no_grad():
        torch.testing.assert_close(taught(batch).logits, teacher.eval()(**batch.inputs()).logits, rtol=1e-5, atol=1e-5)


def test_a_batch_without_labels_trains_on_the_teacher_alone(tmp_path):
    harness = mixed_harness(tmp_path)
    loop = pieces.stopped(harness, DISTILLING["distil"])
    texts = np.arange(len(harness.train) - 27, len(harness.train))
    terms = loop._accumulate(texts)
    assert float(terms["task"]) == 0.0 and float(terms["kld"]) > 0.0


def test_rows_of_an_epoch_count_for_its_steps(tmp_path):
    harness = mixed_harness(tmp_path, share=0.5)
    # 64 rows with labels, as many without, in batches of 16
    assert harness.loop(DISTILLING["distil"]).steps_per_epoch == 8


def test_the_tokens_of_texts_need_no_label_column(tmp_path):
    rows = open_rows(tiny.write_task(tmp_path / "task") / "train.parquet", "classification", 0, 0)
    table = pa.table({"input_ids": pa.array([[2, 3]], pa.list_(pa.int32())), "token_type_ids": [[0, 0]]})
    pq.write_table(table, tmp_path / "texts.parquet")
    assert len(rows.with_unlabelled(tmp_path / "texts.parquet", 0.5)) == len(rows) + 1
