"""SPD against its specification, beyond the matrix."""

from pathlib import Path

import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError

from espalier.config import parse
from espalier.config.methods import AnyPlan
from espalier.data.batches import Batch
from espalier.losses.terms import map_loss, soft_cross_entropy
from espalier.methods.spd import Spd
from espalier.models.outputs import Outputs
from espalier.pruning.schedules import sparsity_steps
from espalier.runtime.errors import UserError
from espalier.training.loop import Loop
from espalier.training.run import method_class, pruning_stage
from espalier.training.teachers import StoredTeacher
from tests import tiny
from tests.methods.conftest import PLANS
from tests.tiny import equal, weights_of

ROOT = Path(__file__).parents[2]
SHORT = {"method": "spd", "path": [0.6], "sparsify_epochs": 2.0, "grafting_epochs": 2.0, "finetune_epochs": 1.0}
"""8 + 8 + 4 steps."""
LONG = {"method": "spd", "path": [0.9]}
ARMS = {"hidden_weight": 0.0, "attention_weight": 0.0}


def settings(**changes):
    return TypeAdapter(AnyPlan).validate_python({**LONG, **changes})


def spd(kind="classification", steps_per_epoch=16, before=0.0, **changes):
    plan = settings(**changes)
    return Spd(plan, pruning_stage(plan, kind, 0, steps_per_epoch, not before, before, plan.path[0]))


@pytest.mark.parametrize(("reduction", "expected", "floor"), [("mean", 0.180344, 0.095432), ("batchmean", 0.360688, 0.190864)])
def test_prediction_term_of_the_specification(reduction, expected, floor):
    teacher, student = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    value = lambda logits, tau: float(soft_cross_entropy(logits, teacher, temperature=tau, reduction=reduction))  # noqa: E731
    assert value(student, 1.0) == pytest.approx(expected, abs=1e-6)
    assert value(teacher, 1.0) == pytest.approx(floor, abs=1e-6)
    softer = torch.softmax(teacher / 2.0, -1) * torch.log_softmax(student / 2.0, -1)
    assert value(student, 2.0) == pytest.approx(-float(softer.sum()) / (2 if reduction == "mean" else 1), abs=1e-6)


