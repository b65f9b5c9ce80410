"""Second-order removal against its equations, beyond the matrix: what is seen, what is chosen, what is refitted and trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from espalier.config.methods import AnyPlan
from espalier.evaluation.predict import all_logits
from espalier.kinds.base import soft_label_loss
from espalier.losses.terms import distance
from espalier.models.encoder import count_weights
from espalier.models.forward import forward
from espalier.models.modeling_espalier import shape_of
from espalier.pruning.handover import taken_over
from espalier.pruning.lagrangian import expected_counts
from espalier.pruning.latency import Curve, LatencyTable, LatencyTarget, expected_latency
from espalier.pruning.masks import read_masks, write_masks
from espalier.pruning.parts import HIDDEN, full_masks, heads_of, masks_of, units_of
from espalier.pruning.second_order.outputs import output_matrices, see_rows
from espalier.pruning.shrink import shrink
from espalier.pruning.widths import Sizes
from espalier.training.calibration import calibration_batches
from tests import tiny

SEARCH = {"calibration_rows": 64, "search_rows": 32, "search_random": 3, "search_mutations": 5}
PLAN = {"method": "obs", "path": [0.5], "epochs": 0.0, **SEARCH}
TABLE = LatencyTable(
    layers=2,
    attention=Curve((0, 1, 2, 3, 4), (0.0, 3.0, 5.0, 7.0, 8.0)),
    ffn=Curve((0, 8, 16, 32, 64), (0.0, 1.0, 2.0, 4.5, 9.0)),
    rest_ms=2.0,
)
WIDTHS = Sizes(hidden=32, heads=4, head_dim=8, units=(64, 64))
CPU = torch.device("cpu")


def plan_of(**settings):
    return TypeAdapter(AnyPlan).validate_python({**PLAN, **settings})


def batches_of(harness, rows=64, size=16):
    return calibration_batches(harness.train, rows, size, 0, CPU)


def logits_of(model, harness):
    return all_logits(model, harness.train, tiny.accelerator())


def variant(name):
    """An encoder of a family that reads the harness's rows."""
    return tiny.encoder(name, vocab_size=64, initializer_range=0.2)


@pytest.mark.parametrize("name", list(tiny.VARIANTS))
def test_matrices_see_what_sublayers_give_for_every_real_token(harness, name):
    """Of every family: H over all batches is 2/n of the inner products of what the output matrices read, padding left out."""
    model = variant(name)
    matrices = output_matrices(model)
    assert [(matrix.name, matrix.parts, matrix.width) for matrix in matrices] == [
        part for layer in range(3) for part in ((heads_of(layer), 4, 8), (units_of(layer), 24, 1))
    ]
    see_rows(model, matrices, batches_of(harness, size=16))
    whole = [matrix.hessian.clone() for matrix in matrices]
    tokens = int(harness.train.lengths.sum())
    assert all(matrix.rows == tokens for matrix in matrices)

    # Other batches pad to other lengths, which must change nothing.
    again = output_matrices(model)
    see_rows(model, again, batches_of(harness, size=5))
    for one, other in zip(whole, again, strict=True):
        torch.testing.assert_close(one, other.hessian, atol=1e-3, rtol=1e-4)
        assert not any(matrix.module._forward_pre_hooks for matrix in again)


@pytest.mark.parametrize("name", list(tiny.VARIANTS))
def test_students_of_every_family_are_cut_without_a_change_of_their_outputs(harness, name):
    """Without training: the size is met to a unit, and the compact model gives what the gated one gives."""
    dense = variant(name)
    loop = harness.run(PLAN, student=variant(name), teacher=variant(name))
    small = loop.method.shrink(loop.student)
    unit = count_weights(dense) * 1e-4 + 3 * 32
    assert abs(count_weights(small) - 0.5 * count_weights(dense)) <= unit
    gated, alone = logits_of(loop.student, harness), logits_of(small, harness)
    assert (gated - alone).abs().max() <= 1e-5 * max(1.0, float(gated.abs().max()))
    assert loop.step == 0 and len(loop.history.rows) == 1, "a score and no step"


def divergence(model, teacher, harness):
    options = {"temperature": 2.0, "kind": "classification"}
    return float(soft_label_loss(logits_of(model, harness), logits_of(teacher, harness), **options))


