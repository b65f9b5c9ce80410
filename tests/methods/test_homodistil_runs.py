"""HomoDistil: what a run does to widths and leaves behind, and that it repeats, resumes and goes on."""

import copy
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM

from espalier.models.modeling_espalier import shape_of
from espalier.pruning.widths import Sizes
from tests import tiny
from tests.methods.on_text import VARIANTS, Harness, language_model
from tests.tiny import equal, weights_of


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


def test_all_layers_are_equally_wide_after_every_cut_and_nothing_comes_back(finished):
    name, loop, widths = finished
    assert len(widths) == 16
    for one, two in pairwise(widths):
        assert one.hidden >= two.hidden and one.head_dim >= two.head_dim and sum(one.units) >= sum(two.units)
    if name != "global":
        assert all(len(set(sizes.units)) == 1 for sizes in widths)
    full = Sizes(32, 4, 8, (64, 64))
    first, last = loop.method.first, loop.method.last
    assert (first, last) == ((4, 4) if name == "one-shot" else (1, 11))
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


def test_teacher_is_left_alone(text_harness):
    loop = text_harness.run({})
    assert equal(text_harness.teacher.state_dict(), language_model().state_dict())
    assert loop.student.config.hidden_size == 32


def test_moments_are_as_small_as_the_student(text_harness):
    loop = text_harness.run({})
    for parameter in [*loop.student.parameters(), *loop.method.projections.values()]:
        state = loop.optimizer.state[parameter]
        assert state["exp_avg"].shape == state["exp_avg_sq"].shape == parameter.shape
    assert {group["eps"] for group in loop.optimizer.param_groups if group["params"]} == {1e-6}
    assert loop.method.projections["layer.0.weight"].shape == (loop.method.final.hidden, 32)


def test_a_later_stage_starts_from_the_smaller_student_and_nests(text_harness):
    first = text_harness.run({}).method
    small = first.shrink(first.student)
    second = text_harness.run({}, student=small, masks=first.end(), before=0.6, work="later", target=0.85).method
    assert second.widths.start == first.final and abs(second.sparsity - 0.85) < 0.02
    assert second.projections["layer.0.weight"].shape == (second.final.hidden, 32)
    for name, mask in first.end().items():
        assert second.end()[name].shape == mask.shape and not (second.end()[name] & ~mask).any()
    last = second.shrink(second.student)
    assert Sizes.of(last.config) == second.final and last.config.model_type == "bert"


def test_recovery_keeps_what_is_left_and_trains_it(text_harness):
    first = text_harness.run({}).method
    small = first.shrink(first.student)
    loop = text_harness.loop({}, student=small, masks=first.end(), work="recover")
    loop.method.stage = replace(loop.method.stage, sparsity_before=0.0, target=0.0, bounds=(3,), removals={})
    before = weights_of(loop)
    loop.run()
    assert equal(loop.method.end(), first.end()) and loop.method.shrink(loop.student) is loop.student
    assert weights_of(loop).keys() == before.keys() and not equal(before, weights_of(loop))
    assert loop.method.sparsity == pytest.approx(first.sparsity)


@pytest.mark.parametrize("name", ["paper", "one-shot", "random-start", "random", "global"])
@pytest.mark.parametrize("stop", [4, 13])
def test_interrupted_and_resumed_ends_bit_identical(text_harness, name, stop):
    settings = {**VARIANTS[name], "checkpoint": "best"}
    undisturbed = text_harness.run(settings, work="whole")
    tiny.halted(text_harness.loop(settings, work="broken"), stop)
    resumed = text_harness.run(settings, work="broken")
    assert resumed.saves.resumed_at == [stop // 3 * 3]
    assert equal(weights_of(undisturbed), weights_of(resumed))
    assert equal(undisturbed.method.end(), resumed.method.end())
    assert equal(undisturbed.method.state_dict(), resumed.method.state_dict())


def test_repeatable(text_harness):
    first, again, other = (text_harness.run({}, work=work, seed=seed) for work, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert equal(weights_of(first), weights_of(again)) and not equal(weights_of(first), weights_of(other))


def test_a_copy_of_the_student_s_shape_is_what_the_configuration_says(text_harness):
    loop = text_harness.run({}, target=0.75)
    small = copy.deepcopy(loop.method.shrink(loop.student))
    assert shape_of(small.config).layers == ((4, 32), (4, 32)) and small.config.hidden_size == 16
