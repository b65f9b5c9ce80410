"""SDP against its specification, beyond the matrix."""

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from espalier.config.methods import AnyPlan
from espalier.data.batches import Batch
from espalier.kinds.base import soft_label_loss, task_loss
from espalier.losses.terms import correlation_matrix, cosine_distance, cross_correlation_loss
from espalier.methods.base import Stage
from espalier.methods.sdp import Sdp
from espalier.models.forward import forward
from espalier.models.outputs import Outputs
from tests import tiny

STAGE = Stage("classification", 0, 0.0, 0.5, (4,), {})


def sdp(**settings):
    return Sdp(TypeAdapter(AnyPlan).validate_python({"method": "sdp", "path": [0.5], **settings}), STAGE)


def outputs(seed):
    generator = torch.Generator().manual_seed(seed)
    return Outputs(torch.randn(8, 3, generator=generator), torch.randn(8, 5, generator=generator))


IDS = torch.ones(8, 4, dtype=torch.int64)
BATCH = Batch(torch.arange(8), IDS, IDS, None, torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]))


@pytest.mark.parametrize(
    ("objective", "weights"),
    [
        ("kld", {"task": 0.7, "kld": 0.3}),
        ("cos", {"task": 1.0, "cos": 2.0}),
        ("cc", {"task": 1.0, "cc": 10.0}),
        ("cc+kld", {"task": 0.7, "kld": 0.3, "cc": 10.0}),
    ],
)
def test_each_objective_is_the_sum_that_the_specification_writes(objective, weights):
    method = sdp(objective=objective, alpha=0.3, beta_cos=2.0, cc={"beta": 10.0, "off_diagonal": 0.01}, temperature=3.0)
    student, teacher = outputs(0), outputs(1)
    terms = method.loss_terms(BATCH, student, teacher, 0)
    assert method.loss_weights == pytest.approx(weights) and terms.keys() == weights.keys()
    expected = {
        "task": task_loss(student.logits, BATCH.labels, "classification"),
        "kld": soft_label_loss(student.logits, teacher.logits, temperature=3.0, kind="classification"),
        "cos": cosine_distance(student.representation, teacher.representation),
        "cc": cross_correlation_loss(student.representation, teacher.representation, off_diagonal=0.01),
    }
    assert all(torch.equal(terms[name], expected[name]) for name in terms)


def test_micro_batches_are_refused_where_they_would_change_the_loss():
    with pytest.raises(ValidationError, match="statistic of the whole batch"):
        sdp(objective="cc", micro_batch_size=8)
    sdp(objective="kld", micro_batch_size=8)


def test_a_run_removes_before_it_retrains_and_restarts_the_rate(harness):
    loop = harness.run({"method": "sdp", "path": [0.6], "prune_steps": 2, "warmup": 0.0})
    rows = [row for row in loop.history.rows if "loss" in row]
    assert loop.method.stage.removals == {4: pytest.approx(0.3), 8: pytest.approx(0.6)}
    assert loop.method.stage.bounds == (4, 8, 12)
    by_step = {row["step"]: row["sparsity"] for row in rows}
    assert by_step[4] == 0.0 and by_step[8] == pytest.approx(0.3, abs=1e-3) and by_step[12] == pytest.approx(0.6, abs=1e-3)
    rates = {row["step"]: row["learning_rate"] for row in rows}
    assert rates[4] == rates[8] == rates[12] == pytest.approx(1e-3 / 4)


def test_a_student_that_equals_its_teacher_has_nothing_to_distil(harness):
    loop = harness.loop({"method": "sdp", "path": [0.6], "objective": "cc+kld"}, student=tiny.classifier(2))
    batch = loop.rows.batch(np.arange(64), torch.device("cpu"))
    terms = loop.method.loss_terms(batch, forward(loop.student.eval(), batch, "first-token"), loop.teacher(batch), 0)
    assert terms["kld"].abs() < 1e-6
    matrix = correlation_matrix(loop.teacher(batch).representation, loop.teacher(batch).representation)
    floor = 0.005 * (matrix.square().sum() - matrix.diagonal().square().sum()) / len(matrix)
    torch.testing.assert_close(terms["cc"], floor, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("objective", ["kld", "cc"])
def test_training_without_removing_leaves_no_zeros(harness, objective):
    loop = harness.run({"method": "sdp", "path": [0.0], "objective": objective, "dense_epochs": 1.0, "epochs_per_step": 1.0})
    assert loop.step == 8 and loop.method.sparsity == 0.0
    assert all(bool(mask.all()) for mask in loop.method.end().values())
