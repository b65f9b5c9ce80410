"""Every method × every behaviour."""

import copy
import math
from dataclasses import dataclass, replace

import pandas as pd
import pytest
import torch
from transformers import BertForSequenceClassification, MPNetConfig, MPNetForSequenceClassification

from espalier.config.methods import HISTORY_COLUMNS, METHODS
from espalier.data.spans import OUT
from espalier.evaluation.predict import all_logits
from espalier.models.encoder import count_weights, prunable_weights
from espalier.models.modeling_espalier import shape_of
from espalier.pruning.masks import read_masks, write_masks
from espalier.pruning.parts import masked_shape
from espalier.runtime.errors import UserError
from espalier.training.loop import Loop
from tests import tiny
from tests.methods.conftest import GATED, ON_TEXT, PLANS, STRUCTURED, Harness
from tests.tiny import equal, weights_of


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
    def structured(self):
        return self.plan["method"] in STRUCTURED

    def tolerance(self, method):
        """Half a part of a model whose weights are counted in parts: a single weight, a unit, or a head."""
        if self.plan["method"] not in STRUCTURED:
            return len(prunable_weights(self.loop.student)) / (2 * DENSE)
        masks = method.end()
        units_left = any(mask.any() for name, mask in masks.items() if name.endswith(".ffn"))
        whole_heads = self.plan["method"] == "heads" or not units_left
        return int(masks["hidden"].sum()) * (4 * 8 if whole_heads else 2) / (2 * DENSE) + 1e-6


@pytest.fixture(scope="session", params=list(PLANS))
def finished(request, tmp_path_factory):
    plan, teacher = PLANS[request.param], tiny.classifier(2)
    loop = Harness(tmp_path_factory.mktemp("finished")).loop(plan, teacher=teacher)
    before = weights_of(loop)
    loop.run()
    return Finished(plan, loop, before, teacher)


DENSE = count_weights(tiny.classifier())


def test_every_method_has_a_row():
    assert {plan["method"] for plan in PLANS.values()} | ON_TEXT == set(METHODS)
    gated = {plan["method"] for plan in PLANS.values() if "prepruning_epochs" in plan}
    assert gated == GATED


def test_repeatable(harness, finished):
    assert equal(weights_of(finished.loop), weights_of(harness.run(finished.plan, work="again")))
    assert not equal(weights_of(finished.loop), weights_of(harness.run(finished.plan, work="other", seed=1)))


def test_trains_every_parameter_that_is_not_frozen(finished):
    names = finished.before.keys() & finished.loop.student.state_dict().keys()
    same = {name for name in names if torch.equal(finished.before[name], finished.loop.student.state_dict()[name])}
    if finished.plan["method"] in GATED:
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
        assert masked_shape(shape_of(tiny.config()), masks) == shape_of(finished.small.config)
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
    later = {**finished.plan, "path": [0.9]} if finished.plan["method"] != "dense" else finished.plan
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
    loop.method.stage = replace(loop.method.stage, sparsity_before=0.0, target=0.0, bounds=(3,), removals={})
    before = weights_of(loop)
    loop.run()
    assert not loop.method.stage.removes and equal(finished.loop.method.end(), loop.method.end())
    assert weights_of(loop).keys() == before.keys() and not equal(before, weights_of(loop))


def test_regression_runs_too(tmp_path, plan):
    loop = Harness(tmp_path, "regression").run(plan)
    assert all(math.isfinite(row.get("loss", 0.0)) for row in loop.history.rows)
    assert loop.student.config.num_labels == 1 and len(loop.history.rows) > 3


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


@pytest.fixture(scope="session", params=list(PLANS))
def whole(request, tmp_path_factory):
    """An undisturbed run that keeps the best checkpoint."""
    plan = {**PLANS[request.param], "checkpoint": "best"}
    return plan, Harness(tmp_path_factory.mktemp("whole")).run(plan)


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_interrupted_and_resumed_ends_bit_identical(harness, whole, stop):
    plan, undisturbed = whole
    tiny.halted(harness.loop(plan, work="broken"), stop)
    resumed = harness.run(plan, work="broken")
    assert resumed.saves.resumed_at == ([stop // 3 * 3] if stop >= 3 else [])
    assert equal(weights_of(undisturbed), weights_of(resumed))
    assert equal(undisturbed.method.end(), resumed.method.end())
    timed = {"samples_per_second", "seconds"}
    strip = [[{k: v for k, v in row.items() if k not in timed} for row in loop.history.rows] for loop in (undisturbed, resumed)]
    assert strip[0] == strip[1]


@pytest.mark.parametrize("method", sorted(STRUCTURED))
def test_a_family_that_cannot_be_sliced_is_refused_in_words(harness, method):
    config = MPNetConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24)
    student = MPNetForSequenceClassification(config)
    with pytest.raises(UserError, match=r"'mpnet' cannot be pruned structurally; supported: bert, roberta"):
        harness.run(PLANS[method], student=student)
