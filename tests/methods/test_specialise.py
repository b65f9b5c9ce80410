"""Fine-tuning of task-agnostic students: plain, or with the teacher's logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from espalier.config.specialise import SpecialisePlan
from espalier.core.batches import Batch
from espalier.core.method import Outputs, Stage
from espalier.methods.specialise import Specialise

LOGITS = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]])
TAUGHT = torch.tensor([[0.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
LABELS = torch.tensor([0, 1])


def method(**settings) -> Specialise:
    plan = SpecialisePlan.model_validate({"method": "specialise", "start": {"plan": "narrow"}, "path": [0.5], **settings})
    return Specialise(plan, Stage("classification", 0, 0.0, 0.0, (4,), {}))


def batch() -> Batch:
    ids = torch.ones(2, 4, dtype=torch.long)
    return Batch(torch.arange(2), ids, ids, None, LABELS)


def test_plain_fine_tuning_needs_no_teacher():
    plain = method()
    assert not plain.needs_teacher and plain.loss_weights == {"task": 1.0}
    terms = plain.loss_terms(batch(), Outputs(LOGITS), None, 0)
    assert terms.keys() == {"task"} and torch.allclose(terms["task"], F.cross_entropy(LOGITS, LABELS))


def test_distillation_shares_the_weight():
    taught = method(alpha=0.3, temperature=4.0)
    assert taught.needs_teacher and taught.loss_weights == {"task": 0.7, "kld": 0.3}
    terms = taught.loss_terms(batch(), Outputs(LOGITS), Outputs(TAUGHT), 0)
    teacher, student = F.softmax(TAUGHT / 4.0, dim=-1), F.log_softmax(LOGITS / 4.0, dim=-1)
    assert torch.allclose(terms["kld"], 16.0 * (teacher * (teacher.log() - student)).sum() / 2)


def test_distillation_alone_has_no_task_loss():
    alone = method(alpha=1.0)
    assert alone.loss_weights == {"kld": 1.0}
    assert alone.loss_terms(batch(), Outputs(LOGITS), Outputs(TAUGHT), 0).keys() == {"kld"}


def test_nothing_is_removed_and_nothing_recovers():
    plain = method()
    assert plain.end() == {} and plain.sparsity == 0.0 and plain.settings.recover.epochs == 0.0
    with pytest.raises(ValidationError, match="alpha"):
        method(alpha=1.5)
