"""Movement pruning: the score is the sum of -w dL/dw, whatever Adam makes of the gradient."""

import torch

from espalier.training.run import pruning_stage


def test_scores_are_the_sum_over_steps(harness):
    loop = harness.loop({"method": "movement", "path": [0.5]})
    method, expected = loop.method, {}
    after = method.after_backward

    def record(step):
        for name, weight in method.pruner.weights.items():
            expected[name] = expected.get(name, 0) - weight.detach() * weight.grad
        after(step)

    method.after_backward = record
    loop.run()
    for name, score in method.scores().items():
        torch.testing.assert_close(score, expected[name])


def test_later_stages_gather_scores_before_they_remove(harness):
    settings = harness.loop({"method": "movement", "path": [0.5, 0.8], "dense_epochs": 0.5}).settings
    stage = pruning_stage(settings, "classification", 0, 10, first=False, before=0.5, target=0.8)
    assert stage.bounds == (5, 15) and stage.removals == {5: 0.8}


def test_it_is_not_magnitude_in_disguise(harness):
    moved = harness.run({"method": "movement", "path": [0.5]}, work="a").method.end()
    large = harness.run({"method": "magnitude", "path": [0.5]}, work="b").method.end()
    overlap = [float((moved[name] == large[name]).float().mean()) for name in moved]
    assert max(overlap) < 0.95
