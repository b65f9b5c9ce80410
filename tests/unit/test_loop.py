"""What the loop promises whatever the method."""

import copy
from dataclasses import replace

import pytest
import torch

from espalier.data.batches import epoch_order
from espalier.evaluation.predict import selection_set
from espalier.runtime.errors import Interrupted, UserError
from tests import tiny
from tests.methods.conftest import Harness

DENSE = {"method": "dense", "epochs": 1.0}
L0 = {
    "method": "l0",
    "path": [0.5],
    "prepruning_epochs": 0.0,
    "pruning_epochs": 1.0,
    "sparsity_warmup_epochs": 0.5,
    "freeze_embeddings": False,
    "unit_mean": 0.0,
}
"""Its gates are random, one draw for all micro-batches of a step."""


@pytest.fixture
def harness(tmp_path, monkeypatch):
    monkeypatch.setattr("espalier.training.loop.SAVE_EVERY", 1)
    return Harness(tmp_path)


def gradients(harness, plan, micro, **changes):
    student = tiny.classifier(1, harness.classes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    loop = harness.loop({**plan, "micro_batch_size": micro, "clip_norm": 1e9}, student=student, work=f"micro{micro}", **changes)
    found = {}

    def keep(step):
        if step == 0:
            found.update({name: parameter.grad.clone() for name, parameter in student.named_parameters()})

    loop.method.after_backward = keep
    loop.run()
    return found


@pytest.mark.parametrize(
    "plan", [DENSE, {"method": "distil", "path": [0.5]}, {"method": "sdp", "path": [0.5], "objective": "cos"}, L0]
)
@pytest.mark.parametrize("micro", [1, 5, 8])
def test_micro_batches_leave_the_gradient_as_it_is(harness, plan, micro):
    whole, pieces = gradients(harness, plan, 16), gradients(harness, plan, micro)
    for name, gradient in whole.items():
        torch.testing.assert_close(pieces[name], gradient, atol=2e-6, rtol=1e-4)


def test_biases_and_layer_norms_have_no_weight_decay(harness):
    loop = harness.loop({**DENSE, "weight_decay": 0.3})
    decayed, plain = loop._make_optimizer().param_groups
    assert decayed["weight_decay"] == 0.3 and plain["weight_decay"] == 0.0
    names = {id(parameter): name for name, parameter in loop.student.named_parameters()}
    assert all("bias" in names[id(p)] or "LayerNorm" in names[id(p)] for p in plain["params"])
    assert not any("bias" in names[id(p)] or "LayerNorm" in names[id(p)] for p in decayed["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(names)


def test_divergence_names_step_term_and_last_finite_values(harness):
    loop = harness.loop(DENSE)
    terms = loop.method.loss_terms

    def break_at(batch, student, teacher, step):
        found = terms(batch, student, teacher, step)
        return {"task": found["task"] * float("nan")} if step == 2 else found

    loop.method.loss_terms = break_at
    with pytest.raises(UserError, match=r"diverged at step 3 of 4: loss term 'task' is nan; last finite values: task \d"):
        loop.run()
    assert not (harness.folder / "work/state.pt").exists()


def test_what_only_some_steps_log_is_averaged_over_those(harness):
    loop = harness.loop({**DENSE, "epochs": 2.0})
    loop.method.after_step = lambda step: {"own": 6.0} if step in (1, 2) else {}
    loop.run()
    assert [row["own"] for row in loop.history.rows if "own" in row] == [6.0]


def test_best_checkpoint_is_the_best_evaluation_at_the_target(harness):
    plan = {"method": "magnitude", "path": [0.5], "epochs_per_step": 3.0, "checkpoint": "best"}
    scores = iter([0.99, 0.5, 0.8, 0.6])
    seen = []

    def evaluate(model):
        seen.append(copy.deepcopy({name: tensor.clone() for name, tensor in model.state_dict().items()}))
        return {"validation": {"rows": 1, "loss": 0.0, "accuracy": next(scores)}}

    loop = harness.run(plan, evaluate=evaluate)
    assert loop.best == {"score": 0.8, "step": 12, "set": "validation"}  # 0.99 came before the last removal
    assert all(torch.equal(tensor, seen[2][name]) for name, tensor in loop.student.state_dict().items())


def test_held_out_rows_select_where_there_are_any():
    assert selection_set({"matched": {}, "selection": {}}) == "selection"
    assert selection_set({"matched": {}, "mismatched": {}}) == "matched"


def test_a_saved_state_of_other_inputs_is_not_taken_up(harness):
    loop = harness.loop({**DENSE, "epochs": 2.0})
    stop = RuntimeError("stopped")
    one_step = loop._one_step
    loop._one_step = lambda picked: one_step(picked) if loop.step < 5 else (_ for _ in ()).throw(stop)
    with pytest.raises(RuntimeError, match="stopped"):
        loop.run()
    assert (harness.folder / "work/state.pt").exists()
    again = harness.loop({**DENSE, "epochs": 2.0}, seed=1)
    again.run()
    assert again.saves.resumed_at == []


def test_a_later_stage_goes_on_with_passes_of_its_own(harness):
    """Batches of the third pass, not those of the first one again."""
    seen = {}
    for first_epoch in (0, 2):
        loop = harness.loop({**DENSE, "epochs": 1.0}, work=str(first_epoch))
        loop.method.stage = replace(loop.method.stage, first_epoch=first_epoch)
        seen[first_epoch] = picked_rows(loop)
    expected = [epoch_order(harness.train.lengths, 16, 0, epoch) for epoch in (0, 2)]
    assert [[rows.tolist() for rows in order] for order in expected] == list(seen.values())


def picked_rows(loop):
    """The rows of every step."""
    found, one_step = [], loop._one_step

    def look(picked):
        found.append(picked.tolist())
        one_step(picked)

    loop._one_step = look
    loop.run()
    return found


def test_fractions_of_an_epoch_stop_in_the_middle(harness):
    loop = harness.run({**DENSE, "epochs": 1.5})
    assert loop.step == 6


def gradient_of_nan(harness, at):
    loop = harness.loop(DENSE)
    backward = loop.accelerator.backward

    def spoil(loss):
        backward(loss)
        if loop.step == at:
            next(loop.student.parameters()).grad[0] = float("nan")

    loop.accelerator.backward = spoil
    return loop


def test_a_gradient_that_is_no_number_stops_the_run_before_its_weights_are_saved(harness):
    loop = gradient_of_nan(harness, at=2)
    with pytest.raises(UserError, match=r"diverged at step 3 of 4: the gradient norm is nan; last finite values: task \d"):
        loop.run()
    assert not (harness.folder / "work/state.pt").exists()


def with_room_for(loop, rows):
    """A device that has memory for so many rows in a forward pass."""

    def refuse(module, inputs, keywords):
        if module.training and len(keywords["input_ids"]) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    loop.student.register_forward_pre_hook(refuse, with_kwargs=True)
    return loop


@pytest.mark.parametrize("plan", [{"method": "distil", "path": [0.5]}, L0], ids=["distil", "l0"])
def test_where_memory_runs_out_auto_halves_the_micro_batch_and_nothing_else(harness, plan):
    small = harness.run({**plan, "micro_batch_size": 4}, work="small")
    halved = with_room_for(harness.loop({**plan, "micro_batch_size": "auto"}, work="halved"), 5)
    halved.run()
    assert halved.micro == 4
    assert all(torch.equal(weight, halved.student.state_dict()[name]) for name, weight in small.student.state_dict().items())


def test_a_resumed_run_knows_how_much_memory_there_is(harness):
    plan = {**DENSE, "micro_batch_size": "auto", "epochs": 2.0}
    loop = with_room_for(harness.loop(plan), 5)
    loop.stop = lambda: loop.step == 5
    with pytest.raises(Interrupted):
        loop.run()
    assert harness.run(plan).micro == 4


@pytest.mark.parametrize(
    ("settings", "room", "rows"), [({}, 5, 16), ({"micro_batch_size": 8}, 5, 8), ({"micro_batch_size": "auto"}, 0, 1)]
)
def test_where_memory_runs_out_the_message_names_the_knob(harness, settings, room, rows):
    loop = with_room_for(harness.loop({**DENSE, **settings}), room)
    with pytest.raises(UserError, match=f"out of memory at step 0 with {rows} rows in one forward pass; set micro_batch_size"):
        loop.run()


def test_other_errors_of_a_device_are_not_taken_for_lack_of_memory(harness):
    loop = harness.loop({**DENSE, "micro_batch_size": "auto"})
    loop.method.loss_terms = lambda *arguments: (_ for _ in ()).throw(RuntimeError("device-side assert"))
    with pytest.raises(RuntimeError, match="device-side assert"):
        loop.run()


def test_the_next_batch_is_made_ahead_once_and_no_generator_notices(harness, monkeypatch):
    loop = harness.loop({"method": "dense", "epochs": 2.0})
    made, wanted, batch = [], [], type(loop.rows).batch

    def make(rows, picked, device, epoch=0):
        before = torch.get_rng_state()
        result = batch(rows, picked, device, epoch)
        assert torch.equal(before, torch.get_rng_state())
        made.append((epoch, picked.tolist()))
        return result

    monkeypatch.setattr(type(loop.rows), "batch", make)
    monkeypatch.setattr(loop, "evaluate", lambda model: {"validation": {"rows": 0, "loss": 0.0, harness.metric: 0.0}})
    loop.run()
    for epoch in range(2):
        order = epoch_order(loop.rows.lengths, loop.settings.batch_size, loop.method.stage.seed, epoch)
        wanted += [(epoch, picked.tolist()) for picked in order]
    assert made == wanted
