"""SDP against its specification, beyond the matrix."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from espalier.config.methods import AnyPlan
from espalier.data.batches import Batch
from espalier.data.tagged.rows import TokenBatch
from espalier.kinds.base import soft_label_loss, task_loss
from espalier.losses.terms import correlation_matrix, cosine_distance, cross_correlation_loss
from espalier.methods import sdp as module
from espalier.methods.base import Stage
from espalier.methods.sdp import Sdp
from espalier.models.forward import forward
from espalier.models.outputs import Outputs
from tests import tiny

STAGE = Stage("classification", 0, 0.0, 0.5, (4,), {})
WORDS = replace(STAGE, kind="tokens")


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


def words(count):
    """A batch whose words all begin at a token of their own, and outputs of two networks for them."""
    labels = torch.zeros(1, count, dtype=torch.int64)
    batch = TokenBatch(torch.arange(1), labels + 5, labels + 1, None, labels)
    generator = torch.Generator().manual_seed(count)
    student, teacher = (
        Outputs(torch.randn(count, 5, generator=generator), torch.randn(count, 4, generator=generator)) for _ in range(2)
    )
    return batch, student, teacher


def test_of_many_words_the_same_sample_of_both_networks_is_compared(monkeypatch):
    """docs/methods/sdp.md §2.1: at most 1024 labelled tokens."""
    plan = TypeAdapter(AnyPlan).validate_python({"method": "sdp", "path": [0.5], "objective": "cc"})
    seen = []
    monkeypatch.setattr(module, "cross_correlation_loss", lambda *pair, **others: seen.append(pair) or pair[0].sum() * 0)
    for count in (1024, 1500):
        batch, student, teacher = words(count)
        for seed in (0, 0, 1):
            method = Sdp(plan, replace(WORDS, seed=seed))
            method.loss_terms(batch, student, teacher, 0)
        whole, again, other = seen
        assert len(whole[0]) == len(whole[1]) == 1024
        rows = [int((student.representation == vector).all(dim=1).nonzero()) for vector in whole[0]]
        assert len(set(rows)) == 1024 and torch.equal(teacher.representation[rows], whole[1])
        assert torch.equal(whole[0], again[0]) and torch.equal(whole[0], other[0]) == (count == 1024)
        seen.clear()


def test_terms_of_words_are_means_over_labelled_tokens():
    batch, student, teacher = words(9)
    batch = replace(batch, labels=torch.tensor([[-100, 3, -100, 1, 2, 0, -100, 4, 4]]))
    logits = [each.logits[:6] for each in (student, teacher)]
    vectors = [each.representation[:6] for each in (student, teacher)]
    method = Sdp(TypeAdapter(AnyPlan).validate_python({"method": "sdp", "path": [0.5], "objective": "cc+kld"}), WORDS)
    terms = method.loss_terms(batch, *(Outputs(*pair) for pair in zip(logits, vectors, strict=True)), 0)

    # by hand: -1/n sum log p(tag), tau^2 sum p_T (log p_T - log p_S) / n
    gold = torch.tensor([3, 1, 2, 0, 4, 4])
    chosen = logits[0].log_softmax(dim=1)[torch.arange(6), gold]
    soft, hard = ((each / 2.0).log_softmax(dim=1) for each in logits)
    divergence = 4.0 * (hard.exp() * (hard - soft)).sum(dim=1).mean()
    torch.testing.assert_close(terms["task"], -chosen.mean())
    torch.testing.assert_close(terms["kld"], divergence)
    torch.testing.assert_close(terms["cc"], cross_correlation_loss(*vectors, off_diagonal=method.settings.cc.off_diagonal))
    assert method.counts(batch)["cc"] == 6
