"""Head importance against its equations, beyond the matrix."""

import numpy as np
import pytest
import torch

from espalier.kinds.base import task_loss
from espalier.models.forward import forward
from espalier.pruning.parts import heads_of, units_of
from tests import tiny

PLAN = {"method": "heads", "path": [0.5]}
NAMES = [heads_of(0), units_of(0), heads_of(1), units_of(1)]


def still(harness, plan=PLAN, **arguments):
    """A loop whose student has no dropout, with its gates on and nothing trained."""
    student = tiny.classifier(1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    loop = harness.loop(plan, student=student, **arguments)
    loop.method.begin(loop.student, None)
    return loop


def loss_of(loop, batch):
    return task_loss(forward(loop.student, batch).logits, batch.labels, "classification")


def test_importance_is_the_gradient_of_the_loss_with_respect_to_the_gate(harness):
    loop = still(harness)
    for picked in (np.arange(16), np.arange(16, 32)):
        loss_of(loop, loop.rows.batch(picked, torch.device("cpu"))).backward()
        loop.method.after_backward(0)
    batch, step, method = loop.rows.batch(np.arange(16), torch.device("cpu")), 1e-3, loop.method
    found = {name: each.clone() for name, each in method.importance.items()}
    assert found.keys() == set(NAMES)
    for name, index in ((heads_of(0), 2), (heads_of(1), 0), (units_of(1), 17)):
        changes = []
        for picked in (np.arange(16), np.arange(16, 32)):
            batch, losses = loop.rows.batch(picked, torch.device("cpu")), []
            for value in (1.0 + step, 1.0 - step):
                with torch.no_grad():
                    method.gates[name][index] = value
                    losses.append(float(loss_of(loop, batch)))
                    method.gates[name][index] = 1.0
            changes.append(abs(losses[0] - losses[1]) / (2 * step))
        assert float(found[name][index]) == pytest.approx(sum(changes), rel=0.05, abs=2e-3)


@pytest.mark.parametrize("normalise", [True, False])
def test_the_least_important_parts_a_weight_go_first(harness, normalise):
    method = still(harness, {**PLAN, "normalise": normalise}).method
    generator = torch.Generator().manual_seed(0)
    for scale, (name, each) in enumerate(method.importance.items(), start=1):
        method.importance[name] = scale * torch.rand(each.shape, generator=generator)

    def score(name, index):
        importance = method.importance[name]
        weights = 4 * 8 if name.endswith("heads") else 2
        return float(importance[index] / weights / (importance.norm() if normalise else 1.0))

    scores = [score(name, index) for name, index in method._ranking()]
    assert scores == pytest.approx(sorted(scores)) and len(scores) == 2 * (4 + 64)


def test_importances_begin_anew_after_a_removal(harness):
    loop = still(harness)
    loss_of(loop, loop.rows.batch(np.arange(16), torch.device("cpu"))).backward()
    loop.method.after_backward(0)
    (step,) = loop.method.stage.removals
    loop.method.before_step(step - 1)
    assert all(each.any() for each in loop.method.importance.values())
    loop.method.before_step(step)
    assert not any(each.any() for each in loop.method.importance.values())
    assert loop.method.sparsity == pytest.approx(0.5, abs=0.04)


def test_what_is_gone_stays_first_and_never_comes_back(harness):
    loop = harness.run({**PLAN, "prune_steps": 3, "prune_schedule": "cubic"})
    method = loop.method
    gone = {(name, i) for name, mask in method.open.items() for i, there in enumerate(mask.tolist()) if not there}
    assert {(name, i) for name, i in method._ranking()[: len(gone)]} == gone


@pytest.mark.parametrize(("parts", "whole"), [(["heads"], "ffn"), (["units"], "heads")])
def test_only_the_kinds_that_are_asked_for_are_removed(harness, parts, whole):
    masks = harness.run({**PLAN, "path": [0.3], "parts_to_prune": parts}).method.end()
    assert all(mask.all() for name, mask in masks.items() if name.endswith(whole) or name == "hidden")
    assert not all(mask.all() for mask in masks.values())


def test_every_stage_gathers_importance_before_it_removes(harness):
    first = harness.run(PLAN, work="first")
    student, masks = first.method.shrink(first.student), first.method.end()
    loop = harness.loop({**PLAN, "path": [0.8]}, student=student, masks=masks, before=0.5, work="second")
    seen = []
    remove = loop.method._ranking
    loop.method._ranking = lambda: seen.append(sum(float(each.sum()) for each in loop.method.importance.values())) or remove()
    loop.run()
    assert len(seen) == 1 and seen[0] > 0.0, "a removal without importances takes parts in the order of their names"
