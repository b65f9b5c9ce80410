"""Expected size and Lagrangian against the public code's vectors, by hand, and the way multipliers move."""

import pytest
import torch

from espalier.models.modeling_espalier import Shape
from espalier.pruning.hard_concrete import kept_probability
from espalier.pruning.lagrangian import expected_counts, expected_size, lagrangian, ramped
from espalier.pruning.parts import HIDDEN, heads_of, masks_of, units_of
from tests.unit.test_hard_concrete import CASES, KINDS, tensor


def parts_of(case, values):
    """The vectors' arrays under our names."""
    layers = range(case["layers"])
    named = {HIDDEN: values["hidden"], "attention": values["attention_sublayers"], "ffn": values["ffn_sublayers"]}
    return named | {heads_of(i): values["heads"][i] for i in layers} | {units_of(i): values["ffn_units"][i] for i in layers}


def shape_of_case(case):
    hidden, heads = case["hidden"], case["heads"]
    return Shape(hidden, hidden // heads, hidden, ((heads, case["ffn"]),) * case["layers"])


@pytest.mark.parametrize("case", CASES, ids=["first", "second"])
def test_expected_sparsity_lagrangian_and_gradients_are_the_public_code_s(case):
    log_alpha = {kind: tensor(case["log_alpha"][kind]).requires_grad_() for kind in KINDS}
    kept = parts_of(case, {kind: kept_probability(value) for kind, value in log_alpha.items()})
    hidden = case["hidden"]
    per_head = (4 * hidden**2 + 4 * hidden) / case["heads"] / hidden  # the public code counts biases
    sparsity = 1.0 - expected_size(kept, shape_of_case(case), per_head, 2.0) / case["prunable_parameters"]
    assert float(sparsity) == pytest.approx(case["expected_sparsity"], abs=1e-6)
    target = ramped(0.0, case["target"], case["step_since_pruning_began"], case["warmup_steps"])
    assert target == pytest.approx(case["current_target"])
    multipliers = [torch.tensor(case[name], requires_grad=True) for name in ("lambda_1", "lambda_2")]
    value = lagrangian(sparsity - target, *multipliers, "signed")
    assert float(value) == pytest.approx(case["lagrangian"], abs=1e-6)
    value.backward()
    for kind, each in log_alpha.items():
        torch.testing.assert_close(each.grad, tensor(case["gradient"][kind], each), atol=2e-6, rtol=1e-4)
    assert [float(each.grad) for each in multipliers] == pytest.approx(
        [case["gradient"]["lambda_1"], case["gradient"]["lambda_2"]], abs=1e-6
    )


@pytest.mark.parametrize("case", CASES, ids=["first", "second"])
def test_actual_sparsity_of_masks_is_the_public_code_s(case):
    shape = shape_of_case(case)
    values = {kind: tensor(case["deterministic_masks"][kind], tensor(case["log_alpha"][kind])) for kind in KINDS}
    masks = masks_of(parts_of(case, values), shape)
    weights = expected_size(masks, shape, 4.0 * shape.head_dim, 2.0)
    dense = case["prunable_parameters"]
    assert 1.0 - float(weights) / dense == pytest.approx(case["actual_sparsity_of_deterministic_masks"], abs=1e-6)


SHAPE = Shape(10, 4, 10, ((2, 5), (0, 3)))


@pytest.mark.parametrize(
    ("kept", "size"),
    [
        ({}, 10 * (16 * 2 + 2 * 8)),
        ({HIDDEN: torch.full((10,), 0.5)}, 5 * (16 * 2 + 2 * 8)),
        ({heads_of(0): torch.tensor([0.5, 0.25])}, 10 * (16 * 0.75 + 2 * 8)),
        ({"attention": torch.tensor([0.5, 1.0]), units_of(1): torch.tensor([0.0, 0.0, 1.0])}, 10 * (16 + 2 * 6)),
        ({"ffn": torch.tensor([0.5, 0.0]), units_of(0): torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0])}, 10 * (16 * 2 + 2)),
    ],
)
def test_any_subset_of_gates_has_an_expected_size(kept, size):
    assert float(expected_size(kept, SHAPE, 16.0, 2.0)) == pytest.approx(size)


def test_parts_and_sublayers_without_gates_count_in_full():
    counts = expected_counts({"attention": torch.tensor([0.5, 0.25]), heads_of(0): torch.tensor([1.0, 0.5])}, SHAPE)
    assert counts.heads.tolist() == [1.5, 0.0] and counts.units.tolist() == [5.0, 3.0]
    assert counts.attention.tolist() == [0.5, 0.25] and counts.ffn.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("step", "target"), [(0, 0.2), (25, 0.4), (50, 0.6), (51, 0.6), (1000, 0.6)])
def test_the_target_rises_linearly_from_where_the_stage_begins(step, target):
    assert ramped(0.2, 0.6, step, 50) == pytest.approx(target)
    assert ramped(0.2, 0.6, step, 0) == 0.6


def steps_of(deviation, form, count=20):
    """Multipliers after ascending against a deviation that stays as it is."""
    multipliers = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([{"params": [multipliers], "lr": 0.01, "weight_decay": 0.0, "maximize": True}], fused=True)
    path = [multipliers.detach().clone()]
    for _ in range(count):
        lagrangian(torch.tensor(deviation), *multipliers, form).backward()
        optimizer.step()
        optimizer.zero_grad()
        path.append(multipliers.detach().clone())
    return torch.stack(path).diff(dim=0)


@pytest.mark.parametrize(("form", "deviation", "linear"), [("signed", -0.3, -1), ("signed", 0.3, 1), ("absolute", -0.3, 1)])
def test_multipliers_ascend(form, deviation, linear):
    moves = steps_of(deviation, form)
    assert (moves[:, 0].sign() == linear).all(), "lambda 1 falls while the model is too large"
    assert (moves[:, 1] > 0).all()


def test_the_lagrangian_drives_gates_to_the_target():
    """One run in small: expected sparsity ends at the target, from gates that begin open."""
    log_alpha = torch.nn.Parameter(torch.full((200,), 4.6))
    multipliers = torch.nn.Parameter(torch.zeros(2))
    groups = [{"params": [log_alpha], "lr": 0.1}, {"params": [multipliers], "lr": 0.1, "maximize": True}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    for step in range(300):
        sparsity = 1.0 - kept_probability(log_alpha).mean()
        lagrangian(sparsity - ramped(0.0, 0.8, step, 100), *multipliers, "signed").backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(sparsity) == pytest.approx(0.8, abs=0.05)
