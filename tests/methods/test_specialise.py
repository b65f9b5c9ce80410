"""Fine-tuning of task-agnostic students: plain, or with the teacher's logits."""

from __future__ import annotations

import math
from statistics import fmean

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from espalier.config.methods.specialise import SpecialisePlan
from espalier.data.batches import Batch
from espalier.methods.base import Stage
from espalier.methods.specialise import Specialise
from espalier.models.files import open_base, open_student, write_compact, write_model
from espalier.models.outputs import Outputs
from tests.methods import on_text
from tests.methods.conftest import Harness

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


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A task-agnostic student: files of a narrowed language model."""
    folder = tmp_path_factory.mktemp("narrow")
    loop = on_text.Harness(folder).run({})
    files = [folder / "config.json", folder / "model.safetensors"]
    write_model(loop.method.shrink(loop.student), *files)
    return files


@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["classification", "regression", "span"])
def test_a_narrowed_language_model_learns_a_task_of_every_kind(tmp_path, narrow, kind, alpha):
    harness = Harness(tmp_path, kind)
    student = open_base(narrow, kind, ["a", "b", "c"] if kind == "classification" else None)
    encoder = {name: weight.clone() for name, weight in student.base_model.state_dict().items()}
    plan = {"method": "specialise", "start": {"plan": "narrow"}, "path": [0.5], "alpha": alpha, "epochs": 20.0}
    loop = harness.run(plan, student=student)
    rows = [row for row in loop.history.rows if "loss/task" in row]
    assert all(math.isfinite(value) for row in loop.history.rows for value in row.values())
    first, last = (fmean(row["loss/task"] for row in part) for part in (rows[:3], rows[-3:]))
    assert last < first and ("loss/kld" in rows[0]) == bool(alpha)
    assert f"validation/{harness.metric}" in loop.history.rows[-1]
    trained = loop.student.base_model.state_dict()
    assert trained.keys() == encoder.keys()
    assert all(trained[name].shape == weight.shape for name, weight in encoder.items())
    assert not torch.equal(trained["encoder.layer.0.output.dense.weight"], encoder["encoder.layer.0.output.dense.weight"])
    files = [tmp_path / "config.json", tmp_path / "model.safetensors"]
    write_compact(loop.student, *files, tmp_path / "code.py")
    again, batch = open_student(files, kind), loop.rows.batch(np.arange(4), torch.device("cpu"))
    with torch.no_grad():
        outputs = [model.eval()(**batch.inputs()).to_tuple() for model in (loop.student, again)]
    assert all(torch.equal(one, two) for one, two in zip(*outputs, strict=True))
