from itertools import pairwise

import pytest

from espalier.pruning.schedules import sparsity_steps
from espalier.training.schedule import interval_bounds, learning_rate_factor, steps_of_epoch


def test_uniform_steps_of_the_specification():
    assert sparsity_steps(0.0, 0.9, 9, "uniform") == pytest.approx([0.1 * k for k in range(1, 10)])


def test_geometric_keeps_the_same_fraction_at_each_removal():
    remaining = [1 - s for s in sparsity_steps(0.0, 1 - 0.9**22, 22, "geometric")]
    assert remaining[10] == pytest.approx(0.314, abs=5e-4)
    assert remaining[21] == pytest.approx(0.0985, abs=5e-5)
    assert all(later / earlier == pytest.approx(0.9) for earlier, later in pairwise(remaining))


def test_cubic_ramp_shared_with_spd():
    expected = [0.2068, 0.3792, 0.5203, 0.6333, 0.7214, 0.7875, 0.8349, 0.8667, 0.8859, 0.8958, 0.8995, 0.9]
    assert sparsity_steps(0.0, 0.9, 12, "cubic") == pytest.approx(expected, abs=6e-5)


def test_a_later_stage_continues_where_the_one_before_ended():
    assert sparsity_steps(0.5, 0.9, 2, "uniform") == pytest.approx([0.7, 0.9])
    assert sparsity_steps(0.5, 0.9, 1, "cubic") == [0.9]


def test_the_last_step_of_an_epoch_may_be_over_fewer_rows():
    assert [steps_of_epoch(rows, 16) for rows in (16, 17, 32, 33)] == [1, 2, 2, 3]


def test_interval_bounds_accumulate_and_have_at_least_one_step():
    assert interval_bounds([1.0, 0.5, 0.001], 10) == [10, 15, 16]


def test_the_rate_warms_up_falls_and_restarts():
    rates = [learning_rate_factor(step, [10, 20], 0.2, "linear") for step in range(20)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rates[9] == pytest.approx(1 / 8)
    assert rates[10:] == pytest.approx(rates[:10])
    assert learning_rate_factor(9, [10], 0.2, "constant") == 1.0


def test_an_interval_may_be_cut_off_before_its_schedule_ends():
    """The public code of CoFi: pre-pruning is the beginning of a schedule over the whole run, then a new one begins."""
    rates = [learning_rate_factor(step, [10, 40], 0.0, "linear", [40, 40]) for step in range(40)]
    assert rates[:10] == pytest.approx([(40 - step) / 40 for step in range(10)])
    assert rates[10:] == pytest.approx([(30 - step) / 30 for step in range(30)])
    warm = [learning_rate_factor(step, [10, 40], 0.5, "linear", [40, 40]) for step in range(10)]
    assert warm == pytest.approx([(step + 1) / 21 for step in range(10)]), "warm-up is a part of the whole schedule, too"
    own = [learning_rate_factor(step, [10, 40], 0.2, "linear", [10, 40]) for step in range(40)]
    assert own == [learning_rate_factor(step, [10, 40], 0.2, "linear") for step in range(40)]
