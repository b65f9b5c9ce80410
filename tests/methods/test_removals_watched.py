"""Evaluations around removals: two at the step of each, and training is the same."""

import pytest
import torch

from espalier.results.recovery import recoveries
from tests import tiny
from tests.tiny import equal, weights_of

PLAN = {"method": "magnitude", "path": [0.6], "prune_steps": 2, "evaluate_every": 0.25}


def scored(loop):
    rows = [row for row in loop.history.rows if "validation/accuracy" in row]
    return [row["step"] for row in rows], [row["validation/accuracy"] for row in rows]


def test_a_removal_stands_between_two_evaluations_and_changes_nothing_else(harness):
    plain = harness.run(PLAN, work="plain")
    watched = harness.run({**PLAN, "evaluate_removals": True}, work="watched")
    for (name, one), (_, other) in zip(plain.student.named_parameters(), watched.student.named_parameters(), strict=True):
        assert torch.equal(one, other), name
    removals = list(watched.method.stage.removals)
    steps, scores = scored(watched)
    assert [steps.count(step) for step in removals] == [2, 2], "the one that was due is the one before"
    assert scored(plain)[0] == list(range(1, 13)) and len(removals) == len(recoveries(steps, scores)) == 2
    terms = [[row["loss"] for row in loop.history.rows if "loss" in row][-1] for loop in (plain, watched)]
    assert terms[0] > 0 and terms[1] > 0


def test_a_removal_in_the_first_step_is_watched_too(harness):
    loop = harness.run({**PLAN, "dense_epochs": 0.0, "evaluate_removals": True, "prune_steps": 1, "evaluate_every": 0.5})
    assert scored(loop)[0] == [0, 0, 2, 4]


@pytest.mark.parametrize("evaluate_every", [0.25, 0.75, 0.0])
def test_a_run_resumed_just_before_a_removal_tells_the_same(harness, evaluate_every):
    """Saved at step 6, which is one of the removals; an evaluation was due there, due there, not due."""
    plan = {**PLAN, "dense_epochs": 1.5, "evaluate_removals": True, "evaluate_every": evaluate_every}
    whole = harness.run(plan, work="whole")
    assert 6 in whole.method.stage.removals and scored(whole)[0].count(6) == 2
    tiny.halted(harness.loop(plan, work="broken"), 7)
    resumed = harness.run(plan, work="broken")
    assert resumed.saves.resumed_at == [6] and scored(resumed) == scored(whole)
    assert equal(weights_of(whole), weights_of(resumed))