def test_refitted_weights_are_nearer_to_the_teacher_than_the_old_ones(harness):
    """The same parts removed, with and without making up for them."""
    loop = harness.run(PLAN, student=tiny.classifier(1), teacher=tiny.classifier(1))
    refit = loop.method.shrink(loop.student)
    plain = shrink(tiny.classifier(1), masks_of(loop.method.open, loop.method.shape))
    assert shape_of(plain.config) == shape_of(refit.config)
    teacher = tiny.classifier(1)
    assert divergence(refit, teacher, harness) < 0.8 * divergence(plain, teacher, harness)


def test_one_sublayer_is_refitted_to_least_squares(harness):
    """What the FFN of the first layer writes, from what its units gave: torch's own least squares, bias included."""
    loop = harness.loop(PLAN, student=tiny.classifier(1), teacher=tiny.classifier(1))
    loop.run()
    dense = tiny.classifier(1).eval()
    matrices = output_matrices(dense)
    read = []
    matrices[1].module.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0][batch.attention_mask.bool()]))
    for batch in batches_of(harness):
        with torch.no_grad():
            forward(dense, batch)
    inputs = torch.cat([torch.cat(read).double(), torch.ones(sum(map(len, read)), 1, dtype=torch.float64)], dim=1)
    kept = torch.cat([loop.method.open[units_of(0)], torch.ones(1, dtype=torch.bool)])
    assert 0 < int(kept.sum()) < len(kept)

    expected = torch.linalg.lstsq(inputs[:, kept], inputs @ matrices[1].whole.T).solution.T
    module = output_matrices(loop.student)[1].module
    found = torch.cat([module.weight, module.bias[:, None]], dim=1).double()
    torch.testing.assert_close(found[:, kept], expected, atol=1e-4, rtol=1e-3)
    assert not found[:, ~kept].any()


@pytest.mark.parametrize("speedup", [1.3, 2.0, 4.0, 8.0])
def test_speeds_are_those_that_were_asked_for(harness, speedup):
    target = LatencyTarget(TABLE, TABLE.dense_ms / speedup)
    loop = harness.loop(PLAN, teacher=tiny.classifier(1))
    loop.method.stage = replace(loop.method.stage, target=target.removed, latency=target)
    loop.run()
    shape = shape_of(loop.method.shrink(loop.student).config)
    reached = float(expected_latency(TABLE, *expected_counts({}, shape)))
    assert 0.95 * target.target_ms <= reached <= target.target_ms
    assert shape.hidden == 32


def test_a_latency_that_is_missed_by_a_head_is_never_exceeded(harness):
    """Where a single head is dearer than what is left, nothing takes its place that would cost too much."""
    table = replace(TABLE, ffn=Curve((0, 64), (0.0, 40.0)), attention=Curve((0, 4), (0.0, 1.0)))
    target = LatencyTarget(table, table.rest_ms + 45.0)
    loop = harness.loop(PLAN, teacher=tiny.classifier(1))
    loop.method.stage = replace(loop.method.stage, target=target.removed, latency=target)
    loop.run()
    shape = shape_of(loop.method.shrink(loop.student).config)
    assert float(expected_latency(table, *expected_counts({}, shape))) <= target.target_ms


def test_the_search_ends_no_worse_than_it_began_and_says_so(harness):
    loop = harness.run(PLAN, student=tiny.classifier(1), teacher=tiny.classifier(3))
    said = loop.method.structure()["search"]
    assert 0.0 < said["divergence"] <= said["divergence_alike"]
    none = harness.run({**PLAN, "search_random": 0, "search_mutations": 0}, work="none", teacher=tiny.classifier(3))
    assert none.method.structure()["search"] == {"divergence_alike": 0.0, "divergence": 0.0}


def test_the_search_asks_about_rows_of_all_lengths(harness):
    loop = harness.loop({**PLAN, "search_rows": 20})
    method, lengths = loop.method, []
    method.begin(loop.student.eval(), None)
    for batch, outputs in method._referees(batches_of(harness, size=4)):
        assert len(outputs.logits) == len(batch) == 4
        lengths.append(int(batch.attention_mask.sum(dim=1).max()))
    (last,) = method._referees(batches_of(harness, size=64))
    assert len(last[0]) == 64, "one batch at least"
    assert len(lengths) == 5 and lengths[0] < np.median(harness.train.lengths) < lengths[-1]


