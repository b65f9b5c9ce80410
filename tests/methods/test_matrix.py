"""Every method × every behaviour."""

import copy
import math
import shutil
from dataclasses import dataclass, replace
from itertools import pairwise

import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from transformers import BertForSequenceClassification, ErnieConfig, ErnieForSequenceClassification

from espalier.config.deployment.formats import FORMATS
from espalier.config.methods import HISTORY_COLUMNS, METHODS
from espalier.data.spans import OUT
from espalier.deployment.conversion import write_format
from espalier.deployment.rows import single_rows
from espalier.deployment.runtimes import open_format
from espalier.deployment.scoring import scored
from espalier.evaluation.predict import all_logits
from espalier.kinds.base import task_kind
from espalier.models.base_tokenizer import save_tokenizer
from espalier.models.encoder import count_weights, prunable_weights
from espalier.models.files import open_base, write_compact
from espalier.models.modeling_espalier import shape_of
from espalier.models.onnx import write_onnx
from espalier.pruning.masks import read_masks, write_masks
from espalier.pruning.parts import masked_shape
from espalier.report.card import render
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json
from espalier.training.loop import Loop
from tests import tiny
from tests.cards import lines_of, run_lines
from tests.methods import on_text, pieces
from tests.methods.conftest import FROM_ANOTHER_BASE, GATED, ON_TEXT, PLANS, STRUCTURED, UNTRAINED, Harness
from tests.served import write_folder
from tests.tiny import equal, weights_of
from tests.unit.test_card import FACTS, SPEC


@dataclass
class Finished:
    """A run that several tests look at, and what was there before it; tests do not change it."""

    plan: dict
    loop: Loop
    before: dict
    teacher: BertForSequenceClassification

    @property
    def small(self):
        """What the next stage starts from."""
        return copy.deepcopy(self.loop.method.shrink(self.loop.student))

    @property
    def untrained(self):
        return self.plan["method"] in UNTRAINED

    @property
    def structured(self):
        return self.plan["method"] in STRUCTURED

    def tolerance(self, method):
        """Half a part of a model whose weights are counted in parts: a single weight, a unit, a head where no unit is left."""
        if self.plan["method"] not in STRUCTURED:
            return len(prunable_weights(self.loop.student)) / (2 * DENSE)
        masks = method.end()
        ours = method.before if hasattr(method, "before") else masks
        kept, came = (sum(int(mask.sum()) for name, mask in each.items() if name.endswith(".ffn")) for each in (masks, ours))

        # A path may leave fewer units than a head weighs: where all that came stay, or none, a head is the smallest part.
        units_left = 0 < kept < came or (kept and ours is masks)
        if self.plan.get("layers") == "equal":
            # A unit of every layer at once; the tiny model has two.
            return int(masks["hidden"].sum()) * 2 * 2 / (2 * DENSE) + 1e-6
        return int(masks["hidden"].sum()) * (2 if units_left else 4 * 8) / (2 * DENSE) + 1e-6


@pytest.fixture(scope="session", params=list(PLANS))
def finished(request, tmp_path_factory):
    plan, teacher = PLANS[request.param], tiny.classifier(2)
    loop = Harness(tmp_path_factory.mktemp("finished")).loop(plan, teacher=teacher)
    before = weights_of(loop)
    loop.run()
    return Finished(plan, loop, before, teacher)


DENSE = count_weights(tiny.classifier())


def test_every_method_has_a_row():
    assert {plan["method"] for plan in PLANS.values()} | ON_TEXT | FROM_ANOTHER_BASE == set(METHODS)
    gated = {plan["method"] for plan in PLANS.values() if "prepruning_epochs" in plan}
    assert gated == GATED


def test_repeatable(harness, finished):
    assert equal(weights_of(finished.loop), weights_of(harness.run(finished.plan, work="again")))
    other = harness.run(finished.plan, work="other", seed=1)
    if finished.plan.get("tune") is not False:  # a mask alone may be the same for other rows
        assert not equal(finished.small.state_dict(), other.method.shrink(other.student).state_dict())


