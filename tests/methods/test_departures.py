"""Departures from papers and public code: each has an option that takes it back, and the default stays what it was.

Audit of the four methods against papers and public code (own audit). The facts on the public code are in docs/methods.
"""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from espalier.config.project import Progress
from espalier.data.batches import epoch_order
from espalier.models.encoder import embedding_parameters
from espalier.models.forward import forward
from espalier.pruning.masks import Pruner, read_handed_on, read_masks, write_masks
from espalier.pruning.parts import HIDDEN
from tests import tiny
from tests.methods.conftest import GATES, SPD, Harness, begun
from tests.tiny import equal, weights_of

COFI = {"method": "cofi", **GATES}
EVERY_STEP = Progress(log_every=1)


def rates(loop):
    return [row["learning_rate"] / 1e-3 for row in loop.history.rows if "learning_rate" in row]


def run_and_watch(loop):
    """The norm before clipping of every step."""
    norms = []
    clip = torch.nn.utils.clip_grad_norm_

    def watch(parameters, limit):
        norms.append(float(clip(parameters, limit)))
        return torch.tensor(norms[-1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", watch)
        loop.run()
    return norms


# CoFi: the learning rate of pre-pruning.


@pytest.mark.parametrize(("schedule", "last"), [("own", 1 / 4), ("whole", 17 / 20)])
def test_pre_pruning_is_a_schedule_of_its_own_or_the_beginning_of_one_over_the_whole_run(harness, schedule, last):
    loop = harness.loop({**COFI, "prepruning_schedule": schedule}, progress=EVERY_STEP)
    loop.run()
    found = rates(loop)
    assert found[0] == pytest.approx(1.0) and found[3] == pytest.approx(last), "four of 20 steps"
    assert found[4:] == pytest.approx([(16 - step) / 16 for step in range(16)]), "pruning begins a new one"


# CoFi: the layer map.


def test_the_layer_map_that_is_handed_on_gives_the_smaller_student_the_same_states(harness, tmp_path):
    loop = harness.run({**COFI, "keep_transform": True, "gates": ["heads", "units", "hidden"]})
    method, batch = loop.method, loop.rows.batch(torch.arange(8).numpy(), torch.device("cpu"))
    loop.student.eval()
    with torch.no_grad():
        gated = [method.transform(each) for each in forward(loop.student, batch, hidden_states=True).hidden_states]

    masks = method.end()
    assert not masks[HIDDEN].all(), "hidden dimensions are gone"
    write_masks(tmp_path / "masks.safetensors", masks, method.hand_on())
    small = method.shrink(loop.student).eval()

    kept = read_masks(tmp_path / "masks.safetensors")
    recovery = harness.loop({**COFI, "keep_transform": True}, student=small, masks=kept, before=0.6, work="recovery")
    recovery.method.stage = replace(recovery.method.stage, target=0.0, sparsity_before=0.0)
    recovery.method.handed_on = read_handed_on([tmp_path / "masks.safetensors"])
    recovery.method.begin(small, kept)
    with torch.no_grad():
        own = [recovery.method.transform(each) for each in forward(small, batch, hidden_states=True).hidden_states]
    for before, after in zip(gated, own, strict=True):
        torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kept", [False, True])
def test_the_layer_map_begins_anew_unless_it_is_kept(harness, kept):
    _, method = begun(harness)
    other = {"transform/weight": torch.full((32, 32), 0.25), "transform/bias": torch.ones(32)}
    method.settings = method.settings.model_copy(update={"keep_transform": kept})
    method.handed_on = other
    method.begin(tiny.classifier(1), None)
    assert torch.equal(method.transform.weight, other["transform/weight"] if kept else torch.eye(32))
    assert bool(method.transform.bias.any()) == kept
    assert bool(method.hand_on()) == kept


def test_a_file_of_masks_is_the_same_bytes_where_nothing_is_handed_on(tmp_path):
    masks = {"one.weight": torch.tensor([[True, False], [True, True]]), "two": torch.ones(9, dtype=torch.bool)}
    write_masks(tmp_path / "plain.safetensors", masks)
    write_masks(tmp_path / "empty.safetensors", masks, {})
    assert (tmp_path / "plain.safetensors").read_bytes() == (tmp_path / "empty.safetensors").read_bytes()
    write_masks(tmp_path / "masks.safetensors", masks, {"transform/weight": torch.arange(6.0).view(3, 2).T})
    assert equal(read_masks(tmp_path / "masks.safetensors"), masks)
    found = read_handed_on([tmp_path / "config.json", tmp_path / "masks.safetensors"])
    assert equal(found, {"transform/weight": torch.arange(6.0).view(3, 2).T})
    assert read_handed_on([tmp_path / "config.json"]) == {}
    save_file({"one": torch.zeros(1)}, tmp_path / "config.json")
    assert read_handed_on([tmp_path / "config.json"]) == {}, "other files are not looked into"


# What counts in the clipped norm.


@pytest.mark.parametrize("plan", [COFI, {"method": "l0", **GATES}])
def test_frozen_embeddings_may_count_in_the_norm_and_stay_as_they_are(harness, plan):
    small, large = (run_and_watch(harness.loop({**plan, "clip_scope": scope}, work=scope)) for scope in ("trainable", "all"))
    assert large[0] > small[0], "the same first batch and weights"

    loop = harness.loop({**plan, "clip_scope": "all"}, work="again")
    before = [parameter.detach().clone() for parameter in embedding_parameters(loop.student)]
    loop.run()
    assert all(torch.equal(one, two) for one, two in zip(before, embedding_parameters(loop.student), strict=True))


def test_without_clipping_it_makes_no_difference_what_counts(harness):
    one, two = (
        harness.run({**COFI, "clip_scope": scope, "clip_norm": 1e9}, work=f"scope-{scope}") for scope in ("trainable", "all")
    )
    assert equal(weights_of(one), weights_of(two))


def test_masking_weights_is_masking_gradients_without_clipping_and_not_with_it():
    """The sentence of `pruning.masks.Pruner`: public code masks weights after each step, we mask gradients before clipping."""

    def trained(mask_gradients, clip):
        model = tiny.classifier(0, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
        pruner = Pruner(model, allocation="layer", embeddings=False)
        pruner.remove(0.8, {name: weight.detach().abs() for name, weight in pruner.weights.items()}, optimizer)
        for step in range(4):
            ids = torch.randint(4, 64, (8, 10), generator=torch.Generator().manual_seed(step))
            model(input_ids=ids, labels=ids[:, 0] % 3).loss.backward()
            if mask_gradients:
                pruner.mask_gradients()
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
            if not mask_gradients:
                pruner.load(pruner.masks)
        return torch.cat([weight.detach().flatten() for weight in pruner.weights.values()])

    torch.testing.assert_close(trained(True, 1e9), trained(False, 1e9), atol=1e-6, rtol=1e-5)
    # A factor that changes from step to step is what Adam does not undo.
    assert (trained(True, 0.5) - trained(False, 0.5)).abs().max() > 1e-4


# SPD: the length that batches are padded to.


def spd_gradients(harness, pad_to, **weights):
    """Attention term and gradient of the first step, with all student layers drawn and no dropout."""
    off = {"hidden_weight": 0.0, "prediction_weight": 0.0, "initial_probability": 1.0} | weights
    plan = {"method": "spd", **SPD, **off, "pad_to": pad_to, "clip_norm": 1e9}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 128}
    student, teacher = (tiny.classifier(seed, **still) for seed in (1, 2))
    loop = harness.loop(plan, student=student, teacher=teacher, work=f"pad-{pad_to}-{len(weights)}")
    found = []

    def keep(step):
        if not found:
            gradients = [parameter.grad.flatten() for parameter in loop.method.layers if parameter.grad is not None]
            found.append(torch.cat(gradients).clone())

    after = loop.method.after_backward
    loop.method.after_backward = lambda step: (after(step), keep(step))
    loop.progress = EVERY_STEP
    loop.run()
    term = next(row["loss/attention"] for row in loop.history.rows if "loss/attention" in row)
    return loop, term, found[0]


def test_padding_changes_the_size_of_the_attention_term_and_turns_the_gradient(harness):
    """own audit: by about 8 times, cosine 0.38, on real rows of a quarter of the authors' 128 tokens or so.

    peremartra/optipfair#34 reports the same kind of another tool: padding in distillation terms changes what they weigh.
    """
    loop, short, _ = spd_gradients(harness, None)
    _, long, _ = spd_gradients(harness, 128)
    first = loop.rows.lengths[loop_rows(loop)].max()
    ratio = 128 / int(first)
    assert ratio < short / long < ratio**2, "padded queries differ less than real ones, padded keys do not differ"
    assert short / long > 8

    # The weight brings the term to the size that it has beside the others in a model of real width.
    both = {"hidden_weight": 1.0, "prediction_weight": 1.0, "attention_weight": 1000.0}
    _, _, own = spd_gradients(harness, None, **both)
    _, _, fixed = spd_gradients(harness, 128, **both)
    assert torch.cosine_similarity(own, fixed, dim=0) < 0.9


def loop_rows(loop):
    """The rows of a run's first batch."""
    return epoch_order(loop.rows.lengths, loop.settings.batch_size, loop.method.stage.seed, 0)[0]


@pytest.mark.parametrize("kind", ["classification", "span"])
def test_batches_are_padded_to_the_length_that_is_asked_for_in_training_alone(tmp_path, kind):
    harness = Harness(tmp_path, kind)
    loop = harness.loop({"method": "spd", **SPD, "pad_to": 32})
    batch = loop.rows.batch(torch.arange(4).numpy(), torch.device("cpu"))
    assert batch.input_ids.shape == batch.attention_mask.shape == (4, 32)
    plain = harness.train.batch(torch.arange(4).numpy(), torch.device("cpu"))
    width = plain.input_ids.shape[1]
    assert width < 32 and torch.equal(batch.input_ids[:, :width], plain.input_ids) and not batch.attention_mask[:, width:].any()
    assert torch.equal(batch.labels, plain.labels)
    assert harness.evaluation.batch(torch.arange(4).numpy(), torch.device("cpu")).input_ids.shape[1] < 32
    loop.run()
    assert any(f"validation/{harness.metric}" in row for row in loop.history.rows)


def test_padding_is_not_computed_where_no_term_sees_it(harness):
    alone = {"hidden_weight": 0.0, "attention_weight": 0.0, "prediction_weight": 1.0}
    one, two = (harness.run({"method": "spd", **SPD, **alone, "pad_to": length}, work=f"p{length}") for length in (None, 40))
    assert equal(weights_of(one), weights_of(two))


def test_without_padding_in_the_terms_the_length_makes_no_difference_but_by_rounding(harness):
    _, _, own = spd_gradients(harness, None, mask_padding=True)
    _, _, fixed = spd_gradients(harness, 128, mask_padding=True)
    torch.testing.assert_close(own, fixed, atol=1e-5, rtol=1e-3)


# HomoDistil: gradients before or after clipping.


def gathered(text_harness, gradients, clip, work):
    loop = text_harness.loop({"score_gradients": gradients, "clip_norm": clip, "importance": "averaged-sensitivity"}, work=work)
    tiny.halted(loop, 2)
    return loop.method.importance.scores()


def test_scores_read_gradients_before_or_after_they_are_clipped(text_harness):
    raw, clipped = (gathered(text_harness, which, 1e-2, which) for which in ("raw", "clipped"))
    total = lambda scores: float(sum(score.sum() for score in scores.values()))  # noqa: E731
    assert total(clipped) < 0.1 * total(raw)
    free = [gathered(text_harness, which, 1e9, f"free-{which}") for which in ("raw", "clipped")]
    assert equal(*free), "without clipping both are one"


def test_a_one_shot_cut_trains_nothing_before_it_whichever_gradients_are_read(text_harness):
    plan = {"removal": "one-shot", "prune_start": 0.25, "score_gradients": "clipped"}
    loop = text_harness.loop(plan)
    before = weights_of(loop)
    tiny.halted(loop, 4)
    assert equal(before, weights_of(loop))
