"""Analyses against the check values of the docs/methods/sdp.md §6, and against numbers worked by hand."""

import math

import pytest
import torch

from espalier.analyses.statistics import (
    class_separability,
    class_signal_to_noise,
    distortion,
    excess_kurtosis,
    fraction_below,
    hoyer_sparsity,
    on_scale_of,
    signal_to_noise_db,
)
from espalier.pruning.scores import keep_highest, magnitude
from espalier.results.recovery import overfitting_gap, recoveries, recovery

VECTORS = torch.tensor([[1.0, 0.0], [1.0, 0.2], [0.0, 1.0], [0.3, 1.0]])
LABELS = torch.tensor([0, 0, 1, 1])
TEACHER = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [1.0, 3.0]])
STUDENT = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 2.0]])


def pairwise_separability(vectors, labels):
    """The definition by pairs, self-pairs included, classes weighted equally."""
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    groups = [unit[labels == label] for label in labels.unique()]

    def between(one, other):
        return (1 - one @ other.T).mean()

    within = torch.stack([between(one, one) for one in groups]).mean()
    return 1 - within / torch.stack([between(one, other) for one in groups for other in groups]).mean()


def test_class_separability_of_the_worked_example():
    assert float(class_separability(VECTORS, LABELS)) == pytest.approx(0.960371, abs=1e-6)


def test_class_separability_is_the_pairwise_definition_with_classes_weighted_equally():
    vectors, labels = (
        torch.randn(40, 5, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0] * 25 + [1] * 10 + [4] * 5),
    )
    assert float(class_separability(vectors, labels)) == pytest.approx(float(pairwise_separability(vectors, labels)), abs=1e-9)
    lengths = torch.rand(40, 1, generator=torch.Generator().manual_seed(1)) + 0.1
    assert float(class_separability(vectors * lengths, labels)) == pytest.approx(float(class_separability(vectors, labels)))


def test_vectors_of_one_direction_or_one_class_are_not_separated():
    assert float(class_separability(torch.ones(4, 1), LABELS)) == 0.0
    assert float(class_separability(VECTORS, torch.zeros(4, dtype=torch.long))) == pytest.approx(0.0, abs=1e-12)


def test_class_signal_to_noise_by_hand_and_without_scale():
    vectors = torch.tensor([[0.0], [2.0], [10.0], [14.0]])  # means 1 and 12, variances 1 and 4; between (11 / 2)²
    assert float(class_signal_to_noise(vectors, LABELS)) == pytest.approx(5.5**2 / 2.5)
    assert float(class_signal_to_noise(7 * vectors, LABELS)) == pytest.approx(5.5**2 / 2.5)


def test_signal_to_noise_of_the_worked_example():
    assert float(signal_to_noise_db(STUDENT, TEACHER)) == pytest.approx(9.2942, abs=1e-4)
    assert float(signal_to_noise_db(TEACHER, TEACHER)) == math.inf


def test_on_the_teacher_s_scale_only_scale_and_shift_are_forgiven():
    moved = TEACHER * torch.tensor([3.0, 0.1]) + torch.tensor([-5.0, 2.0])
    torch.testing.assert_close(on_scale_of(moved, TEACHER), TEACHER.double(), atol=1e-6, rtol=0)
    other = on_scale_of(STUDENT, TEACHER)
    torch.testing.assert_close(on_scale_of(2 * STUDENT + 1, TEACHER), other, atol=1e-6, rtol=0)
    assert (other - TEACHER).abs().max() > 0.1, "what is not scale stays"
    for constant in (1.0, 0.1, -3.7, 1e-5):
        noiseless = on_scale_of(torch.full((4, 2), constant), TEACHER)
        torch.testing.assert_close(noiseless, TEACHER.double().mean(dim=0).expand(4, 2), atol=1e-6, rtol=0)
    flat = on_scale_of(torch.ones(4, 2), TEACHER)
    torch.testing.assert_close(flat, TEACHER.double().mean(dim=0).expand(4, 2))