def test_trains_every_parameter_that_is_not_frozen(finished):
    names = finished.before.keys() & finished.loop.student.state_dict().keys()
    same = {name for name in names if torch.equal(finished.before[name], finished.loop.student.state_dict()[name])}
    if finished.untrained:
        solved = finished.plan["method"] == "kprune" and finished.plan.get("refit") is not False
        assert names - same <= {name for name in names if ".output.dense." in name}
        assert bool(names - same) == solved, "nothing is trained; what kwon finds is in its gates"
    elif finished.plan["method"] in GATED:
        assert same == {name for name in names if "embeddings" in name}
    elif finished.plan["method"] == "spd":
        head = set() if "freeze_head" in finished.plan else {name for name in names if ".layer." not in name}
        assert same == {name for name in names if "embeddings" in name} | head
    else:
        assert same <= {"bert.embeddings.position_ids", "bert.embeddings.token_type_ids"}


OF_THE_LOOP = {"step", "epoch", "loss", "learning_rate", "gradient_norm", "sparsity", "samples_per_second", "seconds"}
"""Columns that every run has, besides loss terms and scores."""


def test_logs_the_columns_that_its_method_declares(finished):
    logged = {column for row in finished.loop.history.rows for column in row}
    own = {name for name in logged - OF_THE_LOOP if not name.startswith(("loss/", "validation/"))}
    declared = {column.name for column in HISTORY_COLUMNS.get(finished.plan["method"], ())}
    assert own == {name for name in declared - OF_THE_LOOP if "latency" not in name}, "latency: where a plan aims at a speed"


def test_teacher_is_left_alone(finished):
    assert equal(tiny.classifier(2).state_dict(), finished.teacher.state_dict())


def test_target_is_reached_exactly_and_holds_to_the_end(finished):
    loop = finished.loop
    masks, weights = loop.method.end(), prunable_weights(finished.small)
    target = loop.method.stage.target
    removed = 1.0 - sum(int((weight != 0).sum()) for weight in weights.values()) / DENSE
    if not masks:
        assert target == 0.0 and removed == 0.0
        return
    assert abs(removed - target) <= finished.tolerance(loop.method)
    assert loop.method.sparsity == pytest.approx(removed, abs=1e-6)
    if finished.structured:
        # With equal layers the classification head is as narrow as the hidden states.
        pooled = int(masks["hidden"].sum()) if finished.plan.get("layers") == "equal" else 32
        assert masked_shape(shape_of(tiny.config()), masks)._replace(pooled=pooled) == shape_of(finished.small.config)
    else:
        assert all(torch.equal(weight != 0, masks[name]) for name, weight in weights.items())


def test_the_compact_student_gives_the_logits_of_the_gated_one(finished):
    if not finished.structured:
        assert finished.loop.method.shrink(finished.loop.student) is finished.loop.student
        return
    rows, accelerator = finished.loop.rows, tiny.accelerator()
    gated, small = (all_logits(model, rows, accelerator) for model in (finished.loop.student, finished.small))
    assert (gated - small).abs().max() <= 1e-5 * max(1.0, float(gated.abs().max()))


def test_structure_says_what_is_kept(finished):
    said, masks = finished.loop.method.structure(), finished.loop.method.end()
    assert said["sparsity"] == pytest.approx(finished.loop.method.sparsity)
    if not finished.structured:
        assert {name: each["kept"] for name, each in said["matrices"].items()} == {n: int(m.sum()) for n, m in masks.items()}
        return
    assert said["hidden"] == {"kept": int(masks["hidden"].sum()), "total": 32}
    for index, layer in enumerate(said["layers"]):
        assert layer["heads"] == {"kept": int(masks[f"layer.{index}.heads"].sum()), "total": 4}
        assert layer["ffn"] == {"kept": int(masks[f"layer.{index}.ffn"].sum()), "total": 64}


