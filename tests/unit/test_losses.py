"""Loss terms against the hand-worked vectors of the docs/methods/sdp.md §2.6."""

import math

import pytest
import torch

from espalier.kinds.base import soft_label_loss, task_loss
from espalier.losses.terms import correlation_matrix, cosine_distance, cross_correlation_loss, distance

TEACHER = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [1.0, 3.0]])
STUDENT = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 2.0]])


def test_equal_uncorrelated_states_give_the_identity_and_no_loss():
    matrix = correlation_matrix(TEACHER, TEACHER, epsilon=0.0)
    torch.testing.assert_close(matrix, torch.eye(2), atol=1e-6, rtol=0)
    assert cross_correlation_loss(TEACHER, TEACHER, off_diagonal=0.005, epsilon=0.0).abs() < 1e-6


def test_the_worked_example():
    matrix = correlation_matrix(STUDENT, TEACHER, epsilon=0.0)
    expected = torch.tensor([[0.816497, 0.132453], [0.0, 0.973329]])
    torch.testing.assert_close(matrix, expected, atol=1e-6, rtol=0)
    on = float((1 - matrix.diagonal()).square().sum())
    off = float(matrix.square().sum() - matrix.diagonal().square().sum())
    assert (on, off) == pytest.approx((0.034385, 0.017544), abs=1e-6)
    total = cross_correlation_loss(STUDENT, TEACHER, off_diagonal=0.005, normalise=False, epsilon=0.0)
    scaled = cross_correlation_loss(STUDENT, TEACHER, off_diagonal=0.005, epsilon=0.0)
    assert (float(total), float(scaled)) == pytest.approx((0.034473, 0.017236), abs=1e-6)


def test_soft_labels_of_the_worked_example():
    teacher, student = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[1.0, 0.5, -1.0]])
    kld = soft_label_loss(student, teacher, temperature=2.0, kind="classification")
    task = task_loss(student, torch.tensor([0]), "classification")
    assert float(kld) == pytest.approx(0.224055, abs=1e-6)
    assert float(task) == pytest.approx(0.554957, abs=1e-6)
    assert float(0.5 * task + 0.5 * kld) == pytest.approx(0.389506, abs=1e-6)


def test_regression_is_the_squared_error_of_one_output():
    logits, labels = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0])
    assert float(task_loss(logits, labels, "regression")) == pytest.approx((1 + 4) / 2)
    assert float(soft_label_loss(logits, logits + 2, temperature=2.0, kind="regression")) == pytest.approx(4.0)


def test_a_constant_feature_gives_zeros_not_nan():
    states = torch.cat([STUDENT, torch.full((4, 1), 5.0)], dim=1)
    matrix = correlation_matrix(states, states)
    assert matrix.isfinite().all()
    assert matrix[2].abs().max() == 0 and matrix[:, 2].abs().max() == 0


def test_fewer_than_three_rows_skip_the_term_but_keep_the_graph():
    states = STUDENT[:2].clone().requires_grad_()
    loss = cross_correlation_loss(states, TEACHER[:2], off_diagonal=0.005)
    loss.backward()
    assert loss == 0 and states.grad.abs().max() == 0


def test_gradient_reaches_the_student_only():
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    cross_correlation_loss(student, teacher, off_diagonal=0.005).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


def test_the_small_batch_floor_of_the_specification():
    torch.manual_seed(0)
    states = torch.randn(32, 768)
    matrix = correlation_matrix(states, states, epsilon=0.0)
    off = float(matrix.square().sum() - matrix.diagonal().square().sum())
    assert off >= 768**2 / 31 - 768 - 0.5
    assert round(768**2 / 31 - 768) == 18259


def test_cosine_of_equal_opposite_and_orthogonal_rows():
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert float(cosine_distance(rows, 3 * rows)) == pytest.approx(0.0, abs=1e-6)
    assert float(cosine_distance(rows, -rows)) == pytest.approx(2.0, abs=1e-6)
    assert float(cosine_distance(rows, rows.flip(0))) == pytest.approx(1.0, abs=1e-6)


def test_distance_is_a_mean_over_everything_or_over_real_tokens():
    student, teacher = torch.zeros(2, 2, 3), torch.ones(2, 2, 3)
    teacher[1, 1] = 100.0
    assert float(distance(student, teacher, torch.tensor([[1, 1], [1, 0]]))) == 1.0
    assert float(distance(student, teacher, None)) == pytest.approx((3 + 10_000) / 4)


def test_bf16_inputs_are_computed_in_fp32():
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_correlation_loss(STUDENT.bfloat16(), TEACHER.bfloat16(), off_diagonal=0.005)
    assert loss.dtype == torch.float32
    assert math.isclose(float(loss), 0.017236, abs_tol=1e-4)


@pytest.mark.parametrize("constant", [0.0, 1.0, -3.7])
@pytest.mark.parametrize("jitter", [0.0, 1e-7, 1e-4])
@pytest.mark.parametrize("side", ["student", "teacher", "both"])
def test_a_feature_that_is_constant_over_the_batch_has_an_ordinary_gradient(constant, jitter, side):
    """A whole feature may be dead, or equal in all rows of a batch (own audit: the gradient was 1e5)."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(16, 32, generator=generator) for _ in range(2))
    for name, states in (("student", student), ("teacher", teacher)):
        if side in (name, "both"):
            states[:, 3] = constant + jitter * states[:, 3]
    student.requires_grad_()
    cross_correlation_loss(student, teacher, off_diagonal=0.005).backward()
    others = [index for index in range(32) if index != 3]
    assert bool(student.grad.isfinite().all()) and float(student.grad.abs().max()) < 10.0
    assert float(student.grad[:, others].abs().max()) < 0.1


def test_a_vector_without_length_has_an_ordinary_gradient():
    for length in (0.0, 1e-9, 1e-5):
        student = torch.zeros(4, 8).index_fill(1, torch.tensor([0]), length).requires_grad_()
        cosine_distance(student, torch.ones(4, 8)).backward()
        assert float(student.grad.abs().max()) < 100.0


def test_clamped_scales_change_nothing_for_features_that_vary():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (0.05 * torch.randn(16, 32, generator=generator) for _ in range(2))

    def units(states):
        centred = states - states.mean(dim=0)
        return centred / (centred.norm(dim=0) + 1e-6)

    assert torch.equal(correlation_matrix(student, teacher), units(student).T @ units(teacher))
    plain = (1.0 - torch.nn.functional.cosine_similarity(student, teacher, dim=-1)).mean()
    assert torch.equal(cosine_distance(student, teacher), plain)
