"""Pruning without training, beyond the matrix: what is measured, what is decided, and what a killed run does."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from espalier.config.methods import AnyPlan
from espalier.data.batches import Batch
from espalier.evaluation.predict import all_logits
from espalier.models.encoder import count_weights
from espalier.models.forward import forward
from espalier.models.modeling_espalier import shape_of
from espalier.pruning.calibrated.fisher import gate_gradients
from espalier.pruning.calibrated.refit import output_matrix
from espalier.pruning.handover import taken_over
from espalier.pruning.latency import Curve, LatencyTable, LatencyTarget
from espalier.pruning.parts import SUBLAYERS, heads_of, masks_of, parts_in, units_of
from espalier.runtime.errors import Interrupted, UserError
from espalier.training.calibration import calibration_batches
from espalier.training.run import method_class, pruning_stage
from tests import tiny
from tests.methods.conftest import PLANS, UNTRAINED, Harness

NAMES = [f"layer.{layer}.{part}" for layer in range(2) for part in ("heads", "ffn")]


def plan(method, target=0.5, **settings):
    return {"method": method, "path": [target], "calibration_rows": 32, **settings}


def begun(harness, settings, student=None, **changes):
    """A loop whose method is attached, and its calibration rows."""
    loop = harness.loop(settings, student=student, **changes)
    loop._begin()
    loop.student.eval()
    return loop, loop.method, calibration_batches(loop.rows, 32, 16, 0, torch.device("cpu"))


def calibrated(harness, settings, student=None, latency=None, **changes):
    loop = harness.loop(settings, student=student, **changes)
    if latency is not None:
        loop.method.stage = replace(loop.method.stage, latency=latency)
    loop.run()
    return loop


def read_gates(method):
    return {name: gate.clone().requires_grad_() for name, gate in method.gates.items()}


# Importances.


def test_gradients_of_gates_are_those_of_what_a_part_writes(harness):
    """The gate of a part multiplies its columns of the output matrix: the gradient is that of scaling them."""
    loop, method, batches = begun(harness, plan("kwon"), student=tiny.classifier(1).double())
    method.gates = {name: gate.double() for name, gate in method.gates.items()}
    read = read_gates(method)
    with method._applying(read):
        found = gate_gradients(loop.student, read, batches, method._loss)
    assert {name: tuple(each.shape) for name, each in found.items()} == {
        name: (2, 4 if name.endswith("heads") else 64) for name in NAMES
    }
    for name, (layer, kind) in zip(NAMES, product(range(2), SUBLAYERS), strict=True):
        columns = slice(8, 16) if kind == "attention" else slice(1, 2)
        weight, losses = output_matrix(loop.student, layer, kind).weight, []
        for factor in (1.01, 0.99 / 1.01):
            with torch.no_grad():
                weight[:, columns] *= factor
                losses.append(method._loss(batches[1], forward(loop.student, batches[1]).logits))
        with torch.no_grad():
            weight[:, columns] /= 0.99
        assert float(losses[0] - losses[1]) / 0.02 == pytest.approx(float(found[name][1, 1]), rel=0.01, abs=1e-4)
    assert all(parameter.requires_grad for parameter in loop.student.parameters()), "as before"


def test_squares_of_drawn_gradients_are_the_curvature_of_the_divergence(harness):
    """For one line of logits z, softened by T = 2, it is (diag p - p p^T) / T^2."""
    method = begun(harness, plan("kprune"))[1]
    logits = torch.tensor([0.3, -1.0, 2.0]).repeat(40_000, 1).requires_grad_()
    batch = harness.train.batch(np.arange(1), torch.device("cpu"))
    method._surprise(batch, logits).backward()
    p = (logits[0].detach() / 2).softmax(dim=0)
    expected = (torch.diag(p) - torch.outer(p, p)) / 4
    torch.testing.assert_close(logits.grad.T @ logits.grad / 40_000, expected, atol=1e-3, rtol=0.02)
    assert float(logits.grad.mean(dim=0).abs().max()) < 5e-3, "so that gradients of different rows are uncorrelated"


def test_numbers_have_the_curvature_of_half_their_squares(tmp_path):
    _, method, (batch, _) = begun(Harness(tmp_path, "regression"), plan("kprune"))
    outputs = torch.zeros(40_000, 1, requires_grad=True)
    method._surprise(batch, outputs).backward()
    assert float(outputs.grad.square().mean()) == pytest.approx(1.0, rel=0.03)


def test_scores_of_kprune_by_hand(harness):
    method = begun(harness, plan("kprune", feature_weight=0.5, predictive_weight=2.0, head_factor=10.0))[1]
    weight, units = (output_matrix(method.student, *place).weight.detach().double() for place in ((1, "attention"), (0, "ffn")))
    energy = torch.arange(32).double()
    predictive = torch.tensor([1.0, 2.0, 3.0, 4.0])
    found = method._score(1, "attention", predictive, energy)
    for head in range(4):
        columns = slice(8 * head, 8 * head + 8)
        knowledge = 2.0 * (head + 1) + 0.5 * float(energy[columns].sum() * weight[:, columns].square().mean())
        assert float(found[head]) == pytest.approx(10.0 * knowledge / 32.0), "a head has 4 x 8 weights a hidden dimension"
    unit = method._score(0, "ffn", torch.zeros(64), torch.ones(64).double())[3]
    assert float(unit) == pytest.approx(0.5 * float(units[:, 3].square().mean()) / 2.0)


# Decisions.


@pytest.mark.parametrize("target", [0.2, 0.5, 0.8])
def test_the_search_of_kwon_is_brute_force_on_a_model(harness, target):
    student = tiny.classifier(1, intermediate_size=4)
    loop = calibrated(harness, plan("kwon", target, rearrange=False, tune=False), student=student)
    method = loop.method
    read = {name: torch.ones_like(gate, requires_grad=True) for name, gate in method.gates.items()}
    with method._applying(read):
        batches = calibration_batches(loop.rows, 32, 16, 0, torch.device("cpu"))
        gradients = gate_gradients(loop.student.eval(), read, batches, method._loss)
    importance = torch.cat([gradients[name].square().sum(dim=0) for name in NAMES]).double()
    every = torch.tensor(list(product((0.0, 1.0), repeat=16)), dtype=torch.float64)
    costs = torch.tensor(([32.0] * 4 + [2.0] * 4) * 2, dtype=torch.float64)
    allowed = every @ costs <= (1 - target) * float(costs.sum()) + 1.0
    chosen = torch.cat([method.gates[name] for name in NAMES]).double()
    assert float(chosen @ importance) == pytest.approx(float((every @ importance)[allowed].max()))


def test_multiplications_make_heads_dearer(harness):
    loop = calibrated(harness, plan("kwon", 0.5, cost="macs", length=64))
    budget, kept = loop.method.budget, masks_of(loop.method.gates, loop.method.shape)
    assert float(budget.saved({})) == pytest.approx(0.0) and float(budget.saved(kept)) == pytest.approx(0.5, abs=0.01)

    # By hand: a head has 4 x 8 x 32 weights and 2 x 64 x 8 products a token; a unit 2 x 32 weights.
    heads, units = (sum(int(mask.sum()) for name, mask in kept.items() if name.endswith(end)) for end in ("heads", "ffn"))
    cost = heads * (1024 + 1024) + units * 64
    assert 1 - cost / (8 * 2048 + 128 * 64) == pytest.approx(float(budget.saved(kept)))
    assert loop.method.sparsity == pytest.approx(1 - (heads * 1024 + units * 64) / (8 * 1024 + 128 * 64))


@pytest.mark.parametrize("method", sorted(UNTRAINED))
@pytest.mark.parametrize("target_ms", [3.0, 6.0])
def test_a_latency_is_met(harness, method, target_ms):
    table = LatencyTable(
        2, Curve((0, 1, 2, 4), (0.0, 1.0, 1.1, 2.0)), Curve((0, 16, 32, 64), (0.0, 0.9, 1.0, 2.0)), rest_ms=1.0
    )
    loop = calibrated(harness, plan(method), latency=LatencyTarget(table, target_ms))
    saved = float(loop.method.budget.saved(masks_of(loop.method.gates, loop.method.shape)))
    assert (1 - saved) * table.dense_ms == pytest.approx(target_ms, abs=0.1)


@pytest.mark.parametrize("method", sorted(UNTRAINED))
def test_targets_are_independent_and_a_goal_out_of_reach_is_refused(harness, method):
    settings = TypeAdapter(AnyPlan).validate_python(plan(method) | {"path": [0.3, 0.6]})
    assert not settings.chain and settings.start == "teacher" and settings.parts(first_stage=True) == []
    table = LatencyTable(2, Curve((0, 4), (0.0, 1.0)), Curve((0, 64), (0.0, 1.0)), rest_ms=5.0)
    with pytest.raises(UserError, match="out of reach"):
        calibrated(harness, plan(method), latency=LatencyTarget(table, 4.0))


def test_tuning_lowers_the_error_of_a_sublayer_and_stops_at_scales_that_are_too_large(harness):
    tuned = calibrated(harness, plan("kwon"))
    plain = calibrated(harness, plan("kwon", tune=False), work="plain")
    stopped = calibrated(harness, plan("kwon", largest_scale=1e-3), work="stopped")
    assert all(((gate == 0) | (gate == 1)).all() for gate in stopped.method.gates.values())
    assert any(((gate != 0) & (gate != 1)).any() for gate in tuned.method.gates.values())
    assert tiny.equal(masks_of(tuned.method.gates, tuned.method.shape), masks_of(plain.method.gates, plain.method.shape))

    # In the first sublayer all sees the same: the error of its residual sums.
    batches = calibration_batches(tuned.rows, 32, 16, 0, torch.device("cpu"))
    plain.student.eval()
    layer, kind, moments = next(plain.method._sublayers(batches))
    matrix = output_matrix(plain.student, layer, kind)
    errors = [
        moments.error(matrix.weight * loop.method.gates[heads_of(0)].repeat_interleave(8), matrix.bias)
        for loop in (tuned, plain)
    ]
    assert errors[0] < errors[1]


def test_the_last_ffn_is_tuned_on_what_the_head_reads(harness):
    method = begun(harness, plan("kwon"))[1]
    read = {(layer, kind): method.reads_first_token(layer, kind) for layer, kind in product(range(2), SUBLAYERS)}
    assert read == {(0, "attention"): False, (0, "ffn"): False, (1, "attention"): False, (1, "ffn"): True}


def test_refits_bring_outputs_nearer_to_those_of_the_whole_model(harness):
    whole = all_logits(tiny.classifier(1), harness.train, tiny.accelerator())
    far = []
    for refit in (True, False):
        loop = calibrated(harness, plan("kprune", 0.4, refit=refit, calibration_rows=64), work=f"{refit}")
        far.append(float((all_logits(loop.student, loop.rows, tiny.accelerator()) - whole).square().mean()))
    assert far[0] < 0.7 * far[1]


def test_no_refit_of_kprune_raises_the_error_of_its_sublayer(harness, monkeypatch):
    loop, errors = harness.loop(plan("kprune", 0.6)), []
    solve = loop.method._solve

    def noting(layer, kind, kept, moments):
        matrix = output_matrix(loop.student, layer, kind)
        columns = kept.repeat_interleave(matrix.in_features // len(kept)).nonzero().flatten()
        of = moments.of_columns(columns)
        before = float(of.error(matrix.weight[:, columns], matrix.bias))
        solve(layer, kind, kept, moments)
        errors.append((before, float(of.error(matrix.weight[:, columns], matrix.bias))))

    monkeypatch.setattr(loop.method, "_solve", noting)
    loop.run()
    assert len(errors) >= 3 and all(after <= before for before, after in errors)
    assert sum(after for _, after in errors) < 0.9 * sum(before for before, _ in errors)


# Families.


@pytest.mark.parametrize("method", sorted(UNTRAINED))
@pytest.mark.parametrize("variant", list(tiny.VARIANTS))
def test_every_family_is_pruned_to_its_size(variant, method):
    student = tiny.encoder(variant)
    dense = count_weights(student)
    settings = TypeAdapter(AnyPlan).validate_python(plan(method, 0.6))
    pruner = method_class(method)(settings, pruning_stage(settings, "classification", 0, 4, True, 0.0, 0.6))
    pruner.begin(student, None)
    rows = tiny.padded_batch()
    batch = Batch(torch.arange(3), rows["input_ids"], rows["attention_mask"], None, torch.arange(3))
    pruner.calibrate(student, None, [batch])

    small = pruner.shrink(student).eval()
    unit = max(3 * 32 / 2, 1) / dense
    assert abs(1.0 - count_weights(small) / dense - 0.6) <= unit + 1e-6
    with torch.no_grad():
        gated, alone = (model(**rows).logits for model in (student, small))
    assert (gated - alone).abs().max() <= 1e-4 * gated.abs().max()
    assert shape_of(small.config).hidden == 32


# Runs.


@pytest.mark.parametrize("method", sorted(UNTRAINED))
def test_a_killed_run_ends_as_one_that_was_not(harness, method):
    whole = calibrated(harness, plan(method))

    # Killed while it calibrates: from the beginning again.
    with pytest.raises(Interrupted, match="stopped while calibrating"):
        harness.run(plan(method), work="broken", stop=lambda: True)
    again = harness.loop(plan(method), work="broken")

    # Killed after that, before it has its score: what was decided is taken up.
    again._evaluate = lambda: (_ for _ in ()).throw(InterruptedError)
    with pytest.raises(InterruptedError):
        again.run()
    resumed = harness.loop(plan(method), work="broken")
    resumed.method.calibrate = lambda *arguments: pytest.fail("calibrated again")
    resumed.run()
    assert resumed.saves.resumed_at == [0] and resumed.calibration["rows"] == 32
    assert tiny.equal(tiny.weights_of(whole), tiny.weights_of(resumed))
    assert tiny.equal(whole.method.state_dict(), resumed.method.state_dict())
    assert whole.history.rows == resumed.history.rows


@pytest.mark.parametrize("method", sorted(UNTRAINED))
def test_a_recovery_distils_and_a_stage_needs_no_teacher(harness, method):
    loop = calibrated(harness, plan(method))
    assert loop.teacher is None and not loop.method.needs_teacher
    small, masks = loop.method.shrink(loop.student), loop.method.end()
    recovery = method_class(method)(loop.settings, replace(loop.method.stage, target=0.0, bounds=(3,)))
    assert recovery.needs_teacher and recovery.loss_weights == {"task": 0.5, "kld": 0.5}
    recovery.begin(small, masks)
    assert recovery.sparsity == pytest.approx(loop.method.sparsity) and recovery.shrink(small) is small
    alone = method_class(method)(loop.settings.model_copy(update={"alpha": 0.0}), recovery.stage)
    assert not alone.needs_teacher and alone.loss_weights == {"task": 1.0}


@pytest.mark.parametrize("later", ["cofi", "obs", "grain"])
def test_methods_that_train_go_on_from_kprune(harness, later):
    """{plan: kprune, at: 0.4}: masks nest, and sizes count against the base."""
    first = calibrated(harness, plan("kprune", 0.4))
    small, masks = first.method.shrink(first.student), first.method.end()
    masks = taken_over(masks, method_class(later).masks_over, small)
    loop = harness.run({**PLANS[later], "path": [0.7]}, student=small, masks=masks, before=0.4, work="later")
    removed = 1.0 - count_weights(loop.method.shrink(loop.student)) / count_weights(tiny.classifier())
    # Of 16,384 weights a head has 1,024: the smallest part where few units are left.
    assert first.method.sparsity == pytest.approx(0.4, abs=2e-3) and removed == pytest.approx(0.7, abs=512 / 16384)
    assert loop.method.sparsity == pytest.approx(removed, abs=1e-6)
    for name, mask in first.method.end().items():
        assert not (loop.method.end()[name] & ~mask).any(), name


@pytest.mark.parametrize("method", sorted(UNTRAINED))
def test_outputs_of_a_teacher_are_stored_only_for_a_recovery(method):
    read = TypeAdapter(AnyPlan).validate_python
    assert read(plan(method)).reads is None
    assert read(plan(method, recover={"epochs": 1.0})).reads is not None
    assert read(plan(method, recover={"epochs": 1.0}, alpha=0.0)).reads is None


@pytest.mark.parametrize("method", sorted(UNTRAINED))
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"start": "pretrained"}, r"got pretrained, whose head is new, and nothing is trained here; allowed: teacher, \{plan"),
        ({"chain": True}, "Input should be False"),
        ({"calibration_rows": 0}, "greater than or equal to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(method, settings, said):
    with pytest.raises(ValidationError, match=said):
        TypeAdapter(AnyPlan).validate_python(plan(method, **settings))


def test_every_name_of_the_gates_is_a_part(harness):
    method = begun(harness, plan("kprune"))[1]
    assert list(method.gates) == [parts_in(kind, layer) for layer in range(2) for kind in SUBLAYERS]
    assert set(method.gates) == {heads_of(0), units_of(0), heads_of(1), units_of(1)}
