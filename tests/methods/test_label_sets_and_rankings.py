"""Every method on texts with several labels and on rankings; teachers' outputs from files; pairs, micro-batches, thresholds."""

from __future__ import annotations

import atexit
import math
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from espalier.config.data import SELECTION
from espalier.config.teacher_outputs import Reads
from espalier.evaluation.predict import all_outputs
from espalier.kinds.base import task_kind
from espalier.losses.outputs import pair_losses
from espalier.models.files import open_base
from espalier.training.stored_outputs import Places, map_outputs, write_outputs
from tests import tiny
from tests.methods import pieces
from tests.methods.conftest import PLANS, Harness

ROWS = (
    "dense",
    "movement",
    "distil",
    "sdp-cc-kld",
    "spd",
    "spd-options",
    "l0",
    "cofi",
    "heads-iterative",
    "small-dense",
    "grain-unequal",
)
"""A row of the behaviour matrix for each objective and each kind of removal."""
KINDS = ("multilabel", "ranking", "pairs")
NAMES = {"pairs": "ranking"}


@cache
def task_of(kind: str, **settings) -> Path:
    """A prepared and tokenised task, made once."""
    folder = Path(tempfile.mkdtemp(prefix="espalier-test-"))
    atexit.register(shutil.rmtree, folder)
    return tiny.write_rows_task(folder, NAMES.get(kind, kind), **({"loss": "pairwise"} if kind == "pairs" else {}), **settings)


def harness_of(folder: Path, kind: str, **settings) -> Harness:
    return Harness(folder, NAMES.get(kind, kind), task_of(kind, **settings))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plan", ROWS)
def test_every_method_works_on_the_kind(tmp_path, plan, kind):
    harness = harness_of(tmp_path, kind)
    loop = harness.run(PLANS[plan] | {"checkpoint": "best"})
    assert all(math.isfinite(row["loss"]) for row in loop.history.rows if "loss" in row)
    assert all(bool(torch.isfinite(weight).all()) for weight in loop.student.parameters())
    assert 0.0 <= loop.best["score"] <= 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_learns_the_kind(tmp_path, kind):
    harness = harness_of(tmp_path, kind, **({"holdout": 0.2} if kind == "multilabel" else {}))
    loop = harness.run({"method": "dense", "epochs": 14.0}, learning_rate=3e-3)
    scores = loop.evaluate(loop.student)["validation"]
    before = loop.evaluate(harness.model(1))["validation"]
    assert scores[harness.metric] > before[harness.metric] and scores["loss"] < before["loss"]


@pytest.mark.parametrize("kind", KINDS)
def test_stored_outputs_are_those_that_a_teacher_computes(tmp_path, kind):
    harness, teacher = harness_of(tmp_path, kind), None
    teacher = harness.model(2).eval()
    reads = Reads("mean")
    write_outputs(teacher, harness.train, tiny.accelerator(), tmp_path / "stored", reads, [], "fp32")
    stored = map_outputs(tmp_path / "stored", reads, [], Places(harness.train.lengths, None), 2, "fp32").outputs
    with torch.no_grad():
        computed = all_outputs(teacher, harness.train, tiny.accelerator(), "mean", "")
    assert torch.equal(stored.logits, computed.logits) and torch.equal(stored.representation, computed.representation)
    assert stored.logits.shape == (len(harness.train), harness.classes)


@pytest.mark.parametrize("kind", ["multilabel", "ranking"])
@pytest.mark.parametrize("plan", ["distil", "cofi"])
def test_micro_batches_give_the_same_gradient(tmp_path, plan, kind):
    whole = {"thresholds": "half", "holdout": 0.0} if kind == "multilabel" else {}
    pieces.check(pieces.stopped(harness_of(tmp_path, kind, **whole), PLANS[plan]))


def test_for_pairs_the_rows_of_a_query_stand_together_in_every_epoch(tmp_path):
    rows = harness_of(tmp_path, "pairs").train
    batches = [rows.batches_of_epoch(12, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))]
    for order in batches:
        assert sorted(np.concatenate(order).tolist()) == list(range(len(rows)))
        assert sum(len(batch) != 12 for batch in order) <= 1
        # queries of four texts fill batches of twelve, so none is torn
        assert all((np.unique(rows.queries[batch], return_counts=True)[1] == 4).all() for batch in order)
    first, *others, again = ([batch.tolist() for batch in order] for order in batches)
    assert first == again and first not in others


def test_the_loss_of_pairs_is_counted_query_by_query(tmp_path):
    harness = harness_of(tmp_path, "pairs")
    rows, kind = harness.evaluation, task_kind("ranking")
    measured = kind.measure(harness.model(1), rows, tiny.accelerator())
    batch = rows.batch(np.arange(len(rows)), torch.device("cpu"))
    whole = kind.task_loss(measured, batch.labels)
    total, pairs = pair_losses(measured[:, 0], *batch.labels.unbind(dim=1))
    assert kind.scores(measured, rows, ["mrr"])["validation"]["loss"] == pytest.approx(whole.item(), rel=1e-5)
    assert whole.item() == pytest.approx((total / pairs).item(), rel=1e-6) and pairs > 10


@pytest.mark.parametrize(("rule", "different"), [("global", 1), ("class", 3), ("half", 1)])
def test_thresholds_come_from_held_out_rows_and_stay_with_what_is_served(tmp_path, rule, different):
    harness = harness_of(tmp_path, "multilabel", thresholds=rule, holdout=0.5)
    rows, kind, model = harness.evaluation, task_kind("multilabel"), harness.model(1)
    decided = kind.decide(model, rows, tiny.accelerator())
    assert len(set(decided["thresholds"])) == different and len(decided["thresholds"]) == 3
    assert (set(decided["thresholds"]) == {0.5}) == (rule == "half")

    measured = kind.measure(model, rows, tiny.accelerator())
    assert kind.decisions(measured) == decided, "training sees the thresholds that the export will carry"
    assert (rows.sets == SELECTION).sum() == 32

    # another table, without held-out rows, is asked with the thresholds of the model
    served = kind.as_served(rows.of_set("validation"), {"thresholds": [0.1, 0.2, 0.9]})
    assert kind.decisions(kind.measure(model, served, tiny.accelerator())) == {"thresholds": [0.1, 0.2, 0.9]}


@pytest.mark.parametrize(
    ("kind", "classes", "expected"),
    [("multilabel", ["a", "b", "c"], ("multi_label_classification", 3)), ("ranking", None, ("regression", 1))],
)
def test_heads_are_stock(tmp_path, kind, classes, expected):
    base = tiny.write_base(tmp_path)
    config = open_base([base / "config.json", base / "model.safetensors"], kind, classes).config
    assert (config.problem_type, config.num_labels) == expected
    assert classes is None or [config.id2label[place] for place in range(3)] == classes