def test_a_later_stage_starts_from_the_smaller_student_and_nests(harness, finished):
    first = finished.loop.method
    # Layers of one shape come in steps of a head of all layers, and the tiny model has four.
    target = 0.8 if finished.plan.get("layers") == "equal" else 0.9
    later = {**finished.plan, "path": [target]} if finished.plan["method"] != "dense" else finished.plan
    second = harness.run(later, student=finished.small, masks=first.end(), before=first.stage.target).method
    assert abs(second.sparsity - second.stage.target) <= finished.tolerance(second)
    for name, mask in first.end().items():
        assert not (second.end()[name] & ~mask).any()
        assert second.end()[name].shape == mask.shape, "masks are over the model that the path began with"


def test_saved_masks_are_the_loaded_ones(finished, tmp_path):
    masks = finished.loop.method.end()
    write_masks(tmp_path / "masks.safetensors", masks)
    again = read_masks(tmp_path / "masks.safetensors")
    assert equal(masks, again)


def test_history_logs_every_term_unweighted(finished, tmp_path):
    loop = finished.loop
    loop.history.write(tmp_path / "history.parquet")
    table = pd.read_parquet(tmp_path / "history.parquet")
    if finished.untrained:
        assert table["step"].tolist() == [0] and table["validation/accuracy"].notna().all()
        assert table["loss"].isna().all()
        return
    logged = table.dropna(subset=["loss"])
    assert {f"loss/{name}" for name in loop.method.loss_weights} <= set(table.columns)
    total = sum(weight * logged[f"loss/{name}"] for name, weight in loop.method.loss_weights.items())
    assert ((total - logged["loss"]).abs() <= 1e-5 * (1.0 + logged["loss"].abs())).all()
    assert logged["step"].iloc[-1] == loop.method.stage.steps
    assert abs(logged["sparsity"].iloc[-1] - loop.method.stage.target) <= finished.tolerance(loop.method)
    assert table["validation/accuracy"].notna().sum() == len({*range(4, loop.step + 1, 4), loop.step})


def test_recovery_keeps_what_is_left_and_trains_it(harness, finished):
    """A stage that removes nothing: the same masks, no gates, and the method's own loss."""
    masks = finished.loop.method.end() or None
    plan = {**finished.plan, "path": [0.0]} if finished.plan["method"] == "dense" else finished.plan
    loop = harness.loop(plan, student=finished.small, masks=masks)
    loop.method.stage = replace(loop.method.stage, sparsity_before=0.0, target=0.0, bounds=(3,), decay_ends=(3,), removals={})
    before = weights_of(loop)
    loop.run()
    assert not loop.method.stage.removes and equal(finished.loop.method.end(), loop.method.end())
    assert weights_of(loop).keys() == before.keys() and not equal(before, weights_of(loop))


def test_regression_runs_too(tmp_path, plan):
    loop = Harness(tmp_path, "regression").run(plan)
    assert all(math.isfinite(row.get("loss", 0.0)) for row in loop.history.rows)
    assert loop.student.config.num_labels == 1 and len(loop.history.rows) > (0 if plan["method"] in UNTRAINED else 3)


def test_spans_run_too(tmp_path, plan):
    """Windows with starts and ends instead of rows with classes; the best checkpoint by F1."""
    loop = Harness(tmp_path, "span").run({**plan, "checkpoint": "best"})
    losses = [row["loss/task"] for row in loop.history.rows if "loss/task" in row]
    assert all(math.isfinite(loss) for loss in losses)
    scores = [row["validation/squad-f1"] for row in loop.history.rows if "validation/squad-f1" in row]
    assert scores and all(0.0 <= score <= 1.0 for score in scores)
    assert abs(loop.method.sparsity - loop.method.stage.target) < 0.02
    small = loop.method.shrink(loop.student)
    rows, accelerator = loop.rows, tiny.accelerator()
    whole, alone = (all_logits(model, rows, accelerator) for model in (loop.student, small))
    assert (whole - alone).abs().max() <= 1e-5 * max(1.0, float(whole[whole > OUT].abs().max()))
    assert (whole > OUT).any(dim=1).all() and (whole == OUT).any()