def test_map_term_averages_over_everything_or_over_real_pairs():
    student, teacher = torch.rand(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    squared = (student - teacher).square()
    assert float(map_loss(student, teacher, None)) == pytest.approx(float(squared.mean()))
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    real = torch.cat([squared[0, :, :2, :2].flatten(), squared[1].flatten()])
    assert float(map_loss(student, teacher, mask)) == pytest.approx(float(real.mean()))


def tensors(seed, classes):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    states, maps = (tuple(draw(*shape) for _ in range(2)) for shape in ((4, 5, 8), (4, 2, 5, 5)))
    return Outputs(draw(4, classes).requires_grad_(True), hidden_states=states, maps=maps)


def terms(kind="classification", **changes):
    classes, labels = (3, torch.tensor([0, 1, 2, 0])) if kind == "classification" else (1, torch.tensor([0.0, 1.0, 2.0, 3.0]))
    method = spd(kind, **changes)
    method.begin(tiny.classifier(1), None)
    mask = torch.tensor([[1, 1, 1, 1, 1]] * 3 + [[1, 1, 0, 0, 0]])
    batch = Batch(torch.arange(4), torch.ones(4, 5, dtype=torch.int64), mask, None, labels)
    student, teacher = tensors(0, classes), tensors(1, classes)
    return method.loss_terms(batch, student, teacher, 0), method.loss_weights, batch, student, teacher


def test_losses_as_coded():
    found, weights, _, student, teacher = terms()
    assert weights == {"hidden": 1.0, "attention": 1.0, "prediction": 1.0} and found.keys() == weights.keys()
    mean = lambda own, theirs: sum((a - b).square().mean() for a, b in zip(own, theirs, strict=True))  # noqa: E731
    torch.testing.assert_close(found["hidden"], mean(student.hidden_states, teacher.hidden_states))
    torch.testing.assert_close(found["attention"], mean(student.maps, teacher.maps))
    by_hand = -(teacher.logits.softmax(-1) * student.logits.log_softmax(-1)).mean()
    torch.testing.assert_close(found["prediction"], by_hand)


def test_padding_left_out():
    found, _, batch, student, teacher = terms(mask_padding=True)
    real = batch.attention_mask.bool()
    pairs = zip(student.hidden_states, teacher.hidden_states, strict=True)
    torch.testing.assert_close(found["hidden"], sum((a - b)[real].square().mean() for a, b in pairs))
    assert found["attention"] != terms()[0]["attention"]


@pytest.mark.parametrize("target", ["gold", "teacher"])
def test_regression_compares_with_labels_or_the_teacher(target):
    found, _, batch, student, teacher = terms("regression", pred={"regression_target": target}, hard_label_weight=0.5)
    expected = batch.labels if target == "gold" else teacher.logits.squeeze(-1)
    torch.testing.assert_close(found["prediction"], (student.logits.squeeze(-1) - expected).square().mean())
    torch.testing.assert_close(found["task"], (student.logits.squeeze(-1) - batch.labels).square().mean())


def test_removals_of_the_specification():
    """Twelve, evenly spaced, the last one at the end of part 1 and at the target."""
    stage = spd().stage
    assert list(stage.removals) == [round(number * 480 / 12) for number in range(1, 13)]
    assert stage.bounds == (480, 960), "one learning-rate schedule a part; parts 2 and 3 share one"
    ramp = [0.2068, 0.3792, 0.5203, 0.6333, 0.7214, 0.7875, 0.8349, 0.8667, 0.8859, 0.8958, 0.8995, 0.9]
    assert list(stage.removals.values()) == pytest.approx(ramp, abs=1e-4) and stage.removals[480] == 0.9
    assert sparsity_steps(0.0, 0.9, 11, "cubic")[:3] == pytest.approx([0.224, 0.407, 0.554], abs=5e-4), "as coded"


def test_later_stages_go_on_from_where_they_stand():
    assert list(spd(before=0.5).stage.removals.values()) == sparsity_steps(0.5, 0.9, 12, "cubic")


def test_the_three_parts_have_their_probabilities():
    method = spd()
    assert (method.ramp_begin, method.ramp_end, method.stage.steps) == (480, 640, 960)
    found = [method.probability(step) for step in (0, 479, 480, 560, 639, 640, 959)]
    assert found == pytest.approx([0.8, 0.8, 0.8, 0.9, 0.99875, 1.0, 1.0])
    assert spd(probability_schedule="constant").probability(959) == 0.8, "as the authors' README has it"
    assert spd(grafting_epochs=0.0).probability(480) == 1.0
    assert not method.at_target(640) and method.at_target(641) and method.at_target(960)


def test_evaluation_and_the_final_student_are_the_student_s_layers_alone(harness):
    """Teacher layers never come into an evaluation: with all bits at 0 it still sees the student, and nothing trains it."""
    teacher, student = tiny.classifier(2), tiny.classifier(1)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items() if ".layer." in name}
    plan = {**SHORT, "probability_schedule": "constant", "initial_probability": 1e-9, "prune_steps": 1}
    loop = harness.loop(plan, student=student, teacher=teacher)
    scores, own = [], loop.evaluate(tiny.classifier(1))
    loop.evaluate = lambda model, inner=loop.evaluate: scores.append(inner(model)) or scores[-1]
    loop.run()
    assert scores[0]["validation"]["loss"] == own["validation"]["loss"]
    assert [row["student_layers"] for row in loop.history.rows if "student_layers" in row] == [0.0] * 10
    removed = {name: tensor * loop.method.end().get(name, torch.ones(())) for name, tensor in before.items()}
    assert all(torch.equal(tensor, loop.student.state_dict()[name]) for name, tensor in removed.items())


