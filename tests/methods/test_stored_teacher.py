"""Training under a teacher whose outputs are read from files ends where training beside the teacher ends."""

from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter

from espalier.config.methods import AnyPlan
from espalier.methods.base import Method
from espalier.training.run import method_class, pruning_stage
from espalier.training.teachers import LiveTeacher, StoredTeacher
from tests import tiny
from tests.methods.conftest import GATES, GRAIN, OBS, PLANS, SPD
from tests.methods.stored import opened, stored, uneven_rows

HIDDEN = {"attention_weight": 0.0}
READERS = {
    "cofi": {"method": "cofi", **GATES},
    "cofi in pieces": {"method": "cofi", **GATES, "micro_batch_size": 5},
    "cofi, random layers": {"method": "cofi", **GATES, "matching": "random", "teacher_layers": 2},
    "cofi, one layer": {"method": "cofi", **GATES, "matching": "unrestricted", "teacher_layers": 1, "mask_padding": True},
    "grain": {"method": "grain", **GRAIN},
    "obs": {"method": "obs", **OBS},
    "spd, layers": {"method": "spd", **SPD, **HIDDEN},
    "spd, padded": {"method": "spd", **SPD, **HIDDEN, "pad_to": 40, "divergence_factor": 2.0},
}
STILL = {"num_hidden_layers": 3}


def loops(harness, plan, work):
    """A run beside the teacher and one that reads its outputs."""
    harness.train = uneven_rows()
    teacher = tiny.classifier(2, **STILL)
    live = harness.loop(plan, student=tiny.classifier(1, **STILL), teacher=teacher, work=f"{work}-live")
    reads = live.method.settings.reads
    found = opened(stored(harness.folder / work, teacher, harness.train, reads), harness.train, reads)
    other = StoredTeacher(found.outputs, teacher, tiny.accelerator(), found.layers)
    again = harness.loop(plan, student=tiny.classifier(1, **STILL), teacher=teacher, work=f"{work}-read")
    again.teacher = other
    return live, again


@pytest.mark.parametrize("name", READERS)
def test_losses_are_those_of_a_teacher_beside_the_student(harness, name):
    live, read = loops(harness, READERS[name], "outputs")
    assert isinstance(live.teacher, LiveTeacher)
    for loop in (live, read):
        torch.manual_seed(0)  # of dropout
        loop.run()
    for one, other in zip(live.history.rows, read.history.rows, strict=True):
        terms = [key for key in one if key.startswith("loss")]
        assert [one[key] for key in terms] == pytest.approx([other[key] for key in terms], rel=1e-4, abs=1e-5)


def test_a_run_that_was_killed_goes_on_to_the_same_bits(harness):
    _, whole = loops(harness, READERS["cofi"], "whole")
    whole.run()
    _, killed = loops(harness, READERS["cofi"], "killed")
    tiny.halted(killed, 10)
    resumed = harness.loop(
        READERS["cofi"], student=tiny.classifier(1, **STILL), teacher=killed.teacher.model, work="killed-read"
    )
    resumed.teacher = killed.teacher
    resumed.run()
    assert resumed.saves.resumed_at and tiny.equal(tiny.weights_of(whole), tiny.weights_of(resumed))


NOTHING = (False, False, None, None)


def reading(method: Method) -> tuple[bool, bool, object, object]:
    """What a method asks of a teacher that can be stored: whether anything, layers, a vector, a length."""
    if not (method.needs_teacher and method.reads_teacher and method.relations is None):
        return NOTHING
    return True, method.needs_hidden_states, method.representation, method.pad_to


ASKED = PLANS | READERS | {"specialise": {"method": "specialise", "start": {"plan": "other"}, "path": [0.5], "alpha": 0.5}}


@pytest.mark.parametrize("name", ASKED)
def test_settings_say_what_the_method_reads(harness, name):
    """The settings decide which jobs there are, the method what it compares."""
    settings = TypeAdapter(AnyPlan).validate_python({"batch_size": 16, **ASKED[name]})
    method = method_class(settings.method)(settings, pruning_stage(settings, "classification", 0, 4, True, 0.0, 0.6))
    reads = settings.reads
    said = (True, reads.layers is not None, reads.representation, reads.pad_to) if reads else NOTHING
    assert said == reading(method)
