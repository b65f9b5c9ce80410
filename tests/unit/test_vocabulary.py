"""Losses in pieces against the same in one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from espalier.data.batches import IGNORED
from espalier.kinds.base import soft_label_loss, task_loss
from espalier.losses import vocabulary
from espalier.losses.terms import masked_token_terms

TOKENS, WORDS = 13, 50


@pytest.fixture(params=[1, 3 * WORDS, 1 << 21], ids=["a token", "three tokens", "all"])
def pieces(request, monkeypatch):
    monkeypatch.setattr(vocabulary, "LOGITS_PER_PIECE", request.param)


def logits(seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (3.0 * torch.randn(TOKENS, WORDS, generator=torch.Generator().manual_seed(seed))).to(dtype).requires_grad_()


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cross_entropy_and_its_gradient_are_torch_s(dtype):
    own, same = logits(1, dtype), logits(1, dtype)
    labels = torch.full((2, 20), IGNORED)
    labels[0, 3:9], labels[1, 1:8] = torch.arange(6), torch.arange(20, 27)
    (2.0 * task_loss(own, labels, "text")).backward()
    expected = F.cross_entropy(same.float(), labels[labels != IGNORED])
    (2.0 * expected).backward()
    torch.testing.assert_close(task_loss(own, labels, "text"), expected)
    torch.testing.assert_close(own.grad, same.grad)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_divergence_and_its_gradient_are_torch_s(dtype, temperature):
    own, same, teacher = logits(1, dtype), logits(1, dtype), logits(2, dtype)
    found = soft_label_loss(own, teacher, temperature=temperature, kind="text")
    expected = soft_label_loss(same, teacher, temperature=temperature, kind="classification")
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward(inputs=[same])
    torch.testing.assert_close(own.grad, same.grad)
    assert teacher.grad is None


def test_rows_without_a_masked_token_have_nothing_to_distil():
    own = torch.empty(0, 10, requires_grad=True)
    loss = soft_label_loss(own, torch.empty(0, 10), temperature=1.0, kind="text")
    loss.backward()
    assert loss == 0.0


def test_nothing_is_lost_where_student_and_teacher_are_one():
    own = logits(1)
    loss = soft_label_loss(own, own.detach(), temperature=1.0, kind="text")
    loss.backward()
    assert loss == 0.0 and (own.grad == 0.0).all()


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_terms_together_are_the_two_apart(dtype):
    together, apart, teacher = logits(1, dtype), logits(1, dtype), logits(2, dtype)
    labels = torch.full((1, TOKENS + 2), IGNORED)
    labels[0, 1 : TOKENS + 1] = torch.arange(TOKENS)

    entropy, divergence = masked_token_terms(together, teacher, labels)
    own, other = task_loss(apart, labels, "text"), soft_label_loss(apart, teacher, temperature=1.0, kind="text")
    torch.testing.assert_close((entropy, divergence), (own, other))
    (2.0 * entropy + 3.0 * divergence).backward()
    (2.0 * own + 3.0 * other).backward()
    torch.testing.assert_close(together.grad, apart.grad)
    assert teacher.grad is None
