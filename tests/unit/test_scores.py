import torch

from espalier.pruning.scores import keep_highest, magnitude, movement_update


def test_magnitude_is_the_absolute_value_without_a_graph():
    weight = torch.tensor([-2.0, 0.5], requires_grad=True)
    assert magnitude(weight).tolist() == [2.0, 0.5] and not magnitude(weight).requires_grad


def test_movement_is_positive_where_a_step_moves_the_weight_away_from_zero():
    weight, gradient = torch.tensor([1.0, 1.0, -1.0]), torch.tensor([-0.5, 0.5, 0.5])
    assert movement_update(weight, gradient).tolist() == [0.5, -0.5, 0.5]


def test_exactly_as_many_are_removed_and_ties_go_from_the_front():
    scores = torch.tensor([[1.0, 2.0], [1.0, 1.0]])
    assert keep_highest(scores, 2).tolist() == [[False, True], [False, True]]
    assert keep_highest(scores, 0).all()
    assert not keep_highest(scores, 4).any()


def test_what_is_removed_already_stays_removed():
    scores = torch.tensor([-torch.inf, 0.0, -torch.inf, 3.0])
    assert keep_highest(scores, 3).tolist() == [False, False, False, True]
