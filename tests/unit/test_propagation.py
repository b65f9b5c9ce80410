"""Errors on the way through a student: hybrids, the bound of the docs/methods/spd.md §6.4, and what is refused."""

import copy

import pytest
import torch

from espalier.analyses.propagation import hybrid_states, propagation, squared_errors
from espalier.data.batches import Batch
from espalier.models.encoder import encoder_layers
from espalier.runtime.errors import UserError
from tests import tiny

LAYERS = 3
ALONE = [name for name, (family, _) in tiny.VARIANTS.items() if family != "deberta-v2"]
"""Variants whose layers read their input alone."""


def batch() -> Batch:
    inputs = tiny.padded_batch()
    return Batch(torch.arange(3), inputs["input_ids"], inputs["attention_mask"], None, torch.zeros(3, dtype=torch.long))


def pair(variant="bert", moved=lambda name: True):
    """A teacher, and a student of which the parameters that `moved` names are others."""
    teacher = tiny.encoder(variant).requires_grad_(False)
    student = copy.deepcopy(teacher)
    torch.manual_seed(9)
    for name, parameter in student.named_parameters():
        if moved(name):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return student, teacher


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_the_distance_is_within_the_bound(variant):
    student, teacher = pair(variant)
    found = propagation(squared_errors(hybrid_states(student, teacher, batch())))
    assert 0 < found.distance <= found.bound
    assert len(found.local) == len(found.accumulated) == len(found.steps) == LAYERS + 1
    assert found.local[0] == pytest.approx(found.accumulated[0]) and found.gain[-1] == pytest.approx(1.0)


@pytest.mark.parametrize("variant", ALONE)
def test_the_first_hybrid_is_the_student_and_the_last_one_the_teacher(variant):
    student, teacher = pair(variant)
    hybrids, of_teacher = hybrid_states(student, teacher, batch()), hybrid_states(teacher, copy.deepcopy(teacher), batch())[0]
    of_student = hybrid_states(student, copy.deepcopy(student), batch())[0]
    assert len(hybrids) == LAYERS + 2 and all(len(states) == LAYERS + 1 for states in hybrids)
    assert all(map(torch.equal, hybrids[-1], of_teacher)) and all(map(torch.equal, hybrids[0], of_student))
    assert hybrids[0][0].shape == (17 + 10 + 17, 32), "real tokens only"


def test_equal_models_have_no_error_and_no_gain():
    found = propagation(squared_errors(hybrid_states(*pair(moved=lambda name: False), batch())))
    assert found.distance == 0.0 and not any(found.local) and found.gain == [None] * (LAYERS + 1)


def test_an_error_in_one_layer_is_local_there_and_accumulated_from_there_on():
    prefix = encoder_layers(tiny.encoder("bert"))[0]
    found = propagation(squared_errors(hybrid_states(*pair(moved=lambda name: name.startswith(f"{prefix}.1.")), batch())))
    assert [error > 0 for error in found.local] == [False, False, True, False]
    assert [error > 0 for error in found.accumulated] == [False, False, True, True]
    assert found.distance == pytest.approx(found.bound) == pytest.approx(found.steps[2])


def test_squares_of_batches_add_up():
    student, teacher = pair()
    squares = squared_errors(hybrid_states(student, teacher, batch()))
    twice, once = propagation(squares + squares), propagation(squares)
    assert twice.local == pytest.approx(once.local) and twice.distance == pytest.approx(2**0.5 * once.distance)


def test_by_hand():
    one, other = [torch.tensor([[value]]) for value in (3.0, 8.0)], [torch.tensor([[value]]) for value in (4.0, 10.0)]
    between = [other[0], torch.tensor([[9.0]])]  # the student's layer on the teacher's embeddings
    found = propagation(squared_errors([one, between, other]))
    assert found.local == pytest.approx([1 / 4, 1 / 10]) and found.accumulated == pytest.approx([1 / 4, 2 / 10])
    assert found.steps == pytest.approx([1.0, 1.0]) and found.distance == pytest.approx(2.0)
    assert found.gain == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("changes", [{"num_hidden_layers": 2}, {"hidden_size": 16}])
def test_other_shapes_are_refused(changes):
    with pytest.raises(UserError, match=r"the student has \d layers of hidden width \d+, its teacher 3 of 32"):
        hybrid_states(tiny.encoder("bert", **changes), tiny.encoder("bert"), batch())