@pytest.mark.parametrize("before_step", [9, 12])
def test_killed_in_part_two_and_resumed_ends_bit_identical_draws_included(harness, before_step):
    def watched(work):
        loop, drawn = harness.loop(SHORT, work=work), {}
        one_step = loop._one_step

        def step(picked):
            one_step(picked)
            drawn[loop.step] = loop.method.bits.tolist()

        loop._one_step = step
        return loop, drawn

    whole, expected = watched("whole")
    whole.run()
    broken, first = watched("broken")
    tiny.halted(broken, before_step)
    resumed, second = watched("broken")
    resumed.run()
    assert resumed.saves.resumed_at == [before_step // 3 * 3]
    assert first | second == expected and len({tuple(bits) for bits in expected.values()}) > 1
    assert all(torch.equal(own, resumed.student.state_dict()[name]) for name, own in whole.student.state_dict().items())


def test_sparsity_of_every_matrix_is_the_target(harness):
    loop = harness.run({**SHORT, "path": [0.875]})
    for name, mask in loop.method.end().items():
        assert (~mask).sum() == 0.875 * mask.numel(), name
        assert not loop.student.get_parameter(name)[~mask].any()
    assert loop.method.sparsity == 0.875


def layer_gradients(harness, work, **changes):
    """Gradients of the first step, and the norm that they were clipped by."""
    student = tiny.classifier(1, 3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    plan = {**SHORT, "initial_probability": 0.5, "clip_norm": 1e9, **changes}
    loop: Loop = harness.loop(plan, student=student, work=work)
    found, after = {}, loop.method.after_backward

    def keep(step):
        after(step)
        if not step:
            found.update({name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None})

    loop.method.after_backward = keep
    loop.run()
    return found, next(row["gradient_norm"] for row in loop.history.rows if "gradient_norm" in row)


@pytest.mark.parametrize("micro", [4, 8])
def test_micro_batches_share_a_draw(harness, micro):
    whole, pieces = (
        layer_gradients(harness, f"m{size}", micro_batch_size=size, mask_padding=False, **ARMS)[0] for size in (16, micro)
    )
    assert whole.keys() == pieces.keys() and whole
    for name, gradient in whole.items():
        torch.testing.assert_close(pieces[name], gradient, atol=2e-6, rtol=1e-4)


def test_clipping_counts_what_is_trained_or_all(harness):
    trained, small = layer_gradients(harness, "trained")
    everything, large = layer_gradients(harness, "all", clip_scope="all")
    assert all(".layer." in name for name in trained) and any("embeddings" in name for name in everything)
    assert large > small
    assert all(torch.equal(trained[name], everything[name]) for name in trained)


def watched(harness, first, later, factor, drawn=2):
    """Three hundred steps whose hidden-state term has one value, first with so many student layers, and later another."""
    loop = harness.loop({**SHORT, "sparsify_epochs": 60.0, "divergence_factor": factor})
    method = loop.method
    method.begin(loop.student, None)
    for step in range(300):
        method.bits = torch.arange(len(method.bits)) < (drawn if step == 0 else len(method.bits))
        method.hidden = [(8, torch.tensor(each)) for each in (first if step < 30 else later)]
        method.after_step(step)
    return method


def test_divergence_is_said_with_its_numbers(harness):
    message = r"step 240 of .* term is 4, for 210 steps more than 2 times 1, where it began; lower"
    with pytest.raises(UserError, match=message):
        watched(harness, (1.0, 1.0), (3.0, 5.0), 2.0)
    watched(harness, (1.0, 1.0), (3.0, 5.0), None)


def test_a_first_draw_of_few_student_layers_is_no_low_measure(harness):
    watched(harness, (0.05, 0.05), (0.29, 0.29), 2.0, drawn=0)  # of two layers: the first value stands for three times as much
    with pytest.raises(UserError, match=r"more than 2 times 0\.15,"):
        watched(harness, (0.05, 0.05), (0.31, 0.31), 2.0, drawn=0)


def test_without_dropout_divergence_is_measured_by_the_teacher():
    method = spd()
    method.begin(tiny.classifier(1), None)
    labels = torch.tensor([0, 1, 2, 0])
    batch = Batch(torch.arange(4), torch.ones(4, 5, dtype=torch.int64), torch.ones(4, 5, dtype=torch.int64), None, labels)
    outputs = tensors(1, 3)
    method.loss_terms(batch, outputs, outputs, 0)
    method.after_step(0)
    assert float(method.reference) == pytest.approx(0.1 * sum(float(each.square().mean()) for each in outputs.hidden_states))


def test_settings_that_train_nothing_are_refused():
    with pytest.raises(ValidationError, match="no loss left"):
        settings(prediction_weight=0.0, **ARMS)
    with pytest.raises(ValidationError, match="no student layer would ever be trained"):
        settings(initial_probability=0.0, probability_schedule="constant")
    settings(initial_probability=0.0, probability_schedule="linear")


def test_a_jump_grafts_although_it_begins_without():
    hard = {"prediction_weight": 0.0, "hard_label_weight": 1.0, "initial_probability": 1.0, **ARMS}
    assert not spd(**hard).needs_teacher
    assert spd(**hard, probability_schedule="constant-jump-linear").needs_teacher
    assert not spd(**hard, probability_schedule="constant-jump-linear", jump_probability=1.0).needs_teacher


def test_a_teacher_whose_layers_alone_are_used_is_not_run(harness):
    """Grafting without distillation; the same weights come out where the teacher is run over all rows first."""
    teacher, passes = tiny.classifier(2), []
    teacher.register_forward_hook(lambda *_: passes.append(1))
    silent = harness.run(PLANS["spd-theseus"], teacher=teacher, work="silent")
    assert silent.method.teacher is teacher and not passes
    loop = harness.loop(PLANS["spd-theseus"], teacher=teacher, work="run")
    loop.teacher = StoredTeacher.of(teacher, harness.train, loop.accelerator, None)
    loop.run()
    assert passes and equal(weights_of(silent), weights_of(loop))


NEEDS = {
    "a0-dense": (False, False, None),
    "a1-prune": (False, False, None),
    "a2-logits": (True, True, None),
    "a3-layers": (True, True, "maps"),
    "a4-grafting": (True, False, None),
    "a5-spd": (True, True, "maps"),
    "a6-readme": (True, True, "maps"),
}
"""Arm of the specification's section 5 → whether it needs a teacher, whether that runs, and what is recorded."""


@pytest.mark.parametrize("study", ["spd-arms", "spd-overfitting", "spd-overfitting-tasks", "spd-fractions"])
def test_arms_of_the_committed_studies(study):
    config = parse(yaml.safe_load((ROOT / f"workflow/experiments/{study}/config.yaml").read_text()))
    assert config.plans.keys() == (NEEDS.keys() if study == "spd-arms" else {"a1-prune", "a3-layers", "a5-spd"})
    for name, plan in config.plans.items():
        method = method_class(plan.method)(plan, pruning_stage(plan, "classification", 0, 78, True, 0.0, plan.path[-1]))
        assert (method.needs_teacher, method.reads_teacher, method.relations) == NEEDS[name] and method.stage.steps == 12 * 78
        if plan.method == "spd":
            drawn = {"a4-grafting": (0.8, 1.0), "a5-spd": (0.8, 1.0), "a6-readme": (0.8, 0.8)}.get(name, (1.0, 1.0))
            assert (method.probability(0), method.probability(935)) == drawn
            assert plan.learning_rate == config.plans["a5-spd"].learning_rate, "arms differ in losses and grafting alone"