def test_words_with_tags_run_too(tmp_path, plan):
    """A line of logits a word; a smaller student tags them as the one that it was cut from."""
    loop = Harness(tmp_path, "tokens").run({**plan, "checkpoint": "best"})
    assert all(math.isfinite(row.get("loss", 0.0)) for row in loop.history.rows)
    scores = [row["validation/entity-f1"] for row in loop.history.rows if "validation/entity-f1" in row]
    assert scores and all(0.0 <= score <= 1.0 for score in scores)
    small = loop.method.shrink(loop.student)
    whole, alone = (all_logits(model, loop.rows, tiny.accelerator()) for model in (loop.student, small))
    assert (whole - alone).abs().max() <= 1e-5 * max(1.0, float(whole.abs().max()))


@pytest.mark.parametrize("kind", ["classification", "regression", "span", "tokens"])
def test_micro_batches_give_the_same_gradient(tmp_path, plan, kind):
    """27 rows at once, and in pieces of 8, 8, 8 and 3."""
    if "cc" in plan.get("objective", ""):
        with pytest.raises(ValidationError, match="is a statistic of the whole batch: micro_batch_size 8 below batch_size 27"):
            Harness(tmp_path, kind).loop({**plan, **pieces.BATCH, "micro_batch_size": 8})
        return
    if plan["method"] in UNTRAINED:
        return  # there is no step
    pieces.check(pieces.stopped(Harness(tmp_path, kind), plan))


@pytest.mark.parametrize("name", list(on_text.VARIANTS))
def test_micro_batches_of_text_give_the_same_gradient(tmp_path, name):
    """Rows differ in their real and in their masked tokens."""
    harness = on_text.Harness(tmp_path)
    student = on_text.language_model(seed=1, **pieces.STILL)
    pieces.check(pieces.halted(harness.loop({**on_text.VARIANTS[name], **pieces.BATCH}, student=student), pieces.STOP))


def test_micro_batches_of_a_student_of_text_give_the_same_gradient(tmp_path):
    plan = {"method": "specialise", "start": {"plan": "narrow"}, "path": [0.5], "alpha": 0.4}
    pieces.check(pieces.stopped(Harness(tmp_path), plan))


def base_with_head(folder, kind, outputs, seed):
    """A base of one encoder, with a head of its own for this kind of task."""
    model = tiny.answerer(4) if kind == "span" else tiny.classifier(4, outputs)
    model.bert.load_state_dict(tiny.classifier(5).bert.state_dict(), strict=False)
    torch.manual_seed(seed)
    head = model.qa_outputs if kind == "span" else model.classifier
    torch.nn.init.normal_(head.weight)
    model.save_pretrained(folder)
    return [folder / "config.json", folder / "model.safetensors"]


@pytest.mark.parametrize(("kind", "outputs"), [("classification", (3, 5)), ("regression", (1, 3)), ("span", (2, 2))])
def test_the_head_of_the_base_is_new(tmp_path, plan, kind, outputs):
    """Bases that differ in their heads alone begin alike, whether or not their heads would fit the task."""
    harness, begun = Harness(tmp_path, kind), []
    for seed, count in enumerate(outputs):
        files = base_with_head(tmp_path / f"base{seed}", kind, count, seed)
        torch.manual_seed(0)
        student = open_base(files, kind, ["low", "middle", "high"] if kind == "classification" else None)
        begun.append(weights_of(harness.loop(plan, student=student)))
    assert equal(*begun)


