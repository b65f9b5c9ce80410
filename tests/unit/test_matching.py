"""Which student layer learns from which teacher layer, by hand and against the public code's matrix."""

import json
from pathlib import Path

import pytest
import torch

from espalier.losses.layer_matching import evenly_spaced, one_per_block, ordered, pairs, same_index, unrestricted

VECTOR = json.loads((Path(__file__).parents[1] / "methods/cofi-vectors.json").read_text())["layer_matching"][0]


def everywhere(layers=4):
    return [True] * layers


@pytest.mark.parametrize("match", [unrestricted, ordered])
def test_the_matrix_of_the_public_code(match):
    matrix = torch.tensor(VECTOR["mse_matrix"])
    teacher = [layer - 1 for layer in VECTOR["teacher_layers_matched_1_based"]]
    students = [student + 1 for _, student in match(matrix, teacher, everywhere(6))]
    assert students == VECTOR["unrestricted"], "its order does not cross, so both variants agree"


CROSSING = torch.tensor([[3.0, 2.0, 1.0, 0.5], [0.1, 2.0, 3.0, 4.0], [9.0, 9.0, 1.0, 2.0]])
"""Nearest are the layers 3, 0 and 2."""


@pytest.mark.parametrize(
    ("match", "exists", "students"),
    [
        (unrestricted, [1, 1, 1, 1], [3, 0, 2]),
        (unrestricted, [0, 1, 1, 0], [2, 1, 2]),
        (unrestricted, [0, 0, 0, 0], []),
        (ordered, [1, 1, 1, 1], [0, 0, 2]),
        (ordered, [0, 1, 1, 1], [1, 1, 2]),
        (ordered, [1, 1, 0, 1], [0, 0, 3]),
        (ordered, [0, 0, 0, 1], [3, 3, 3]),
        (ordered, [0, 0, 0, 0], []),
    ],
)
def test_layers_that_are_gone_do_not_count(match, exists, students):
    pairs = match(CROSSING, [1, 2, 3], [bool(there) for there in exists])
    assert pairs == list(zip([1, 2, 3], students, strict=bool(students)))


def test_fixed_matching_skips_layers_that_are_gone():
    assert same_index([1, 3, 5], [True, True, True, False, True, True]) == [(1, 1), (5, 5)]


@pytest.mark.parametrize(
    ("layers", "count", "chosen"),
    [
        (12, 4, [2, 5, 8, 11]),
        (6, 4, [1, 2, 4, 5]),
        (2, 4, [0, 1]),
        (1, 4, [0]),
        (24, 4, [5, 11, 17, 23]),
        (3, 1, [2]),
        (12, 12, list(range(12))),
    ],
)
def test_teacher_layers_are_evenly_spaced_at_every_depth(layers, count, chosen):
    assert evenly_spaced(layers, count) == chosen


@pytest.mark.parametrize(
    ("layers", "count", "draws", "chosen"),
    [
        (12, 4, [0.0] * 4, [1, 3, 6, 9]),
        (12, 4, [0.99] * 4, [2, 5, 8, 11]),
        (6, 4, [0.5] * 4, [1, 2, 4, 5]),
        (2, 4, [0.5] * 4, [0, 1]),
    ],
)
def test_one_layer_is_drawn_in_each_block_but_not_the_very_first(layers, count, draws, chosen):
    assert one_per_block(layers, count, draws) == chosen


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("fixed", [(1, 1), (2, 2)]),
        ("unrestricted", [(1, 2), (2, 0)]),
        ("random", [(1, 2), (2, 0)]),
        ("ordered", [(1, 0), (2, 0)]),
    ],
)
def test_who_learns_from_whom_by_name(how, expected):
    """The student's layers hold the teacher's outputs in another order."""
    layers = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    student = [layers[2], layers[0], layers[1]]
    assert pairs(how, {1: layers[1], 2: layers[2]}, student, [True] * 3, None) == expected


def test_padding_can_decide_a_match():
    teacher, near, far = torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), torch.full((1, 2, 3), 0.5)
    near[0, 1] = 9.0
    mask = torch.tensor([[1, 0]])
    assert pairs("unrestricted", {0: teacher}, [near, far], [True, True], None) == [(0, 1)]
    assert pairs("unrestricted", {0: teacher}, [near, far], [True, True], mask) == [(0, 0)]
