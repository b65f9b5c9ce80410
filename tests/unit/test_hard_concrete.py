"""Gates against their formulas and against vectors that the public code computed."""

import json
import math
from pathlib import Path

import pytest
import torch

from espalier.models.modeling_espalier import Shape
from espalier.pruning.hard_concrete import LIMIT, HardConcreteGates, deterministic, expected_removed, kept_probability, sample

CASES = json.loads((Path(__file__).parents[1] / "methods/cofi-vectors.json").read_text())["cases"]
KINDS = ["heads", "ffn_units", "hidden", "ffn_sublayers", "attention_sublayers"]
SHAPE = Shape(6, 4, 6, ((2, 5), (0, 3), (1, 0)))
EVERY = ("heads", "units", "attention", "ffn", "hidden")


def tensor(values, like=None):
    found = torch.tensor(values["values"]).view(values["shape"]) if isinstance(values, dict) else torch.tensor(values)
    return found if like is None else found.view_as(like)


def rows(log_alpha, kind):
    """The vectors that are decided together: a layer's heads or units, all hidden dimensions, one sublayer."""
    return log_alpha.unsqueeze(0) if kind == "hidden" else log_alpha.reshape(len(log_alpha), -1)


@pytest.mark.parametrize("case", CASES, ids=["first", "second"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_formulas_give_what_the_public_code_gives(case, kind):
    log_alpha = tensor(case["log_alpha"][kind])
    same = {"atol": 1e-5, "rtol": 0.0}
    torch.testing.assert_close(
        sample(log_alpha, tensor(case["uniform"][kind], log_alpha)), tensor(case["sampled_gates"][kind], log_alpha), **same
    )
    torch.testing.assert_close(
        kept_probability(log_alpha), tensor(case["probability_kept"][kind], log_alpha), atol=1e-6, rtol=0.0
    )
    decided = torch.cat([deterministic(row) for row in rows(log_alpha, kind)]).view_as(log_alpha)
    torch.testing.assert_close(decided, tensor(case["deterministic_masks"][kind], log_alpha), **same)


@pytest.mark.parametrize(("log_alpha", "probability"), [(4.605, 0.998), (0.0, 0.832), (-1.599, 0.5), (-4.605, 0.047)])
def test_probabilities_that_the_specification_names(log_alpha, probability):
    assert float(kept_probability(torch.tensor(log_alpha))) == pytest.approx(probability, abs=5e-4)


@pytest.mark.parametrize("log_alpha", [-4.6, -1.6, 0.0, 2.0, 4.6])
def test_probability_of_zero_matches_the_formula_over_many_draws(log_alpha):
    draws = 100_000
    gates = sample(torch.full((draws,), log_alpha), torch.rand(draws, generator=torch.Generator().manual_seed(1)))
    assert gates.min() >= 0.0 and gates.max() <= 1.0
    probability = 1.0 - float(kept_probability(torch.tensor(log_alpha)))
    deviation = math.sqrt(probability * (1.0 - probability) / draws)
    assert abs(float((gates == 0).float().mean()) - probability) < 5.0 * deviation
    assert float((gates == 1).float().mean()) == pytest.approx(1.0 - 1.0 / (1.0 + math.exp(log_alpha - 1.5986)), abs=0.01)


def test_noise_at_the_ends_gives_numbers():
    ends = sample(torch.zeros(2), torch.tensor([0.0, 1.0]))
    assert ends.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("removed", [0, 2, 4])
def test_the_lowest_gates_are_closed_and_the_others_stay_soft(removed):
    log_alpha = torch.tensor([2.0, -3.0, 4.6, 0.5])
    gates = deterministic(log_alpha, removed)
    assert int((gates == 0).sum()) == removed and gates.max() < 0.997
    assert torch.equal((gates == 0).nonzero().flatten(), log_alpha.argsort()[:removed].sort().values)
    assert expected_removed(log_alpha) == round(4 - float(kept_probability(log_alpha).sum())) == 1


def gates(kinds=EVERY, mean=10.0, unit_mean=0.0):
    return HardConcreteGates(SHAPE, kinds, mean, unit_mean, torch.Generator().manual_seed(0))


def test_there_is_a_gate_for_each_part_that_is_left():
    sizes = {name: len(each) for name, each in gates().items()}
    expected = {"layer.0.heads": 2, "layer.0.ffn": 5, "layer.1.ffn": 3, "layer.2.heads": 1}
    assert sizes == {"attention": 3, "ffn": 3, "hidden": 6, **expected}
    assert dict(gates(("heads",)).items()).keys() == {"layer.0.heads", "layer.2.heads"}
    assert dict(gates(("units", "ffn")).items()).keys() == {"ffn", "layer.0.ffn", "layer.1.ffn"}


@pytest.mark.parametrize("unit_mean", [0.0, 10.0])
def test_gates_begin_open_and_within_their_limits(unit_mean):
    found = gates(unit_mean=unit_mean)
    for name, probability in found.probabilities().items():
        wanted = 0.832 if name.endswith(".ffn") and not unit_mean else 0.998
        assert probability.min().item() == pytest.approx(wanted, abs=0.01), name
    assert all(each.abs().max() <= LIMIT for _, each in found.items())


def test_clamping_keeps_to_log_one_hundred():
    found = gates()
    with torch.no_grad():
        for _, each in found.items():
            each.copy_(torch.linspace(-9.0, 9.0, len(each)))
    found.clamp()
    assert all(each.abs().max() <= math.log(100.0) + 1e-6 for _, each in found.items())


def test_a_draw_holds_until_the_next_one_and_comes_from_its_generator():
    found, generator = gates(unit_mean=0.0), torch.Generator().manual_seed(4)
    found.draw(generator)
    first, again = found.sampled(), found.sampled()
    assert all(torch.equal(first[name], again[name]) for name in first)
    found.draw(generator)
    assert any(not torch.equal(first[name], each) for name, each in found.sampled().items())
    found.draw(torch.Generator().manual_seed(4))
    assert all(torch.equal(first[name], each) for name, each in found.sampled().items())


def test_each_sublayer_is_decided_by_itself():
    found = gates()
    with torch.no_grad():
        dict(found.items())["ffn"].copy_(torch.tensor([-1.7, -1.5, 4.0]))  # kept with probability 0.47, 0.52, 0.996
    assert (found.decided()["ffn"] != 0).tolist() == [False, True, True]
