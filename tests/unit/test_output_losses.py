"""Losses of several labels a row and of scores that rank, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from espalier.kinds.base import soft_label_loss, task_kind, task_loss
from espalier.losses.outputs import pairwise_loss, pointwise_loss, soft_label_set_loss

LN3 = math.log(3.0)
"""The logit of 3/4."""


def test_label_sets_have_a_mean_of_binary_cross_entropies():
    """Probabilities 3/4 and 1/2 of classes that the row has and has not."""
    loss = task_loss(torch.tensor([[LN3, 0.0]]), torch.tensor([[1.0, 0.0]]), "multilabel")
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


@pytest.mark.parametrize(
    ("student", "expected"), [(0.0, math.log(2)), (2 * LN3, -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))]
)
def test_the_teacher_s_softened_yes_or_no_times_the_square_of_the_temperature(student, expected):
    """At a temperature of 2 the teacher's probability is sigmoid(ln 3) = 3/4."""
    teacher = torch.tensor([[2 * LN3]])
    loss = soft_label_loss(torch.tensor([[student]]), teacher, temperature=2.0, kind="multilabel")
    assert loss.item() == pytest.approx(4 * expected, rel=1e-6)
    assert soft_label_set_loss(torch.tensor([[student]]), teacher, temperature=2.0).item() == pytest.approx(expected, rel=1e-6)


def test_gradients_vanish_where_student_and_teacher_agree_and_are_as_large_at_any_temperature():
    teacher = torch.tensor([[0.3, -0.2]])
    same = teacher.clone().requires_grad_()
    soft_label_loss(same, teacher, temperature=3.0, kind="multilabel").backward()
    assert same.grad.abs().max() < 1e-7

    gradients = []
    for temperature in (1.0, 4.0):
        student = torch.tensor([[0.1, 0.1]], requires_grad=True)
        soft_label_loss(student, teacher, temperature=temperature, kind="multilabel").backward()
        gradients.append(student.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0.02, atol=0)


def test_spd_s_reductions_of_label_sets():
    """Two classes: the sum over classes is twice the mean."""
    logits = torch.tensor([[0.5, -1.0]]), torch.tensor([[1.0, 2.0]])
    values = [
        task_kind("multilabel").soft_target_loss(*logits, temperature=1.0, reduction=each) for each in ("mean", "batchmean")
    ]
    assert values[1].item() == pytest.approx(2 * values[0].item())


def test_pointwise_against_a_grade_in_the_middle():
    """Score ln 3 against a relevance of 1/2."""
    loss = pointwise_loss(torch.tensor([[LN3]]), torch.tensor([0.5]))
    assert loss.item() == pytest.approx(-(0.5 * math.log(0.75) + 0.5 * math.log(0.25)))


def test_pairwise_compares_texts_of_one_query_that_differ_in_grade():
    """Of the first query one pair, ln(1 + exp(0 - ln 3)); of the second two, with scores 0 and 0: ln 2 each."""
    scores = torch.tensor([[LN3], [0.0], [0.0], [0.0], [0.0]])
    labels = torch.tensor([[2.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert pairwise_loss(scores, labels).item() == pytest.approx((math.log(4 / 3) + 2 * math.log(2)) / 3)


def test_a_batch_without_pairs_has_no_loss_but_a_graph():
    scores = torch.tensor([[1.0], [2.0]], requires_grad=True)
    loss = task_loss(scores, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), "ranking")
    loss.backward()
    assert loss.item() == 0.0 and scores.grad.abs().max() == 0.0


def test_scores_are_taught_by_their_squared_difference_whatever_the_temperature():
    student, teacher = torch.tensor([[1.0], [0.0]]), torch.tensor([[3.0], [1.0]])
    for temperature in (1.0, 5.0):
        assert soft_label_loss(student, teacher, temperature=temperature, kind="ranking").item() == 2.5
    assert task_kind("ranking").soft_target_loss(student, teacher, temperature=5.0, reduction="mean").item() == 2.5
