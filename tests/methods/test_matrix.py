"""Every method × every behaviour."""

import copy
import math

import pandas as pd
import pytest
import torch

from espalier.core.masks import prunable_weights, read_masks, write_masks
from espalier.methods import METHODS
from tests import tiny
from tests.methods.conftest import PLANS, Harness


def weights_of(loop):
    return {name: tensor.clone() for name, tensor in loop.student.state_dict().items()}


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_every_method_has_a_row():
    assert {plan["method"] for plan in PLANS.values()} == set(METHODS)


def test_repeatable(harness, plan):
    assert equal(weights_of(harness.run(plan, work="a")), weights_of(harness.run(plan, work="b")))
    assert not equal(weights_of(harness.run(plan, work="c", seed=1)), weights_of(harness.run(plan, work="b")))


def test_trains_every_parameter(harness, plan):
    loop = harness.loop(plan)
    before = weights_of(loop)
    loop.run()
    unused = {"bert.embeddings.position_ids", "bert.embeddings.token_type_ids"}
    same = {name for name, tensor in loop.student.state_dict().items() if torch.equal(tensor, before[name])}
    assert same <= unused


def test_teacher_is_left_alone(harness, plan):
    teacher = tiny.classifier(2)
    before = copy.deepcopy(teacher.state_dict())
    harness.run(plan, teacher=teacher)
    assert equal(before, teacher.state_dict())


def test_target_is_reached_exactly_and_holds_to_the_end(harness, plan):
    loop = harness.run(plan)
    masks, weights = loop.method.end(), prunable_weights(loop.student)
    target = loop.method.stage.target
    total = sum(weight.numel() for weight in weights.values())
    zeros = sum(int((weight == 0).sum()) for weight in weights.values())
    if not masks:
        assert target == 0.0 and zeros == 0
        return
    assert abs(zeros / total - target) <= len(weights) / (2 * total)
    assert loop.method.sparsity == pytest.approx(zeros / total)
    for name, weight in weights.items():
        assert torch.equal(weight != 0, masks[name])


def test_masks_nest_from_stage_to_stage(harness, plan):
    first = harness.run(plan, work="first")
    later = {**plan, "path": [0.9]} if plan["method"] != "dense" else plan
    second = harness.run(later, student=first.student, masks=first.method.end(), work="second")
    assert second.method.sparsity == pytest.approx(second.method.stage.target, abs=1e-3)
    for name, mask in first.method.end().items():
        assert not (second.method.end()[name] & ~mask).any()


def test_saved_masks_are_the_loaded_ones(harness, plan, tmp_path):
    masks = harness.run(plan).method.end()
    write_masks(tmp_path / "masks.safetensors", masks)
    assert equal(masks, read_masks(tmp_path / "masks.safetensors"))


def test_history_logs_every_term_unweighted(harness, plan):
    loop = harness.run(plan)
    loop.history.write(harness.folder / "history.parquet")
    table = pd.read_parquet(harness.folder / "history.parquet")
    logged = table.dropna(subset=["loss"])
    assert {f"loss/{name}" for name in loop.method.loss_weights} <= set(table.columns)
    total = sum(weight * logged[f"loss/{name}"] for name, weight in loop.method.loss_weights.items())
    assert (total - logged["loss"]).abs().max() < 1e-5
    assert logged["step"].iloc[-1] == loop.method.stage.steps
    assert logged["sparsity"].iloc[-1] == pytest.approx(loop.method.stage.target, abs=1e-3)
    assert table["validation/accuracy"].notna().sum() == len({*range(4, loop.step + 1, 4), loop.step})


def test_regression_runs_too(tmp_path, plan):
    loop = Harness(tmp_path, "regression").run(plan)
    assert all(math.isfinite(row.get("loss", 0.0)) for row in loop.history.rows)


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_interrupted_and_resumed_ends_bit_identical(harness, plan, stop):
    whole = harness.run({**plan, "checkpoint": "best"}, work="whole")

    broken = harness.loop({**plan, "checkpoint": "best"}, work="broken")
    one_step = broken._one_step

    def stop_at(picked):
        if broken.step == stop:
            raise InterruptedError
        one_step(picked)

    broken._one_step = stop_at
    with pytest.raises(InterruptedError):
        broken.run()
    resumed = harness.run({**plan, "checkpoint": "best"}, work="broken")
    assert resumed.saves.resumed_at == ([stop // 3 * 3] if stop >= 3 else [])
    assert equal(weights_of(whole), weights_of(resumed))
    timed = {"samples_per_second", "seconds"}
    strip = [[{k: v for k, v in row.items() if k not in timed} for row in loop.history.rows] for loop in (whole, resumed)]
    assert strip[0] == strip[1]