def test_recovery_by_hand():
    found = recovery(0.9, [0, 10, 20, 40], [0.5, 0.7, 0.8, 0.7])
    # 0.5 + 0.9 x 0.3 = 0.77 lies seven tenths of the way from 10 to 20 steps
    assert found == pytest.approx((0.4, 17 / 40, (0.3 + 0.1 + 0.0 + 0.1) / 4))


def test_a_score_that_never_rises_has_recovered_at_once():
    assert recovery(0.5, [0, 5, 10], [0.6, 0.6, 0.4]) == pytest.approx((-0.1, 0.0, 0.2 / 3))


def test_removals_are_where_the_step_stands_still():
    steps = [0, 0, 10, 20, 20, 20, 30, 40]  # a removal at step 0, one at 20 where an evaluation was due as well
    scores = [0.9, 0.5, 0.7, 0.8, 0.8, 0.3, 0.6, 0.4]
    first, second = recoveries(steps, scores)
    assert first == recovery(0.9, [0, 10, 20], [0.5, 0.7, 0.8]) and second == recovery(0.8, [0, 10, 20], [0.3, 0.6, 0.4])
    assert recoveries([10, 20, 30], [0.1, 0.2, 0.3]) == [] and recoveries([10, 10], [0.5, 0.4]) == []


def test_hoyer_sparsity_between_its_extremes():
    assert float(hoyer_sparsity(torch.tensor([[0.3, -0.3], [0.3, 0.3]]))) == pytest.approx(0.0, abs=1e-6)
    assert float(hoyer_sparsity(torch.tensor([0.0, 0.0, -7.0, 0.0]))) == pytest.approx(1.0)
    assert float(hoyer_sparsity(torch.tensor([3.0, 4.0, 0.0, 0.0]))) == pytest.approx(2 - 7 / 5)


def test_fractions_and_kurtosis_by_hand():
    weight = torch.tensor([1e-4, -5e-4, 2e-3, -1.0])
    assert float(fraction_below(weight, 1e-3)) == 0.5 and float(fraction_below(weight, 0.01 * 1.0)) == 0.75
    assert float(excess_kurtosis(torch.tensor([-1.0, 1.0]))) == pytest.approx(-2.0)
    assert float(excess_kurtosis(torch.tensor([0.0, 0.0, 0.0, 0.0, 5.0]))) == pytest.approx(3.25 - 3)
    assert abs(float(excess_kurtosis(torch.randn(200_000, generator=torch.Generator().manual_seed(0))))) < 0.05


def test_distortion_by_hand_and_magnitude_has_the_least():
    weight, kept = torch.tensor([[3.0, 4.0], [0.0, 12.0]]), torch.tensor([[False, True], [True, True]])
    assert float(distortion(weight, kept)) == pytest.approx(3 / 13)
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(3))
    least = distortion(weight, keep_highest(magnitude(weight), 24))
    for seed in range(20):
        other = keep_highest(torch.rand(6, 8, generator=torch.Generator().manual_seed(seed)), 24)
        assert least <= distortion(weight, other)


def test_no_unit_input_is_moved_by_more_than_what_was_removed():
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(3)).double()
    removed = weight.masked_fill(keep_highest(magnitude(weight), 24), 0.0)
    rows = torch.nn.functional.normalize(torch.randn(500, 8, generator=torch.Generator().manual_seed(4)).double(), dim=1)
    assert (rows @ removed.T).norm(dim=1).max() <= removed.norm()


def test_the_overfitting_gap_grows_where_training_rows_are_known_better():
    train, held_out = {"loss": 0.1, "accuracy": 0.98}, {"loss": 0.7, "accuracy": 0.80}
    assert overfitting_gap("accuracy", train, held_out) == pytest.approx((0.18, 0.6))
