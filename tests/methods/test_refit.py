"""`refit: true`: output matrices of structured students, fitted at the end of a stage."""

import copy

import pytest
import torch

from espalier.methods import refitting
from espalier.models.modeling_espalier import shape_of
from espalier.pruning.calibrated.refit import refit_layers
from espalier.pruning.parts import HIDDEN
from espalier.runtime.errors import UserError
from espalier.training.calibration import calibration_batches, refit
from tests import tiny
from tests.methods.conftest import GATES

PLANS = {
    "small-dense": {"method": "small-dense", "path": [0.5], "epochs": 1.0},
    "small-dense-equal": {"method": "small-dense", "path": [0.5], "epochs": 1.0, "layers": "equal"},
    "heads": {"method": "heads", "path": [0.5]},
    "cofi": {"method": "cofi", **GATES, "path": [0.5]},
    "l0": {"method": "l0", **GATES, "path": [0.5]},
    "kwon": {"method": "kwon", "path": [0.5]},
}


@pytest.fixture(params=list(PLANS))
def done(request, harness):
    """A stage's method, its compact student and the dense model."""
    settings = {**PLANS[request.param], "refit": True, "calibration_rows": 48}
    dense = tiny.classifier(2).eval().requires_grad_(False)
    student = tiny.classifier(2) if request.param == "kwon" else None
    loop = harness.run(settings, teacher=copy.deepcopy(dense), student=student)
    return loop, loop.method.shrink(loop.student).eval(), dense


def test_no_refit_raises_the_error_of_a_sublayer(done):
    loop, small, dense = done
    hidden = loop.method.end()[HIDDEN].nonzero().flatten()
    before = copy.deepcopy(small.state_dict())
    errors = refit_layers(small, dense, calibration_batches(loop.rows, 48, 16, 0, small.device), hidden)
    assert len(errors) == sum(size > 0 for sizes in shape_of(small.config).layers for size in sizes)
    assert all(after <= first for first, after in errors) and any(after < 0.9 * first for first, after in errors)
    changed = {name for name, value in small.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(".output.dense." in name for name in changed)


def test_the_whole_is_never_further_from_the_teacher_and_the_record_says_so(done):
    loop, small, dense = done
    before = loop.method._distance(small, dense, batches := calibration_batches(loop.rows, 48, 16, 0, small.device))
    record = refit(loop.method, small, dense, loop.rows, 16)
    after = loop.method._distance(small, dense, batches)
    assert after <= before and record["error_before"] == pytest.approx(before)
    assert record["rows"] == 48 and record["seconds"] >= 0.0
    assert record["taken"] == (record["error_refitted"] <= record["error_before"])
    assert after == pytest.approx(min(record["error_before"], record["error_refitted"]))


def test_a_refit_that_makes_outputs_worse_is_taken_back(done, monkeypatch):
    loop, small, dense = done
    before = copy.deepcopy(small.state_dict())

    def spoil(model, *arguments):
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))

    monkeypatch.setattr(refitting, "refit_layers", spoil)
    record = refit(loop.method, small, dense, loop.rows, 16)
    assert not record["taken"] and record["error_refitted"] > record["error_before"]
    assert tiny.equal(before, small.state_dict())


def test_what_was_not_asked_for_is_not_done(harness):
    assert harness.loop(PLANS["cofi"]).method.refit_rows == 0
    assert harness.loop({"method": "kprune", "path": [0.5]}).method.refit_rows == 0, "it fits as it removes"
    assert harness.loop({"method": "magnitude", "path": [0.5]}).method.refit_rows == 0


def test_a_student_of_a_narrower_model_is_refused_in_words(harness):
    loop = harness.run({**PLANS["small-dense"], "refit": True})
    wide = tiny.classifier(2, hidden_size=40)
    with pytest.raises(UserError, match="began with a model of 32 hidden dimensions, the teacher has 40; set refit: false"):
        refit(loop.method, loop.student, wide, loop.rows, 16)
