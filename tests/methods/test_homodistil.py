"""HomoDistil: its equations, its schedule, its settings, and what it leaves alone."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from espalier.config.methods.homodistil import HomodistilPlan
from espalier.losses.terms import projected_loss
from espalier.models.forward import forward
from espalier.pruning.schedules import remaining
from espalier.runtime.errors import UserError
from tests.methods.on_text import language_model
from tests.tiny import equal, weights_of


@pytest.mark.parametrize("schedule", ["cubic", "linear", "step"])
def test_the_schedule_begins_whole_and_ends_at_the_target(schedule):
    way = [remaining(step, 10, 50, schedule) for step in range(60)]
    assert way[:11] == [1.0] * 11 and way[50:] == [0.0] * 10
    assert all(one >= two for one, two in pairwise(way))


def test_the_schedule_s_numbers():
    assert remaining(30, 10, 50, "cubic") == 0.125  # half of the way: (1 - 1/2)^3
    assert remaining(20, 10, 50, "linear") == 0.75
    assert [remaining(step, 10, 50, "step") for step in (19, 20, 29, 49)] == [1.0, 0.75, 0.75, 0.25]


@pytest.mark.parametrize("changes", [{}, {"attention": "post-softmax", "embedding": "table"}])
def test_at_step_0_every_distillation_term_is_0_without_dropout(text_harness, changes):
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    loop = text_harness.loop(changes, student=language_model(**quiet))
    method, batch = loop.method, text_harness.train.batch(np.array([3, 63, 5]), torch.device("cpu"), 0)
    method.begin(loop.student, None)
    loop.student.train()
    outputs = forward(loop.student, batch, None, method.needs_hidden_states, method.relations)
    terms = method.loss_terms(batch, outputs, loop.teacher(batch), 0)
    assert set(terms) == {"mlm", "prediction", "hidden", "embedding", "attention"}
    assert all(abs(float(term.detach())) <= 1e-6 for name, term in terms.items() if name != "mlm")
    by_hand = loop.student(**batch.inputs(), labels=batch.labels).loss
    assert float(terms["mlm"].detach()) == pytest.approx(float(by_hand.detach()), rel=1e-5)


def test_terms_by_hand_on_a_narrower_student(text_harness):
    """A student of other weights: each term against its formula, written out row by row without padding."""
    loop = text_harness.loop({}, student=language_model(seed=5, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    method, batch = loop.method, text_harness.train.batch(np.array([63, 1]), torch.device("cpu"), 0)
    method.begin(loop.student, None)
    outputs = forward(loop.student, batch, None, True, method.relations)
    teacher = loop.teacher(batch)
    terms = method.loss_terms(batch, outputs, teacher, 0)
    real = batch.attention_mask.bool()
    pairs = zip(outputs.hidden_states, teacher.hidden_states, strict=True)
    hidden = sum((own[real] - theirs[real]).square().mean().item() for own, theirs in pairs) / 2
    assert terms["hidden"].item() == pytest.approx(hidden, rel=1e-5)
    own, theirs = (each.log_softmax(dim=-1) for each in (outputs.logits, teacher.logits))
    kl = (theirs.exp() * (theirs - own)).sum(dim=-1).mean()
    assert terms["prediction"].item() == pytest.approx(kl.item(), rel=1e-5)


def test_the_projection_maps_the_student_to_the_teacher_s_width():
    student, projection, mask = torch.randn(2, 3, 4), torch.randn(4, 6), torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert float(projected_loss(student, student @ projection, projection, mask)) == 0.0
    shifted = student @ projection
    shifted[0, 2] += 100.0
    assert float(projected_loss(student, shifted, projection, mask)) == 0.0
    shifted[1, 0] += 2.0
    assert float(projected_loss(student, shifted, projection, mask)) == pytest.approx(4.0 / 5)


def test_one_shot_updates_nothing_before_the_cut(text_harness):
    loop = text_harness.loop({"removal": "one-shot", "prune_start": 0.5})
    before, seen, before_step, updates = weights_of(loop), [], loop.method.before_step, []

    def look(step):
        if step <= loop.method.first:
            seen.append(equal(before, weights_of(loop)))
            updates.append(loop.method.importance.updates)
        before_step(step)

    loop.method.before_step = look
    loop.run()
    assert seen == [True] * 9 and updates[-1] == 4 and loop.method.importance is None


def test_stages_too_short_for_their_scores_are_refused(text_harness):
    for plan, message in (
        ({"epochs": 0.5}, "too short to narrow in: 2 steps; needed: at least 3; raise epochs"),
        (
            {"removal": "one-shot"},
            r"step 1 of 16, before a window of 2 steps is full; raise prune_start to at least 0\.125",
        ),
    ):
        loop = text_harness.loop(plan)
        with pytest.raises(UserError, match=message):
            loop.method.begin(loop.student, None)
    text_harness.loop({"removal": "one-shot", "importance": "magnitude"}).method.begin(language_model(), None)


def test_scores_that_are_no_numbers_end_the_run(text_harness):
    loop = text_harness.loop({})
    loop.method.begin(loop.student, None)
    loop.method.importance.stores["sum"]["bert.encoder.layer.0.output.dense.weight"][0, 0] = torch.nan
    with pytest.raises(UserError, match="training diverged before step 12: scores of units are not finite"):
        loop.method.before_step(11)


def test_a_random_start_has_nothing_of_the_teacher(text_harness):
    loop = text_harness.loop({"removal": "random-start"})
    torch.manual_seed(123)
    loop.method.begin(loop.student, None)
    kept = loop.method.widths.kept["hidden"]
    own, table = loop.student.get_input_embeddings().weight, language_model().get_input_embeddings().weight[:, kept]
    assert own.shape == table.shape and not (own[1:] == table[1:]).any(), "padding alone is 0 in both"
    again = text_harness.loop({"removal": "random-start"})
    again.method.begin(again.student, None)
    assert equal(weights_of(loop), weights_of(again))


def test_important_units_stay(text_harness):
    """Units whose weights are large in every matrix outlive the others, under the score that reads weights alone."""
    student = language_model()
    large = torch.zeros(64, dtype=torch.bool)
    large[::3] = True
    with torch.no_grad():
        for layer in student.bert.encoder.layer:
            layer.intermediate.dense.weight[large] *= 10.0
            layer.output.dense.weight[:, large] *= 10.0
    method = text_harness.run({"importance": "magnitude", "epochs": 1.0}, student=student).method
    assert all((method.widths.kept[f"layer.{layer}.ffn"] & large).sum() == 22 for layer in range(2))


def test_narrow_students_stay_near_their_teacher_longer_than_one_shot(text_harness):
    """The claim of the paper in small: the KL divergence along the path is smaller where little is cut at a time."""
    worst = {}
    for name in ("iterative", "one-shot"):
        loop = text_harness.run({"removal": name, "epochs": 8.0, "prune_start": 0.1}, work=name)
        worst[name] = max(row["loss/prediction"] for row in loop.history.rows if "loss/prediction" in row)
    assert worst["iterative"] < worst["one-shot"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prune_start": 0.7}, "prune_start 0.7 must be below prune_end 0.7"),
        ({"mlm_weight": 0.0, "prediction_weight": 0.0}, "nothing would train the head"),
        ({"path": [0.0]}, "path must begin above 0"),
        ({"start": "pretrained"}, "teacher"),
        ({"removal": "sudden"}, "one-shot"),
        ({"beta1": 1.0}, "less than 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        HomodistilPlan.model_validate({"method": "homodistil", "path": [0.5], **changes})
