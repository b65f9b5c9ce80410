"""The look at training rows that a method may take before its first step."""

import pytest
import torch

from espalier.methods.magnitude import Magnitude
from espalier.runtime.errors import Interrupted
from espalier.training.calibration import calibration_batches
from tests import tiny

PLAN = {"method": "magnitude", "path": [0.6]}


class Looking(Magnitude):
    """Multiplies a bias by what it counted, and remembers the count."""

    seen = 0
    calls = 0

    @property
    def calibration_rows(self):
        return 20

    def calibrate(self, student, teacher, batches):
        self.calls += 1
        assert not student.training and teacher is None
        self.batches = [batch.rows.tolist() for batch in batches]
        assert [batch.rows.tolist() for batch in batches] == self.batches, "as often as wanted"
        self.seen = sum(map(len, batches))
        with torch.no_grad():
            student.classifier.bias.fill_(float(self.seen))
        student(**batches[0].inputs()).logits.sum().backward()

    def state_dict(self):
        return super().state_dict() | {"seen": torch.tensor(self.seen)}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.seen = int(state["seen"])


def looking(harness, work="work", **changes):
    loop = harness.loop(PLAN, work=work, **changes)
    loop.method.__class__ = Looking
    return loop


def test_it_comes_once_before_the_first_step_with_so_many_rows_and_is_recorded(harness):
    loop = looking(harness)
    tiny.halted(loop, 0)
    assert loop.method.calls == 1 and loop.calibration["rows"] == 20 and loop.calibration["seconds"] >= 0.0
    assert [len(rows) for rows in loop.method.batches] == [16, 4]
    assert torch.equal(loop.student.classifier.bias, torch.full((3,), 20.0)), "what it changes goes into the training"
    assert loop.student.training and all(weight.grad is None for weight in loop.student.parameters())


def test_rows_depend_on_the_seed_alone_and_are_drawn_from_the_whole_table(harness):
    device = torch.device("cpu")
    first, again, other = (calibration_batches(harness.train, 40, 16, seed, device) for seed in (0, 0, 1))
    drawn = [torch.cat([batch.rows for batch in batches]).tolist() for batches in (first, again, other)]
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) == 40
    lengths = [int(batch.attention_mask.sum(dim=1).max()) for batch in first]
    assert lengths == sorted(lengths)
    everything = calibration_batches(harness.train, 10_000, 16, 0, device)
    assert sum(map(len, everything)) == len(harness.train) == 64


def test_a_run_that_is_killed_later_does_not_calibrate_again(harness):
    whole = looking(harness)
    whole.run()
    tiny.halted(looking(harness, work="broken"), 0)
    resumed = looking(harness, work="broken")
    resumed.run()
    assert resumed.saves.resumed_at == [0] and resumed.method.calls == 0 and resumed.method.seen == 20
    assert tiny.equal(tiny.weights_of(whole), tiny.weights_of(resumed))
    assert resumed.calibration["rows"] == 20


def test_a_run_that_is_killed_meanwhile_calibrates_again_to_the_same_end(harness):
    whole = looking(harness)
    whole.run()
    stopped = looking(harness, work="broken", stop=lambda: True)
    with pytest.raises(Interrupted, match="stopped while calibrating; the next run calibrates from the beginning"):
        stopped.run()
    resumed = looking(harness, work="broken")
    resumed.run()
    assert resumed.saves.resumed_at == [] and resumed.method.calls == 1
    assert tiny.equal(tiny.weights_of(whole), tiny.weights_of(resumed))


def test_a_stage_that_removes_nothing_does_not_calibrate(harness):
    loop = looking(harness, masks=None, before=0.6)
    loop.run()
    assert loop.method.calls == 0 and not loop.calibration


def test_a_method_calibrates_only_if_it_asks_for_rows(harness):
    loop = harness.run(PLAN)
    assert not loop.calibration and loop.saves.resumed_at == []
