"""HomoDistil: its equations, its schedule, and what a run leaves."""

import copy
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from transformers import BertForMaskedLM

from espalier.config.homodistil import HomodistilPlan
from espalier.config.project import Progress
from espalier.core import loop as loop_module
from espalier.core.history import History
from espalier.core.loop import Loop
from espalier.core.losses import projected_loss
from espalier.core.models import forward
from espalier.core.packed import Packed, Vocabulary
from espalier.core.predict import evaluator, teacher_for
from espalier.core.saves import Saves
from espalier.core.structure import shape_of
from espalier.core.training import pruning_stage
from espalier.core.widths import Sizes
from espalier.methods.homodistil import Homodistil, remaining
from tests import tiny

LENGTH, SPECIAL = 16, 5
VARIANTS = {
    "paper": {},
    "one-shot": {"removal": "one-shot"},
    "random-start": {"removal": "random-start"},
    "averaged-sensitivity": {"importance": "averaged-sensitivity", "prune_schedule": "linear"},
    "sensitivity": {"importance": "sensitivity", "prune_schedule": "step"},
    "magnitude": {"importance": "magnitude", "member_scores": "undivided"},
    "random": {"importance": "random"},
    "undivided": {"member_scores": "undivided"},
    "global": {"allocation": "global", "member_scores": "undivided"},
    "other comparisons": {"attention": "post-softmax", "embedding": "table", "projections": "random", "temperature": 2.0},
    "prediction alone": dict.fromkeys(("mlm_weight", "hidden_weight", "embedding_weight", "attention_weight"), 0.0),
    "multiples": {"multiple": 4},
    "without attention": {"attention_weight": 0.0},
}


def write_rows(path, rows, seed, named):
    """Packed rows in which a token says which one follows it."""
    generator = np.random.default_rng(seed)
    first = generator.integers(SPECIAL, 64, rows)
    steps = np.arange(LENGTH - 2)
    inner = SPECIAL + (first[:, None] - SPECIAL + 7 * steps) % (64 - SPECIAL)
    ids = np.concatenate([np.full((rows, 1), 2), inner, np.full((rows, 1), 3)], axis=1).astype(np.int32)
    ids[-1, 9:] = 0
    vocabulary = Vocabulary(64, 0, 4, tuple(range(SPECIAL)))
    column = pa.field("input_ids", pa.list_(pa.int32(), LENGTH))
    schema = pa.schema([column, *([pa.field("set", pa.string())] if named else [])], metadata=vocabulary.metadata())
    arrays = [pa.FixedSizeListArray.from_arrays(pa.array(ids.reshape(-1)), LENGTH), pa.array(["validation"] * rows)]
    with pa.ipc.new_file(str(path), schema) as writer:
        writer.write_batch(pa.record_batch(arrays[: 1 + named], schema=schema))
    return Packed(path, seed)


def language_model(seed=2, **changes):
    torch.manual_seed(seed)
    return BertForMaskedLM(tiny.config(initializer_range=0.2, **changes))


class Harness:
    """Everything that one run needs, on 64 rows: four steps an epoch."""

    def __init__(self, folder):
        self.folder = folder
        self.train = write_rows(folder / "train.arrow", 64, 0, named=False)
        self.evaluation = write_rows(folder / "evaluation.arrow", 16, 1, named=True)

    def loop(self, settings, student=None, masks=None, before=0.0, work="work", seed=0, target=0.6):
        plan = {"method": "homodistil", "path": [target], "batch_size": 16, "epochs": 4.0, "decide_every": 2, "window": 2}
        plan["multiple"] = 1
        settings = HomodistilPlan.model_validate(plan | settings)
        stage = pruning_stage(settings, "text", seed, 4, masks is None, before, settings.path[0])
        method, accelerator = Homodistil(settings, stage), tiny.accelerator()
        (self.folder / work).mkdir(exist_ok=True)
        self.teacher = language_model()
        taught = teacher_for(method, self.teacher, self.train, accelerator)
        torch.manual_seed(seed)
        return Loop(
            student=student or language_model(),
            method=method,
            rows=self.train,
            settings=settings,
            learning_rate=3e-3,
            progress=Progress(log_every=3),
            accelerator=accelerator,
            evaluate=evaluator(self.evaluation, "text", ["masked-accuracy"], accelerator),
            metric="masked-accuracy",
            saves=Saves(self.folder / work, {"settings": settings.model_dump_json(), "seed": seed}),
            history=History(self.folder / work / "history.jsonl"),
            teacher=taught,
            masks=masks,
        )

    def run(self, settings, **arguments):
        loop = self.loop(settings, **arguments)
        loop.run()
        return loop


