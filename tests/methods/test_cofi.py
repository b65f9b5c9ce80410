"""CoFi against its specification, beyond the matrix."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from espalier.kinds.base import soft_label_loss
from espalier.methods.gated import FASTEST, PAPER_RATE, TRAVEL
from espalier.models.forward import forward
from espalier.models.modeling_espalier import shape_of
from espalier.pruning.lagrangian import expected_counts
from espalier.pruning.latency import Curve, LatencyTable, LatencyTarget, expected_latency
from espalier.pruning.parts import HIDDEN, heads_of, masks_of, units_of
from espalier.results.landings import missed_target
from tests import tiny
from tests.methods.conftest import GATES, Harness, begun

PLAN = {"method": "cofi", **GATES}
PRUNE_FROM, STEPS = 4, 20


def batch_of(loop, count=16):
    return loop.rows.batch(np.arange(count), torch.device("cpu"))


def terms_of(loop, batch, step=PRUNE_FROM):
    student = forward(loop.student, batch, hidden_states=True)
    return loop.method.loss_terms(batch, student, loop.teacher(batch), step)


def test_there_are_no_hard_labels(harness):
    loop, _ = begun(harness)
    loop.student.eval()
    batch = batch_of(loop)
    first, other = terms_of(loop, batch), terms_of(loop, replace(batch, labels=(batch.labels + 1) % 3))
    assert first.keys() == {"prediction", "layer", "lagrangian"} == loop.method.loss_weights.keys()
    assert all(torch.equal(first[name], other[name]) for name in first)


def test_before_pruning_begins_it_is_plain_distillation_to_the_bit(harness):
    gated = tiny.halted(harness.loop(PLAN, work="gated"), PRUNE_FROM)
    plain = harness.loop(PLAN, work="plain")
    plain.method.stage = replace(plain.method.stage, target=0.0)  # as in recovery: no gates at all
    tiny.halted(plain, PRUNE_FROM)
    assert plain.method.gates is None
    state = gated.student.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in plain.student.state_dict().items())
    rows = [row for row in gated.history.rows if "loss" in row]
    assert all(row["loss/lagrangian"] == row["sparsity"] == 0.0 for row in rows)
    assert [row["loss"] for row in rows] == [row["loss"] for row in plain.history.rows if "loss" in row]
    fresh = begun(harness)[1].gates.state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in gated.method.gates.state_dict().items())
    assert gated.method.multipliers.tolist() == [0.0, 0.0]


def test_the_optimiser_forgets_what_it_gathered_before_pruning_begins(harness):
    loop = harness.loop(PLAN)
    before_step, seen = loop.method.before_step, []

    def watch(step):
        seen.append(len(loop.optimizer.state))
        before_step(step)
        seen[-1] = (seen[-1], len(loop.optimizer.state))

    loop.method.before_step = watch
    loop.run()
    assert seen[PRUNE_FROM][0] > 0 and seen[PRUNE_FROM][1] == 0
    assert all(had == has for step, (had, has) in enumerate(seen) if step != PRUNE_FROM)
    assert max(int(state["step"]) for state in loop.optimizer.state.values() if state) == STEPS - PRUNE_FROM


def test_gates_and_multipliers_have_constant_rates_and_are_not_clipped(harness):
    loop = harness.run({**PLAN, "clip_norm": 1e-3, "gate_learning_rate": 0.3})
    groups = loop.optimizer.param_groups
    own = {id(parameter) for parameter in (*loop.method.gates.parameters(), loop.method.multipliers)}
    assert own.isdisjoint(map(id, loop._trained(clipped_only=True)))
    assert own == {id(parameter) for group in groups if group.get("constant") for parameter in group["params"]}
    rates = {group["lr"] for group in groups if group.get("constant")}
    assert rates == {0.3, 0.5} and all(group["lr"] < 1e-3 for group in groups if not group.get("constant"))
    ascending = [group for group in groups if group["maximize"]]
    assert [id(p) for group in ascending for p in group["params"]] == [id(loop.method.multipliers)]
    assert all(group["weight_decay"] == 0.0 for group in groups if group.get("constant"))
    assert loop.method.gates.log_alpha[0].abs().max() <= np.log(100.0) + 1e-6


@pytest.mark.parametrize(
    ("epochs", "rate"), [(2.0, FASTEST), (4.0, FASTEST), (37.5, FASTEST), (100.0, TRAVEL / 400), (10_000.0, PAPER_RATE)]
)
def test_rates_that_are_left_out_fit_the_length_of_the_run(harness, epochs, rate):
    free = {"pruning_epochs": epochs, "gate_learning_rate": None, "multiplier_learning_rate": None}
    _, method = begun(harness, **free)
    assert [group["lr"] for group in method.parameter_groups()[1:]] == pytest.approx([rate, rate])


@pytest.mark.parametrize(("epochs", "rate", "said"), [(2.0, None, "pruning_epochs 37.5"), (38.0, None, ""), (2.0, 0.3, "")])
def test_a_stage_that_is_too_short_is_told_how_many_epochs_it_needs(harness, capsys, epochs, rate, said):
    begun(harness, pruning_epochs=epochs, gate_learning_rate=rate)
    out = capsys.readouterr().out
    assert said in out and ("warning: 8 steps with gates are too few" in out) == bool(said)


@pytest.mark.parametrize("path", [0.6, 0.95])
def test_a_very_short_stage_leaves_the_hidden_width_alone(harness, path):
    free = {"pruning_epochs": 2.0, "sparsity_warmup_epochs": 0.2, "gate_learning_rate": None, "multiplier_learning_rate": None}
    kept = harness.run({**PLAN, **free, "path": [path]}).method.structure()["hidden"]
    assert kept["kept"] >= 0.9 * kept["total"]


def test_the_prediction_term_is_the_softened_divergence_and_for_regression_the_squared_error(harness, tmp_path):
    loop, method = begun(harness, temperature=3.0)
    loop.student.eval()
    batch = batch_of(loop)
    student, teacher = forward(loop.student, batch, hidden_states=True), loop.teacher(batch)
    expected = soft_label_loss(student.logits, teacher.logits, temperature=3.0, kind="classification")
    torch.testing.assert_close(method.loss_terms(batch, student, teacher, PRUNE_FROM)["prediction"], expected)
    loop, method = begun(Harness(tmp_path, "regression"))
    batch = batch_of(loop)
    student, teacher = forward(loop.student, batch, hidden_states=True), loop.teacher(batch)
    found = method.loss_terms(batch, student, teacher, PRUNE_FROM)["prediction"]
    assert found > 0 and torch.equal(found, F.mse_loss(student.logits, teacher.logits))


@pytest.mark.parametrize(("form", "sign"), [("signed", -1.0), ("absolute", 1.0)])
def test_the_lagrangian_follows_the_target_and_the_form(harness, form, sign):
    loop, method = begun(harness, deviation=form)
    with torch.no_grad():
        method.multipliers.copy_(torch.tensor([2.0, 5.0]))
    expected = float(method.budget.saved(method.gates.probabilities()))
    half, end = PRUNE_FROM + 4, PRUNE_FROM + 8  # two of four pruning epochs of four steps
    for step, target in ((PRUNE_FROM, 0.0), (half, 0.3), (end, 0.6), (STEPS - 1, 0.6)):
        deviation = expected - target
        linear = 2.0 * (abs(deviation) if form == "absolute" else deviation)
        found = terms_of(loop, batch_of(loop), step)["lagrangian"]
        assert float(found) == pytest.approx(linear + 5.0 * deviation**2, rel=1e-4, abs=1e-6)
    assert sign * linear > 0


def test_a_later_stage_s_target_rises_from_where_its_student_stands(harness):
    first = harness.run(PLAN, work="first")
    student, masks = first.method.shrink(first.student), first.method.end()
    loop = harness.loop({**PLAN, "path": [0.9]}, student=student, masks=masks, before=0.6)
    loop.method.begin(loop.student, masks)
    assert loop.method.prune_from == 0, "its student was trained before"
    assert loop.method.started_at == pytest.approx(first.method.sparsity, abs=1e-6)
    assert [loop.method._target(step) for step in (0, 4, 8)] == pytest.approx(
        [loop.method.started_at, (loop.method.started_at + 0.9) / 2, 0.9]
    )


def test_gates_of_units_may_begin_where_the_public_code_has_them(harness):
    _, method = begun(harness, unit_mean=0.0)
    probabilities = method.gates.probabilities()
    assert float(probabilities[units_of(0)].detach().mean()) == pytest.approx(0.832, abs=0.01)
    assert float(probabilities[heads_of(0)].detach().mean()) > 0.99


@pytest.mark.parametrize("exact", [True, False])
def test_the_size_is_exact_or_what_the_gates_decide(harness, exact):
    method = harness.run({**PLAN, "exact_size": exact}).method
    decided, found = method.gates.decided(), method._decided()
    alike = all(torch.equal(decided[name], each) for name, each in found.items())
    assert alike != exact
    units_left = any(mask.any() for name, mask in method.end().items() if name.endswith(".ffn"))
    part = (2 if units_left else 32) * int(method.end()[HIDDEN].sum()) / 16384
    assert exact == (abs(method.sparsity - 0.6) <= part / 2 + 1e-6)


def test_evaluations_count_for_the_best_checkpoint_within_the_tolerance_on_both_sides_of_the_target(harness):
    _, method = begun(harness, tolerance=0.05)
    for sparsity, counts in ((0.5, False), (0.54, False), (0.56, True), (0.64, True), (0.66, False), (0.7, False)):
        method.budget = type("Fixed", (), {"target": 0.6, "saved": lambda self, kept, value=sparsity: torch.tensor(value)})()
        assert method.at_target(PRUNE_FROM + 2) is counts
        assert method.at_target(PRUNE_FROM) is False and method.at_target(STEPS) is True


@pytest.mark.parametrize(("last", "kept"), [(0.6, 20), (0.7, 16), (0.5, 16)])
def test_the_last_evaluation_replaces_the_best_one_only_where_it_is_near_the_target(harness, last, kept):
    """However well a student scores whose gates have left the target again."""
    scores = [0.1, 0.2, 0.3, 0.4, 0.9]

    def evaluate(model):
        score = scores.pop(0)
        expected = torch.tensor(0.6 if scores else last)
        loop.method.budget = type("Fixed", (), {"target": 0.6, "word": "sparsity", "saved": lambda self, kept: expected})()
        return {"validation": {"rows": 1, "loss": 0.0, "accuracy": score}}

    loop = harness.loop({**PLAN, "checkpoint": "best", "tolerance": 0.05, "exact_size": False}, evaluate=evaluate)
    loop.run()
    assert loop.best["step"] == kept and not scores


def test_where_no_evaluation_was_near_the_target_the_last_one_counts(harness):
    loop = harness.run({**PLAN, "checkpoint": "best", "tolerance": 0.0001, "gate_learning_rate": 0.01})
    assert loop.best["step"] == 20 and loop.method.misses_target


def test_what_the_gates_expected_and_decided_before_landing_is_recorded(harness):
    """A run whose gates hardly move, so that landing has to do the pruning."""
    loop = harness.run({**PLAN, "gate_learning_rate": 0.01, "multiplier_learning_rate": 0.01})
    landing = loop.method.structure()["landing"]
    gates = loop.method.gates
    assert landing["of"] == "sparsity" and landing["target"] == 0.6 and landing["tolerance"] == 0.01
    assert landing["expected"] == pytest.approx(float(loop.method.budget.saved(gates.probabilities())))
    assert landing["decided"] == pytest.approx(float(loop.method.budget.saved(masks_of(gates.decided(), loop.method.shape))))
    assert landing["expected"] < 0.2 and landing["decided"] < 0.2 and abs(landing["landed"] - 0.6) < 0.01
    rows = [row for row in loop.history.rows if "decided_sparsity" in row]
    assert rows[-1]["decided_sparsity"] == pytest.approx(landing["decided"])
    assert rows[-1]["expected_sparsity"] == pytest.approx(landing["expected"], abs=0.01)
    assert len(rows) < len([row for row in loop.history.rows if "loss" in row]), "before pruning nothing is decided"
    assert missed_target(loop.method.structure()).startswith(
        "the gates missed the target: at the end of training they expected"
    )


def test_the_best_checkpoint_brings_its_gates_and_multipliers_back(harness):
    scores, seen = iter([0.9, 0.1, 0.2, 0.8, 0.3]), []

    def evaluate(model):
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"validation": {"rows": 1, "loss": 0.0, "accuracy": next(scores)}}

    loop = harness.run({**PLAN, "checkpoint": "best", "tolerance": 0.6}, evaluate=evaluate)
    assert loop.best["step"] == 16, "the first score came before pruning began"
    state = loop.student.state_dict()
    assert any(name.startswith("gates.") for name in state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in seen[3].items())
    last = [row for row in loop.history.rows if "lambda/2" in row][-1]
    assert float(loop.method.multipliers[1].detach()) < last["lambda/2"]
    assert shape_of(loop.method.shrink(loop.student).config).layers == tuple(
        (int(loop.method.end()[heads_of(i)].sum()), int(loop.method.end()[units_of(i)].sum())) for i in range(2)
    )


def test_evaluation_uses_decided_gates_and_training_draws_them_once_a_step(harness):
    loop, method = begun(harness, unit_mean=0.0)
    first, again = method._values(), method._values()
    assert all(torch.equal(first[name], each) for name, each in again.items()), "one draw for all micro-batches of a step"
    method.before_step(PRUNE_FROM + 1)
    assert any(not torch.equal(first[name], each) for name, each in method._values().items())
    loop.student.eval()
    assert all(torch.equal(each, method._decided()[name]) for name, each in method._values().items())
    assert all(not each.requires_grad for each in method._values().values())


def test_a_latency_is_reached_by_a_table_s_times(harness):
    """Attention is dear in this table and units cost nothing, so attention goes; hidden dimensions have no gates."""
    table = LatencyTable(2, Curve((0, 4), (0.0, 10.0)), Curve((0, 64), (0.0, 1.0)), rest_ms=1.0)
    target = LatencyTarget(table, 14.0)
    loop = harness.loop(PLAN)
    loop.method.stage = replace(loop.method.stage, target=target.removed, latency=target)
    loop.run()
    masks = loop.method.end()
    reached = expected_latency(table, *expected_counts(masks, shape_of(tiny.config())))
    assert float(reached) == pytest.approx(14.0, abs=1.25 + 1e-6), "half a head, where units alone are not enough"
    assert masks[HIDDEN].all() and HIDDEN not in loop.method.gates.names
    columns = {name for row in loop.history.rows for name in row}
    assert {"expected_saved_latency", "target_saved_latency", "sparsity", "lambda/1"} <= columns