def test_the_card_s_lines_give_the_stored_predictions(finished, tmp_path):
    """As printed, on the evaluation rows: with PyTorch for every method, with onnxruntime for one of each kind of model."""
    small, rows, kind = finished.small.eval(), Harness(tmp_path).evaluation, task_kind("classification")
    write_compact(small, *(tmp_path / name for name in ("config.json", "model.safetensors", "modeling_espalier.py")))
    saved = save_tokenizer(tiny.write_base(tmp_path / "base"), tmp_path / "saved", small)
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)

    texts = [" ".join(tiny.WORDS[number - 4] for number in rows.ids[a + 1 : b - 1]) for a, b in pairwise(rows.offsets)]
    stored = kind.predictions(kind.measure(small, rows, tiny.accelerator()), rows)
    card = render(SPEC.model_copy(update={"max_length": 40}), FACTS._replace(config=read_json(tmp_path / "config.json")))
    of_torch, of_onnx = lines_of(card)

    logits = run_lines(of_torch, tmp_path, {"a text": texts})["logits"]
    assert logits.argmax(dim=-1).tolist() == stored["prediction"].tolist()
    torch.testing.assert_close(logits.detach(), torch.tensor(stored["logits"].tolist()), atol=1e-4, rtol=1e-4)
    if finished.plan in (PLANS["sdp-kld"], PLANS["cofi"]):
        write_onnx(small, tmp_path / "onnx/model.onnx")
        assert (
            run_lines(of_onnx, tmp_path, {"a text": texts})["logits"].argmax(axis=-1).tolist() == stored["prediction"].tolist()
        )


def test_every_format_of_a_structured_student_gives_its_predictions(finished, tmp_path):
    """int8 moves rows that lie between two classes, of which hardly trained models have many, so its surer half counts."""
    if not finished.structured:
        return
    model, rows, kind = finished.small.eval(), Harness(tmp_path).evaluation, task_kind("classification")
    folder = write_folder(tmp_path / "compact", model)
    measured = kind.measure(model, rows, tiny.accelerator())
    stored = kind.predictions(measured, rows)
    best, second = measured.topk(2, dim=1).values.T
    sure = (best - second > (best - second).median()).numpy()

    for format in FORMATS:
        write_format(folder, format, single_rows(rows, 16), "int8")
        sets, predictions = scored(open_format(folder, format, "classification"), "classification", rows, ["accuracy"])
        agreement = kind.agreement(predictions[sure], stored[sure]) if "int8" in format else kind.agreement(predictions, stored)
        assert agreement >= (0.9 if "int8" in format else 1.0), format
        assert sets["validation"]["rows"] == len(rows)


@pytest.fixture(scope="session", params=list(PLANS))
def whole(request, tmp_path_factory):
    """An undisturbed run that keeps the best checkpoint."""
    plan = {**PLANS[request.param], "checkpoint": "best"}
    return plan, Harness(tmp_path_factory.mktemp("whole")).run(plan)


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_interrupted_and_resumed_ends_bit_identical(harness, whole, stop):
    plan, undisturbed = whole
    if plan["method"] in UNTRAINED:
        return  # tests/methods/test_untrained.py interrupts what they do instead of steps
    tiny.halted(harness.loop(plan, work="broken"), stop)
    resumed = harness.run(plan, work="broken")
    after_calibration = [0] if resumed.calibration or undisturbed.calibration else []
    assert resumed.saves.resumed_at == ([stop // 3 * 3] if stop >= 3 else after_calibration)
    assert equal(weights_of(undisturbed), weights_of(resumed))
    assert equal(undisturbed.method.end(), resumed.method.end())
    timed = {"samples_per_second", "seconds"}
    strip = [[{k: v for k, v in row.items() if k not in timed} for row in loop.history.rows] for loop in (undisturbed, resumed)]
    assert strip[0] == strip[1]


@pytest.mark.parametrize("method", sorted(STRUCTURED))
def test_a_family_that_cannot_be_sliced_is_refused_in_words(harness, method):
    config = ErnieConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24)
    student = ErnieForSequenceClassification(config)
    with pytest.raises(UserError, match=r"'ernie' cannot be pruned structurally; supported: bert, roberta"):
        harness.run(PLANS[method], student=student)
