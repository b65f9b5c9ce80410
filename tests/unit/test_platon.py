"""Running scores of weights and units: hand-worked numbers, windows, and state."""

import pytest
import torch
from torch import nn

from espalier.pruning.platon import Importance, sensitivity, smoothed, unit_scores


def importance(criterion="platon", window=1, **changes):
    weight = nn.Parameter(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))
    made = Importance({"one.weight": weight}, criterion, **{"beta1": 0.5, "beta2": 0.75, "window": window, **changes})
    return weight, made


def step(weight, made, gradient):
    weight.grad = torch.full_like(weight, gradient)
    made.gather()


def test_sensitivity_is_the_product_s_size():
    torch.testing.assert_close(sensitivity(torch.tensor([2.0, -3.0]), torch.tensor([-1.0, 0.5])), torch.tensor([2.0, 1.5]))


def test_running_averages_by_hand():
    mean, spread = torch.tensor([4.0]), torch.tensor([1.0])
    mean, spread = smoothed(mean, spread, torch.tensor([2.0]), beta1=0.5, beta2=0.75)
    assert mean.item() == 3.0  # 0.5 * 4 + 0.5 * 2
    assert spread.item() == 1.0  # 0.75 * 1 + 0.25 * |2 - 3|


def test_platon_is_average_times_uncertainty():
    weight, made = importance()
    for gradient in (1.0, -3.0):
        step(weight, made, gradient)
    size = weight.detach().abs()  # S = size, then 3 size; I = 0.5, 1.75; U = 0.25 * 0.5, then 0.75 * 0.125 + 0.25 * 1.25
    torch.testing.assert_close(made.scores()["one.weight"], 1.75 * 0.40625 * size * size)


def test_a_window_enters_as_its_mean():
    weight, made = importance("averaged-sensitivity", window=2)
    step(weight, made, 1.0)
    assert made.updates == 0
    torch.testing.assert_close(made.scores()["one.weight"], weight.detach().abs())  # of the window begun
    step(weight, made, 3.0)
    torch.testing.assert_close(made.scores()["one.weight"], 0.5 * 2.0 * weight.detach().abs())
    step(weight, made, 100.0)
    torch.testing.assert_close(made.scores()["one.weight"], 0.5 * 2.0 * weight.detach().abs())


def test_sensitivity_alone_knows_the_last_step_only():
    weight, made = importance("sensitivity", window=5)
    for gradient in (7.0, -2.0):
        step(weight, made, gradient)
    torch.testing.assert_close(made.scores()["one.weight"], 2.0 * weight.detach().abs())


@pytest.mark.parametrize("criterion", ["magnitude", "random"])
def test_what_reads_no_gradients_keeps_nothing(criterion):
    weight, made = importance(criterion)
    step(weight, made, 5.0)
    assert not made.stores and set(made.state_dict()) == {"counts"}
    torch.testing.assert_close(made.scores()["one.weight"], weight.detach().abs())


@pytest.mark.parametrize("criterion", ["platon", "averaged-sensitivity", "sensitivity"])
def test_state_goes_on_as_if_nothing_had_happened(criterion):
    weight, made = importance(criterion, window=3)
    for gradient in (1.0, 2.0, 3.0, 4.0):
        step(weight, made, gradient)
    other, again = importance(criterion, window=3)
    again.load_state_dict(made.state_dict())
    for gradient in (5.0, 6.0):
        step(weight, made, gradient)
        step(other, again, gradient)
    torch.testing.assert_close(made.scores(), again.scores(), atol=0, rtol=0)


SCORES = {"a.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "a.bias": torch.tensor([2.0, 0.0]), "b.weight": torch.eye(2)}
AXES = {"a.weight": {0: "rows", 1: "columns"}, "a.bias": {0: "rows"}, "b.weight": {1: "rows"}}


def test_units_are_sums_over_rows_and_columns():
    found = unit_scores(SCORES, AXES, divided=False)
    torch.testing.assert_close(found["rows"], torch.tensor([3.0 + 2.0 + 1.0, 7.0 + 0.0 + 1.0]))
    torch.testing.assert_close(found["columns"], torch.tensor([4.0, 6.0]))


def test_members_divided_by_their_mean_count_alike():
    found = unit_scores(SCORES, AXES, divided=True)
    torch.testing.assert_close(found["rows"], torch.tensor([5.0, 7.0]) / 2.0 + 1.0 / 0.5)
    scaled = {**SCORES, "b.weight": 1e6 * SCORES["b.weight"]}
    torch.testing.assert_close(unit_scores(scaled, AXES, divided=True), found)


def test_a_matrix_of_zeros_says_nothing():
    found = unit_scores({**SCORES, "b.weight": torch.zeros(2, 2)}, AXES, divided=True)
    torch.testing.assert_close(found["rows"], torch.tensor([2.5, 3.5]))
