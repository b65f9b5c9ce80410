"""Small trials of what people report of gradients and of sizes that are not reached."""

from __future__ import annotations

import pytest
import torch

from espalier.losses.terms import correlation_matrix, cross_correlation_loss, masked_token_loss
from tests.methods import on_text, pieces
from tests.methods.conftest import GATES, Harness

PLAN = {"method": "cofi", **GATES, "gate_learning_rate": None, "multiplier_learning_rate": None}


@pytest.fixture
def harness(tmp_path):
    return Harness(tmp_path)


def test_a_short_row_and_a_long_one_give_the_same_gradient_alone_as_together(tmp_path):
    """huggingface/transformers#24725: means over tokens of single micro-batches weigh the tokens of short rows more."""
    harness = on_text.Harness(tmp_path)
    loop = harness.loop(pieces.BATCH, student=on_text.language_model(seed=1, **pieces.STILL))
    batch = loop.rows.batch(pieces.picked(loop), torch.device("cpu"))
    masked = [int(batch.part(slice(row, row + 1)).masked.sum()) for row in range(len(batch))]
    assert len(set(masked)) > 1, "the last row is half padding"
    pieces.check(pieces.halted(loop, pieces.STOP))


def test_no_masked_tokens_are_no_division_by_zero():
    """meta-pytorch/torchtune#1875: once means are weighted by tokens, a piece without any must weigh nothing."""
    logits = torch.zeros(0, 8, requires_grad=True)
    loss = masked_token_loss(logits, torch.full((2, 5), -100))
    loss.backward()
    assert float(loss) == 0.0


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -7.3, 1e4])
def test_a_feature_that_is_equal_in_all_rows_is_standardised_to_nothing(value):
    """IgorSusmelj/barlowtwins#10 and pytorch/pytorch#5410: a constant feature divides by zero, or by its rounding error."""
    student = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
    student[:, 5] = value
    student.requires_grad_()
    loss = cross_correlation_loss(student, student.detach().roll(1, dims=1), off_diagonal=0.005)
    loss.backward()
    assert bool(loss.isfinite()) and float(student.grad.abs().max()) < 20.0
    assert float(correlation_matrix(student, student)[5].abs().max()) < 0.2


def test_a_size_that_the_lagrangian_missed_is_told(harness):
    """princeton-nlp/CoFiPruning#55: on small data the model converges to another size than the target."""
    loop = harness.run({**PLAN, "multiplier_learning_rate": 1e-4})
    landing = loop.method.structure()["landing"]
    assert loop.method.misses_target and abs(landing["expected"] - 0.6) > 0.01
    assert abs(landing["landed"] - 0.6) < 0.01


def test_the_end_of_a_schedule_is_the_target_even_in_few_steps(harness):
    """neuralmagic/sparseml#1117: a final sparsity of 0.45 ended at 0.39, where steps and epochs were out of step."""
    for plan in ({"method": "magnitude", "prune_steps": 3, "prune_schedule": "cubic"}, PLAN, {"method": "heads"}):
        for target in (0.45, 0.39):
            reached = harness.run({**plan, "path": [target]}, work=f"{plan['method']}{target}").method.sparsity
            assert abs(reached - target) < 0.002
