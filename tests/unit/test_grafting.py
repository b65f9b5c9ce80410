"""Grafted encoders: what runs at each position, what gradients reach, probabilities and draws."""

import copy
import itertools

import pytest
import torch

from espalier.methods.spd import draw, grafting_probability
from espalier.models.attention import RECORDED, recorded
from espalier.models.encoder import encoder_layers
from espalier.models.grafting import Grafts
from tests import tiny

LAYERS = 3
PATTERNS = list(itertools.product([False, True], repeat=LAYERS))
WITH_MAPS = [name for name, (family, _) in tiny.VARIANTS.items() if family != "deberta-v2"]


def grafts(variant="bert", moved=True):
    """A teacher, a student whose layers (and nothing else) differ from it, and their pairs."""
    teacher = tiny.encoder(variant).requires_grad_(False)
    student = copy.deepcopy(teacher).requires_grad_(True)
    if moved:
        torch.manual_seed(9)
        with torch.no_grad():
            for parameter in encoder_layers(student)[1].parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return student, teacher, Grafts(student, teacher)


def states(model):
    outputs = model(**tiny.padded_batch(), output_hidden_states=True)
    return [outputs.logits, *outputs.hidden_states]


def same(first, second):
    return len(first) == len(second) and all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("variant", tiny.EVERY)
@torch.no_grad()
def test_no_bit_gives_the_teacher_every_bit_the_student_and_others_neither(variant):
    student, teacher, pairs = grafts(variant)
    own, theirs = states(student), states(teacher)
    for pattern in PATTERNS:
        with pairs.grafted(torch.tensor(pattern)):
            found = states(student)
        assert same(found, theirs) == (not any(pattern)) and same(found, own) == all(pattern), pattern
        assert len(found) == LAYERS + 2
    assert same(states(student), own) and same(states(teacher), theirs), "nothing is left behind"


@pytest.mark.parametrize("variant", tiny.EVERY)
@torch.no_grad()
def test_at_the_start_any_pattern_is_the_teacher(variant):
    student, teacher, pairs = grafts(variant, moved=False)
    for pattern in PATTERNS:
        with pairs.grafted(torch.tensor(pattern)):
            assert same(states(student), states(teacher))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_gradients_pass_through_the_teacher_s_layers_to_the_student_s_below(pattern):
    student, teacher, pairs = grafts()
    for name, parameter in student.named_parameters():
        parameter.requires_grad_(".layer." in name)
    with pairs.grafted(torch.tensor(pattern)):
        logits = states(student)[0]
    assert logits.requires_grad == any(pattern), "nothing is kept for layers that no gradient needs"
    if any(pattern):
        logits.square().sum().backward()
    reached = [any(p.grad is not None and bool(p.grad.any()) for p in pair.own.parameters()) for pair in pairs.pairs]
    assert reached == list(pattern)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_teacher_s_layers_have_no_dropout_while_the_student_trains():
    student, teacher, pairs = grafts()
    student.base_model.embeddings.eval()
    encoder_layers(student)[1].train()
    with torch.no_grad():
        with pairs.grafted(torch.tensor([False] * LAYERS)):
            assert same(states(student), states(teacher))
        with pairs.grafted(torch.tensor([True, False, False])):
            assert not same(states(student), states(student))


def test_an_error_inside_leaves_the_student_as_it_was():
    student, _, pairs = grafts()
    names, own = list(student.state_dict()), states(student)
    with pytest.raises(RuntimeError, match="stop"), pairs.grafted(torch.tensor([False, True, False])):
        assert list(student.state_dict()) == names, "the teacher's weights are no part of the student"
        raise RuntimeError("stop")
    assert same(states(student), own)


@pytest.mark.parametrize("variant", WITH_MAPS)
@torch.no_grad()
def test_maps_are_recorded_of_the_layers_that_run(variant):
    student, teacher, pairs = grafts(variant)
    bits = [True, False, True]
    with pairs.grafted(torch.tensor(bits)), recorded(student, "maps") as found:
        student(**tiny.padded_batch())
    layers = encoder_layers(student)[1]
    for index, bit in enumerate(bits):  # a student that has the teacher's layers for good
        layers[index] = layers[index] if bit else encoder_layers(teacher)[1][index]
    for model in (student, teacher):
        assert model.config._attn_implementation != RECORDED
        model.set_attn_implementation("eager")
    for layer in layers:
        for module in layer.modules():
            if hasattr(module, "config"):
                module.config._attn_implementation = "eager"
    expected = student(**tiny.padded_batch(), output_attentions=True).attentions
    real = tiny.padded_batch()["attention_mask"].bool()
    for own, theirs in zip(found.maps, expected, strict=True):
        own, theirs = (each.transpose(1, 2)[real] for each in (own, theirs))  # rows of padded queries are nobody's
        torch.testing.assert_close(own, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("ramp", "expected"),
    [
        ("constant", {0: 0.8, 29: 0.8, 30: 0.8, 59: 0.8}),
        ("constant-linear", {0: 0.8, 29: 0.8, 30: 0.8, 35: 0.9, 39: 0.98, 40: 1.0, 59: 1.0}),
        ("constant-jump-linear", {0: 0.8, 29: 0.8, 30: 0.4, 35: 0.7, 39: 0.94, 40: 1.0}),
        ("linear", {0: 0.8, 10: 0.85, 30: 0.95, 40: 1.0, 59: 1.0}),
    ],
)
def test_probabilities(ramp, expected):
    found = {step: grafting_probability(step, first=0.8, begin=30, end=40, ramp=ramp, jump=0.4) for step in expected}
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("ramp", ["linear", "constant-linear", "constant-jump-linear"])
def test_a_ramp_without_length_is_1_from_its_place_on(ramp):
    assert grafting_probability(30, first=0.8, begin=30, end=30, ramp=ramp, jump=0.4) == 1.0


def test_draws_are_independent_repeatable_and_sure_at_1():
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    bits = torch.stack([draw(0.8, 12, generator) for _ in range(4000)])
    assert float(bits.float().mean()) == pytest.approx(0.8, abs=0.01)
    assert float(bits.all(dim=1).float().mean()) == pytest.approx(0.8**12, abs=0.015)  # 0.069: the specification's number
    generator.set_state(state)
    assert torch.equal(torch.stack([draw(0.8, 12, generator) for _ in range(4000)]), bits)
    assert draw(1.0, 1000, generator).all() and not draw(0.0, 1000, generator).any()
    assert torch.equal(_after(1.0), _after(0.3)), "the probability does not move the generator"


def _after(probability):
    generator = torch.Generator().manual_seed(1)
    draw(probability, 12, generator)
    return generator.get_state()