@pytest.fixture
def harness(tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, "SAVE_EVERY", 1)
    return Harness(tmp_path)


@pytest.fixture(scope="module", params=list(VARIANTS))
def finished(request, tmp_path_factory):
    """A run, and the widths before each step."""
    loop = Harness(tmp_path_factory.mktemp("finished")).loop(VARIANTS[request.param])
    widths, before_step = [], loop.method.before_step

    def look(step):
        before_step(step)
        widths.append(loop.method.widths.now)

    loop.method.before_step = look
    loop.run()
    return request.param, loop, widths


def weights_of(loop):
    return {name: value.clone() for name, value in loop.student.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


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
def test_at_step_0_every_distillation_term_is_0_without_dropout(harness, changes):
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    loop = harness.loop(changes, student=language_model(**quiet))
    method, batch = loop.method, harness.train.batch(np.array([3, 63, 5]), torch.device("cpu"), 0)
    method.begin(loop.student, None)
    loop.student.train()
    outputs = forward(loop.student, batch, None, method.needs_hidden_states, method.relations)
    terms = method.loss_terms(batch, outputs, loop.teacher(batch), 0)
    assert set(terms) == {"mlm", "prediction", "hidden", "embedding", "attention"}
    assert all(abs(float(term.detach())) <= 1e-6 for name, term in terms.items() if name != "mlm")
    by_hand = loop.student(**batch.inputs(), labels=batch.labels).loss
    assert float(terms["mlm"].detach()) == pytest.approx(float(by_hand.detach()), rel=1e-5)


def test_terms_by_hand_on_a_narrower_student(harness):
    """A student of other weights: each term against its formula, written out row by row without padding."""
    loop = harness.loop({}, student=language_model(seed=5, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    method, batch = loop.method, harness.train.batch(np.array([63, 1]), torch.device("cpu"), 0)
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


def test_all_layers_are_equally_wide_after_every_cut_and_nothing_comes_back(finished):
    name, loop, widths = finished
    assert len(widths) == 16
    for one, two in pairwise(widths):
        assert one.hidden >= two.hidden and one.head_dim >= two.head_dim and sum(one.units) >= sum(two.units)
    if name != "global":
        assert all(len(set(sizes.units)) == 1 for sizes in widths)
    full = Sizes(32, 4, 8, (64, 64))
    first, last = loop.method.first, loop.method.last
    assert (first, last) == (1, 11)
    if name == "random-start":
        assert widths[0] == loop.method.final != full
    else:
        assert widths[first - 1] == full and (widths[first] == full) == (name != "one-shot")
        assert len(set(widths)) > 3 or name == "one-shot"
    assert widths[last].matrices == widths[-1].matrices == loop.method.final.matrices


def test_the_target_is_reached(finished):
    _, loop, _ = finished
    method = loop.method
    left = sum(p.numel() for n, p in loop.student.named_parameters() if p.dim() > 1 and ".encoder." in n)
    dense = Sizes.of(tiny.config()).matrices
    assert method.sparsity == pytest.approx(1 - left / dense)
    assert abs(method.sparsity - 0.6) <= method.settings.multiple * method.final.hidden * 2 / dense
    assert loop.history.rows[-1]["step"] == 16 and method.at_target(16)
    assert all(math.isfinite(value) for row in loop.history.rows for value in row.values())


def test_terms_and_widths_are_logged(finished):
    name, loop, _ = finished
    rows = [row for row in loop.history.rows if "loss" in row]
    terms = {key.removeprefix("loss/") for key in rows[0] if key.startswith("loss/")}
    assert terms == set(loop.method.loss_weights) == ({"prediction"} if name == "prediction alone" else terms)
    assert rows[-1]["width/hidden"] == loop.method.final.hidden and rows[-1]["width/head"] == loop.method.final.head_dim
    assert "validation/masked-accuracy" in loop.history.rows[-1]


def test_the_student_to_keep_has_the_same_logits_and_is_stock(finished):
    name, loop, _ = finished
    batch = loop.rows.batch(np.array([0, 63]), torch.device("cpu"))
    small = loop.method.shrink(loop.student).eval()
    with torch.no_grad():
        logits, alone = loop.student.eval()(**batch.inputs()).logits, small(**batch.inputs()).logits
    assert (logits - alone).abs().max() <= 1e-5 * max(1.0, float(logits.abs().max()))
    uniform = len(set(loop.method.widths.now.units)) == 1
    assert (type(small) is BertForMaskedLM) == uniform and (uniform or name == "global")
    assert Sizes.of(small.config) == loop.method.widths.now


def test_masks_and_structure_say_what_is_kept(finished):
    _, loop, _ = finished
    masks, said, now = loop.method.end(), loop.method.structure(), loop.method.widths.now
    assert {name: len(mask) for name, mask in masks.items()} == Sizes.of(tiny.config()).groups()
    assert {name: int(mask.sum()) for name, mask in masks.items()} == now.groups()
    assert said["hidden"] == {"kept": now.hidden, "total": 32} and said["sparsity"] == loop.method.sparsity
    for layer, units in zip(said["layers"], now.units, strict=True):
        assert layer["ffn"] == {"kept": units, "total": 64} and layer["heads"] == {"kept": 4, "total": 4}
        assert layer["queries"] == layer["values"] == {"kept": 4 * now.head_dim, "total": 32}
    for name in ("layer.0.qk", "layer.1.vo"):
        assert set(masks[name].view(4, 8).sum(dim=1).tolist()) == {now.head_dim}


def test_teacher_is_left_alone(harness):
    loop = harness.run({})
    assert equal(harness.teacher.state_dict(), language_model().state_dict())
    assert loop.student.config.hidden_size == 32


def test_moments_are_as_small_as_the_student(harness):
    loop = harness.run({})
    for parameter in [*loop.student.parameters(), *loop.method.projections.values()]:
        state = loop.optimizer.state[parameter]
        assert state["exp_avg"].shape == state["exp_avg_sq"].shape == parameter.shape
    assert {group["eps"] for group in loop.optimizer.param_groups if group["params"]} == {1e-6}
    assert loop.method.projections["layer.0.weight"].shape == (loop.method.final.hidden, 32)


def test_one_shot_updates_nothing_before_the_cut(harness):
    loop = harness.loop({"removal": "one-shot", "prune_start": 0.5})
    before, seen, before_step = weights_of(loop), [], loop.method.before_step

    def look(step):
        if step <= loop.method.first:
            seen.append(equal(before, weights_of(loop)))
        before_step(step)

    loop.method.before_step = look
    loop.run()
    assert seen == [True] * 9 and loop.method.importance.updates == 4


def test_a_random_start_has_nothing_of_the_teacher(harness):
    loop = harness.loop({"removal": "random-start"})
    torch.manual_seed(123)
    loop.method.begin(loop.student, None)
    kept = loop.method.widths.kept["hidden"]
    own, table = loop.student.get_input_embeddings().weight, language_model().get_input_embeddings().weight[:, kept]
    assert own.shape == table.shape and not (own[1:] == table[1:]).any(), "padding alone is 0 in both"
    again = harness.loop({"removal": "random-start"})
    again.method.begin(again.student, None)
    assert equal(weights_of(loop), weights_of(again))


def test_important_units_stay(harness):
    """Units whose weights are large in every matrix outlive the others, under the score that reads weights alone."""
    student = language_model()
    large = torch.zeros(64, dtype=torch.bool)
    large[::3] = True
    with torch.no_grad():
        for layer in student.bert.encoder.layer:
            layer.intermediate.dense.weight[large] *= 10.0
            layer.output.dense.weight[:, large] *= 10.0
    method = harness.run({"importance": "magnitude", "epochs": 1.0}, student=student).method
    assert all((method.widths.kept[f"layer.{layer}.ffn"] & large).sum() == 22 for layer in range(2))


def test_a_later_stage_starts_from_the_smaller_student_and_nests(harness):
    first = harness.run({}).method
    small = first.shrink(first.student)
    second = harness.run({}, student=small, masks=first.end(), before=0.6, work="later", target=0.85).method
    assert second.widths.start == first.final and abs(second.sparsity - 0.85) < 0.02
    assert second.projections["layer.0.weight"].shape == (second.final.hidden, 32)
    for name, mask in first.end().items():
        assert second.end()[name].shape == mask.shape and not (second.end()[name] & ~mask).any()
    last = second.shrink(second.student)
    assert Sizes.of(last.config) == second.final and last.config.model_type == "bert"


def test_recovery_keeps_what_is_left_and_trains_it(harness):
    first = harness.run({}).method
    small = first.shrink(first.student)
    loop = harness.loop({}, student=small, masks=first.end(), work="recover")
    loop.method.stage = replace(loop.method.stage, sparsity_before=0.0, target=0.0, bounds=(3,), removals={})
    before = weights_of(loop)
    loop.run()
    assert equal(loop.method.end(), first.end()) and loop.method.shrink(loop.student) is loop.student
    assert weights_of(loop).keys() == before.keys() and not equal(before, weights_of(loop))
    assert loop.method.sparsity == pytest.approx(first.sparsity)


@pytest.mark.parametrize("name", ["paper", "one-shot", "random-start", "random", "global"])
@pytest.mark.parametrize("stop", [4, 13])
def test_interrupted_and_resumed_ends_bit_identical(harness, name, stop):
    settings = {**VARIANTS[name], "checkpoint": "best"}
    undisturbed = harness.run(settings, work="whole")
    broken = harness.loop(settings, work="broken")
    one_step = broken._one_step

    def stop_at(picked):
        if broken.step == stop:
            raise InterruptedError
        one_step(picked)

    broken._one_step = stop_at
    with pytest.raises(InterruptedError):
        broken.run()
    resumed = harness.run(settings, work="broken")
    assert resumed.saves.resumed_at == [stop // 3 * 3]
    assert equal(weights_of(undisturbed), weights_of(resumed))
    assert equal(undisturbed.method.end(), resumed.method.end())
    assert equal(undisturbed.method.state_dict(), resumed.method.state_dict())


def test_repeatable(harness):
    first, again, other = (harness.run({}, work=work, seed=seed) for work, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert equal(weights_of(first), weights_of(again)) and not equal(weights_of(first), weights_of(other))


def test_narrow_students_stay_near_their_teacher_longer_than_one_shot(harness):
    """The claim of the paper in small: the KL divergence along the path is smaller where little is cut at a time."""
    worst = {}
    for name in ("iterative", "one-shot"):
        loop = harness.run({"removal": name, "epochs": 8.0}, work=name)
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


def test_a_copy_of_the_student_s_shape_is_what_the_configuration_says(harness):
    loop = harness.run({}, target=0.75)
    small = copy.deepcopy(loop.method.shrink(loop.student))
    assert shape_of(small.config).layers == ((4, 32), (4, 32)) and small.config.hidden_size == 16