def test_a_path_without_training_gives_a_family(harness):
    """Each stage goes on from the student of the one before; masks stay over the base."""
    first = harness.run(PLAN, student=tiny.classifier(1), teacher=tiny.classifier(1))
    small, masks = first.method.shrink(first.student), first.method.end()
    later = harness.run({**PLAN, "path": [0.8]}, student=small, masks=masks, before=0.5, teacher=tiny.classifier(1), work="b")
    assert later.method.sparsity == pytest.approx(0.8, abs=0.01)
    assert all(not (mask & ~masks[name]).any() for name, mask in later.method.end().items())
    write_masks(harness.folder / "masks.safetensors", later.method.end())
    assert tiny.equal(read_masks(harness.folder / "masks.safetensors"), later.method.end())


def test_a_student_that_came_narrower_is_compared_in_its_own_dimensions(harness):
    dense = tiny.classifier(1)
    masks = full_masks(shape_of(dense.config))
    masks[HIDDEN][[3, 8, 20]] = False
    loop = harness.loop(
        {**PLAN, "epochs": 1.0, "path": [0.6]}, student=shrink(dense, masks), masks=masks, before=0.1, teacher=dense
    )
    loop.run()
    assert loop.method.sparsity == pytest.approx(0.6, abs=0.01)
    batch = batches_of(harness)[0]
    with torch.no_grad():
        student, teacher = (forward(model.eval(), batch, hidden_states=True) for model in (loop.student, dense))
    parts = [
        distance(own, other[..., masks[HIDDEN]], batch.attention_mask)
        for own, other in zip(student.hidden_states, teacher.hidden_states, strict=True)
    ]
    assert float(loop.method._hidden_loss(batch, student, teacher).detach()) == pytest.approx(float(sum(parts)) / 2)


def test_a_student_of_homodistil_goes_on(harness):
    """Half of every width is gone already, heads are half as wide: sizes count against the base."""
    masks = {name: torch.arange(size) % 2 == 0 for name, size in WIDTHS.groups().items()}
    narrow = tiny.classifier(1, hidden_size=16, intermediate_size=32)
    parts = taken_over(masks, "parts", narrow)
    plan = {**PLAN, "epochs": 1.0, "path": [0.9], "start": {"plan": "narrow", "at": 0.5}}
    loop = harness.run(plan, student=narrow, masks=parts, before=0.75)
    small = loop.method.shrink(loop.student)
    assert abs(1.0 - count_weights(small) / count_weights(tiny.classifier()) - 0.9) < 32 / count_weights(tiny.classifier())
    assert shape_of(small.config)[:2] == (16, 4) and len(loop.method.end()[HIDDEN]) == 32


def test_terms_that_are_off_are_not_computed(harness):
    loop = harness.loop({**PLAN, "epochs": 1.0, "task_weight": 0.0, "hidden_weight": 0.0, "prediction_weight": 0.7})
    assert loop.method.loss_weights == {"prediction": 0.7} and not loop.method.needs_hidden_states
    loop.run()
    assert "loss/prediction" in loop.history.rows[0] and "loss/task" not in loop.history.rows[0]


def test_what_is_read_of_the_teacher():
    assert plan_of().reads is None, "nothing is trained"
    assert plan_of(epochs=1.0).reads.layers == "all" and plan_of(epochs=1.0).reads.representation is None
    assert plan_of(epochs=1.0, hidden_weight=0.0).reads.layers is None
    assert plan_of(recover={"epochs": 1.0}).reads.layers == "all"
    assert plan_of(epochs=1.0).parts(first_stage=True) == [1.0] and plan_of().parts(first_stage=False) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"search_rows": 65}, "search_rows 65 is larger than calibration_rows 64"),
        ({"task_weight": 0.0, "prediction_weight": 0.0}, "nothing would train the head"),
        ({"mutation_share": 0.0}, "greater than 0"),
        ({"start": "pretrained"}, "whose head is new, and with epochs 0 nothing trains it; allowed: teacher"),
        ({"path": [0.0]}, "path must begin above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        plan_of(**settings)
