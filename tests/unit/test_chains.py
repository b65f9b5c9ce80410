"""Plans that start from students of others: what each stage starts from, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from espalier.config import ConfigError, parse
from espalier.config.chains import tasks_for
from espalier.config.job_specs import CompressSpec, compress_spec, recover_spec
from espalier.config.layout import Layout
from espalier.config.methods import METHODS
from espalier.config.reporting.specs import card_spec, report_spec

FOLDER = "results/small/minilm"
NARROW = {"method": "homodistil", "path": [0.5, 0.75]}
SPECIAL = {"method": "specialise", "path": [0.5, 0.75], "start": {"plan": "narrow"}}
MAGNITUDE = {"method": "magnitude", "path": [0.3, 0.5]}
OTHER_TEXT = {"kind": "text", "source": "files", "train": "a.txt", "validation": "b.txt", "text": ["text"]}
TASKS = {"docs-library": None, "docs-corpus": None}
TWO_CORPORA = TASKS | {"more": OTHER_TEXT}


def cofi(plan: str, at: Any, path: tuple = (0.8, 0.9), **more: Any) -> dict[str, Any]:
    return {"method": "cofi", "path": list(path), "start": {"plan": plan, "at": at, **more}}


def study(small: dict[str, Any], tasks: dict[str, Any] | None = None, **plans: Any) -> Layout:
    return Layout(parse(small | {"tasks": tasks or TASKS, "plans": plans}))


def starts_from(layout: Layout, plan: str, percent: str, task: str = "docs-library") -> str:
    """The place of the files that a stage starts from."""
    files = layout.start("minilm", task, "42", plan, percent)
    folder = files[0].rpartition("/")[0]
    assert files == [f"{folder}/{name}" for name in ("config.json", "model.safetensors", "masks.safetensors")]
    return folder.removeprefix(f"{FOLDER}/")


def spec_of(layout: Layout, plan: str, percent: str, task: str = "docs-library") -> CompressSpec:
    return compress_spec(layout.config, task, plan, 42, percent)


def test_a_path_begins_with_a_student_of_a_text_task_and_a_new_head(small):
    layout = study(small, narrow=NARROW, cofi=cofi("narrow", 0.5))
    assert starts_from(layout, "cofi", "80") == "docs-corpus/seed42/narrow/50"
    assert starts_from(layout, "cofi", "90") == "docs-library/seed42/cofi/80"
    first, second = (spec_of(layout, "cofi", percent) for percent in ("80", "90"))
    assert (first.new_head, first.before, first.target) == (True, 0.5, 0.8)
    assert (second.new_head, second.before, second.target) == (False, 0.8, 0.9)


def test_on_the_same_task_a_plan_goes_on_like_a_later_stage(small):
    layout = study(small, {"docs-library": None}, magnitude=MAGNITUDE, cofi=cofi("magnitude", 0.3))
    assert starts_from(layout, "cofi", "80") == "docs-library/seed42/magnitude/30"
    assert (spec_of(layout, "cofi", "80").new_head, spec_of(layout, "cofi", "80").before) == (False, 0.3)


def test_each_specialised_student_starts_from_the_one_of_its_target(small):
    layout = study(small, narrow=NARROW, special=SPECIAL, cofi=cofi("special", 0.75))
    assert [starts_from(layout, "special", percent) for percent in ("50", "75")] == [
        "docs-corpus/seed42/narrow/50",
        "docs-corpus/seed42/narrow/75",
    ]
    assert (
        layout.kept("minilm", "docs-library", "42", "special", "75") == f"{FOLDER}/docs-corpus/seed42/narrow/75/structure.json"
    )
    assert starts_from(layout, "cofi", "80") == "docs-library/seed42/special/75"
    assert (spec_of(layout, "special", "75").new_head, spec_of(layout, "cofi", "80").new_head) == (True, False)
    assert not layout.recovers("special", "docs-library")
    students = [folder.removeprefix(f"{FOLDER}/docs-library/seed42/") for folder in layout.compressed()]
    assert {"special/50", "special/75", "cofi/80", "cofi/90"} <= set(students)


@pytest.mark.parametrize("start", ["narrow", "tight"])
def test_second_order_removal_goes_on_from_narrow_and_from_cut_students_and_others_from_its_own(small, start):
    obs = {"method": "obs", "path": [0.8], "start": {"plan": start, "at": 0.5}}
    tight = {"method": "cofi", "path": [0.5]}
    layout = study(small, narrow=NARROW, tight=tight, obs=obs, later=cofi("obs", 0.8, path=(0.9,)))
    task = "docs-corpus" if start == "narrow" else "docs-library"
    assert starts_from(layout, "obs", "80") == f"{task}/seed42/{start}/50"
    assert starts_from(layout, "later", "90") == "docs-library/seed42/obs/80"


@pytest.mark.parametrize("method", ["cofi", "obs", "grain"])
def test_what_was_pruned_without_training_is_a_start(small, method):
    kprune = {"method": "kprune", "path": [0.6]}
    later = {"method": method, "path": [0.8], "start": {"plan": "kprune", "at": 0.6}}
    layout = study(small, kprune=kprune, later=later)
    assert starts_from(layout, "later", "80") == "docs-library/seed42/kprune/60"
    assert (spec_of(layout, "later", "80").new_head, spec_of(layout, "later", "80").before) == (False, 0.6)
    with pytest.raises(ConfigError, match=r"got 0\.5, which is not beyond 0\.6, where plan kprune ends"):
        study(small, kprune=kprune, later={**later, "path": [0.5]})


@pytest.mark.parametrize("start", ["narrow", "tight"])
def test_pruning_inside_heads_goes_on_from_narrow_and_from_cut_students(small, start):
    grain = {"method": "grain", "path": [0.8], "start": {"plan": start, "at": 0.5}}
    layout = study(small, narrow=NARROW, tight={"method": "cofi", "path": [0.5]}, grain=grain)
    task = "docs-corpus" if start == "narrow" else "docs-library"
    assert starts_from(layout, "grain", "80") == f"{task}/seed42/{start}/50"


def test_other_structured_plans_refuse_students_whose_heads_have_lost_dimensions(small):
    grain, more = {"method": "grain", "path": [0.5]}, {"method": "grain", "path": [0.8], "start": {"plan": "grain", "at": 0.5}}
    assert starts_from(study(small, grain=grain, more=more), "more", "80") == "docs-library/seed42/grain/50"
    with pytest.raises(ConfigError, match=r"plans\.obs\.start\.plan: heads of plan grain have lost single dimensions; only"):
        study(small, grain=grain, obs={"method": "obs", "path": [0.8], "start": {"plan": "grain", "at": 0.5}})


def test_text_plans_chain_too(small):
    layout = study(small, narrow=NARROW, narrower={**NARROW, "path": [0.9], "start": {"plan": "narrow", "at": 0.75}})
    assert starts_from(layout, "narrower", "90", "docs-corpus") == "docs-corpus/seed42/narrow/75"
    assert not spec_of(layout, "narrower", "90", "docs-corpus").new_head


def test_without_a_chain_every_target_starts_from_the_teacher(small):
    layout = study(small, narrow=NARROW | {"chain": False, "removal": "one-shot"}, special=SPECIAL)
    starts = {tuple(layout.start("minilm", "docs-corpus", "42", "narrow", percent)) for percent in ("50", "75")}
    assert {file.rpartition("/")[0] for files in starts for file in files} == {f"{FOLDER}/docs-corpus/seed42/teacher/0"}
    first, second = (spec_of(layout, "narrow", percent, "docs-corpus") for percent in ("50", "75"))
    assert second.before is None and second.plan.chain, "what a stage does not read stands at its default"
    assert first.model_dump(exclude={"plan": {"path"}}) == second.model_dump(exclude={"plan": {"path"}})
    assert starts_from(layout, "special", "75") == "docs-corpus/seed42/narrow/75"


WITHOUT_CHAIN = ("dense", "specialise", "ready-made", "kwon", "kprune")
"""One target, or nothing that a target could hand on to the next."""
ONE_EACH = {
    **{name: {"method": name, "path": [0.5, 0.75]} for name in METHODS if name not in WITHOUT_CHAIN},
    "homodistil": {**NARROW, "chain": True},
}
"""A plan of two targets for each method that may have a chain."""


def task_of(method: str) -> str:
    return "docs-corpus" if method == "homodistil" else "docs-library"


@pytest.mark.parametrize("method", ONE_EACH)
def test_every_method_may_train_each_target_by_itself(small, method):
    """As in the papers of CoFi and SPD: one run a target, as long as the first one of a path."""
    plan, task = ONE_EACH[method], task_of(method)
    chained, alone = (study(small, other=plan | {"chain": chain}) for chain in (True, False))
    assert starts_from(chained, "other", "75", task) == f"{task}/seed42/other/50"
    assert alone.start("minilm", task, "42", "other", "75") == alone.start("minilm", task, "42", "other", "50")
    assert alone.start("minilm", task, "42", "other", "50") == chained.start("minilm", task, "42", "other", "50")

    first, second = (spec_of(alone, "other", percent, task) for percent in ("50", "75"))
    assert first == spec_of(chained, "other", "50", task), "the first target of a chain is no other run"
    assert (second.before, second.new_head, second.first_epoch) == (None, first.new_head, 0)
    assert recover_spec(alone.config, task, "other", 42, "75").first_epoch == (
        recover_spec(alone.config, task, "other", 42, "50").first_epoch
    )
    key = f"{task}/other/75"
    assert key not in report_spec(alone.config).before
    assert report_spec(chained.config).before[key] == f"{task}/other/50"


def test_without_a_chain_every_target_starts_from_the_same_student_of_another_plan(small):
    layout = study(small, narrow=NARROW, cofi=cofi("narrow", 0.5) | {"chain": False})
    assert [starts_from(layout, "cofi", percent) for percent in ("80", "90")] == ["docs-corpus/seed42/narrow/50"] * 2
    first, second = (spec_of(layout, "cofi", percent) for percent in ("80", "90"))
    assert first.new_head and second.new_head and first.before == second.before == 0.5
    assert report_spec(layout.config).before == {
        "docs-corpus/narrow/75": "docs-corpus/narrow/50",
        "docs-library/cofi/80": "docs-corpus/narrow/50",
        "docs-library/cofi/90": "docs-corpus/narrow/50",
    }


def test_a_chain_may_be_broken_for_a_single_task(small):
    layout = study(small, TASKS | {"cola": None}, magnitude=MAGNITUDE | {"per_task": {"cola": {"chain": False}}})
    assert starts_from(layout, "magnitude", "50") == "docs-library/seed42/magnitude/30"
    assert "/bases/" in layout.start("minilm", "cola", "42", "magnitude", "50")[0]


def test_students_that_are_specialised_are_never_a_chain(small):
    with pytest.raises(ConfigError, match=r"plans.special.chain: got (?i:true); allowed: (?i:false)"):
        study(small, narrow=NARROW, special=SPECIAL | {"chain": True})


def test_stages_count_the_passes_that_were_begun_before_them(small):
    magnitude = {"method": "magnitude", "path": [0.3, 0.5], "dense_epochs": 0.5, "epochs_per_step": 1.0}
    layout = study(small, {"docs-library": None}, magnitude=magnitude)
    epochs = [spec_of(layout, "magnitude", percent).first_epoch for percent in ("30", "50")]
    recovered = [recover_spec(layout.config, "docs-library", "magnitude", 42, each).first_epoch for each in ("30", "50")]
    assert (epochs, recovered) == ([0, 2], [2, 3]), "a stage that ends within a pass has used it up"


@pytest.mark.parametrize("removal", ["one-shot", "random-start"])
def test_what_is_cut_once_does_not_go_on(small, removal):
    with pytest.raises(ConfigError, match=rf"plans.narrow: removal {removal} does not go on .*: set chain: false"):
        study(small, narrow=NARROW | {"removal": removal})
    study(small, narrow=NARROW | {"removal": removal, "path": [0.5]})


def test_the_text_task_is_named_where_there_are_several(small):
    layout = study(small, TWO_CORPORA, narrow=NARROW, cofi=cofi("narrow", 0.5, task="more"))
    assert starts_from(layout, "cofi", "80") == "more/seed42/narrow/50"


def test_a_start_may_differ_between_tasks(small):
    plan = cofi("narrow", 0.5) | {"per_task": {"docs-pair": {"start": "teacher"}, "cola": {"start": {"at": 0.75}}}}
    layout = study(small, TASKS | {"docs-pair": None, "cola": None}, narrow=NARROW, cofi=plan)
    assert starts_from(layout, "cofi", "80", "cola") == "docs-corpus/seed42/narrow/75"
    assert "/docs-pair/seed42/teacher/0/" in layout.start("minilm", "docs-pair", "42", "cofi", "80")[0]


def test_a_plan_runs_where_the_other_one_does(small):
    """Recovered or not, on every task on which there is a student to start from."""
    tasks = TASKS | {"stsb": None}
    layout = study(small, tasks, narrow=NARROW, special=SPECIAL, cofi=cofi("special", 0.5))
    assert tasks_for(layout.config, "narrow") == ["docs-corpus"]
    assert tasks_for(layout.config, "cofi") == ["docs-library", "stsb"]


def test_table_and_card_are_told(small):
    config = study(small, narrow=NARROW, special={**SPECIAL, "path": [0.75]}, cofi=cofi("narrow", 0.5)).config
    assert report_spec(config).starts == {
        "docs-library/special/75": "docs-corpus/narrow/75",
        "docs-library/cofi/80": "docs-corpus/narrow/50",
        "docs-library/cofi/90": "docs-corpus/narrow/50",
    }
    assert card_spec(config, "minilm", "docs-library", "cofi", 42, "90").start == "docs-corpus/narrow/50"
    assert card_spec(config, "minilm", "docs-corpus", "narrow", 42, "75").start is None
    assert card_spec(config, "minilm", "docs-library", "teacher", 42, "0").start is None


def test_settings_of_the_start_are_no_business_of_the_later_plan(small):
    """What changes there changes the files; the spec says only which they are."""
    before, after = (study(small, narrow={**NARROW, "epochs": epochs}, cofi=cofi("narrow", 0.5)) for epochs in (3.0, 4.0))
    assert spec_of(before, "cofi", "80") == spec_of(after, "cofi", "80")


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no such plan": (
        {"cofi": cofi("narow", 0.5)},
        "cofi.start.plan: got 'narow'; allowed: narrow, cofi; did you mean 'narrow'?",
    ),
    "no such word": ({"a": MAGNITUDE | {"start": "techer"}}, "a.start: got 'techer'; allowed: pretrained, teacher, {plan: …"),
    "no target": ({"cofi": cofi("narrow", 0.6)}, "cofi.start.at: got 0.6; the path of plan narrow has 0.5, 0.75"),
    "at is missing": ({"a": MAGNITUDE | {"start": {"plan": "narrow"}}}, "a.start.at: missing; this key is required"),
    "unknown key": (
        {"a": MAGNITUDE | {"start": {"plan": "narrow", "at": 0.5, "tsk": "more"}}},
        "a.start: unknown key 'tsk'; did you mean 'task'?",
    ),
    "not beyond": (
        {"cofi": cofi("narrow", 0.5, (0.4, 0.9))},
        "cofi.path: got 0.4, which is not beyond 0.5, where plan narrow ends; targets count against the base",
    ),
    "another kind of target": (
        {"cofi": cofi("narrow", 0.5, ({"speedup": 2},))},
        "cofi.path: has targets of kind speedup, but plan narrow has sparsity; use one kind",
    ),
    "dense after removal": (
        {"dense": {"method": "dense", "start": {"plan": "narrow", "at": 0.5}}},
        "dense.path: got 0.0, which is not beyond 0.5",
    ),
    "itself": ({"cofi": cofi("cofi", 0.8)}, "cofi.start.plan: plans start from each other: cofi → cofi"),
    "task that is no text": (
        {"cofi": cofi("narrow", 0.5, task="docs-library")},
        "cofi.start.task: got 'docs-library'; allowed: docs-corpus",
    ),
    "task where there is nothing to choose": (
        {"a": MAGNITUDE, "cofi": cofi("a", 0.5, task="docs-corpus")},
        "cofi.start.task: plan a works on docs-library itself; leave task out",
    ),
    "text from labels": (
        {"a": MAGNITUDE, "b": NARROW | {"start": {"plan": "a", "at": 0.3}}},
        "b.start.plan: plan a works on tasks of kind ",
    ),
    "text from the base": ({"b": NARROW | {"start": "pretrained"}}, "b.start: got 'pretrained'; allowed: teacher, {plan: …"),
    "specialised from labels": (
        {"a": MAGNITUDE, "b": SPECIAL | {"start": {"plan": "a"}}},
        "b.start.plan: got 'a'; method specialise starts from students of text tasks",
    ),
    "specialised to another target": (
        {"b": SPECIAL | {"path": [0.6]}},
        "b.path: got 0.6; the path of plan narrow has 0.5, 0.75",
    ),
    "specialised from nothing": ({"b": {"method": "specialise", "path": [0.5]}}, "b.start: missing; this key is required"),
    "states of other widths": (
        {"sdp": {"method": "sdp", "path": [0.8], "start": {"plan": "narrow", "at": 0.5}}},
        "sdp.start.plan: its students are smaller than the teacher, whose hidden states method sdp with objective cc compares",
    ),
    "structure, weights, structure": (
        {
            "a": {**cofi("narrow", 0.5, (0.8,))},
            "b": {"method": "magnitude", "path": [0.9], "start": {"plan": "a", "at": 0.8}},
            "c": {"method": "l0", "path": [0.95], "start": {"plan": "b", "at": 0.9}},
        },
        "c.start.plan: single weights were removed from a smaller model",
    ),
    "equal layers from unequal ones": (
        {
            "a": {**cofi("narrow", 0.5, (0.8,))},
            "b": {"method": "l0", "path": [0.95], "start": {"plan": "a", "at": 0.8}, "layers": "equal"},
        },
        "b.start.plan: layers: equal goes on from layers that are alike; those of plan a may differ in size",
    ),
    "masks with and without embeddings": (
        {
            "a": MAGNITUDE,
            "b": {"method": "magnitude", "path": [0.9], "start": {"plan": "a", "at": 0.5}, "prune_embeddings": True},
        },
        "b.prune_embeddings: must be as in plan a, whose masks go on",
    ),
}


def test_equal_layers_go_on_from_layers_that_are_alike(small):
    equal = {"layers": "equal"}
    layout = study(
        small, narrow=NARROW, a=cofi("narrow", 0.5, (0.8,)) | equal, b=cofi("a", 0.8, (0.9,)) | equal, c=cofi("a", 0.8, (0.9,))
    )
    assert starts_from(layout, "b", "90") == starts_from(layout, "c", "90") == "docs-library/seed42/a/80"
    with pytest.raises(ConfigError, match="those of plan narrow may differ in size"):
        study(small, narrow=NARROW | {"allocation": "global"}, a=cofi("narrow", 0.5, (0.8,)) | equal)


@pytest.mark.parametrize(("plans", "message"), BROKEN.values(), ids=BROKEN)
def test_a_start_that_cannot_be_is_refused(small, plans, message):
    with pytest.raises(ConfigError) as caught:
        study(small, narrow=NARROW, **plans)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"plans.{message}")


def test_a_circle_is_named_from_each_of_its_plans(small):
    with pytest.raises(ConfigError) as caught:
        study(small, a=cofi("b", 0.9), b=cofi("a", 0.8), c=cofi("a", 0.8, (0.95,)))
    circles = ["a → b → a", "b → a → b"]
    assert caught.value.problems == [f"plans.{way[0]}.start.plan: plans start from each other: {way}" for way in circles]


def test_several_text_tasks_leave_a_choice(small):
    with pytest.raises(ConfigError) as caught:
        study(small, TWO_CORPORA, narrow=NARROW, cofi=cofi("narrow", 0.5))
    expected = "plans.cofi.start.task: missing; plan narrow works on several text tasks: docs-corpus, more"
    assert caught.value.problems == [expected]


def test_logits_can_be_compared_at_any_width(small):
    plan = {"method": "sdp", "objective": "kld", "path": [0.8], "start": {"plan": "narrow", "at": 0.5}}
    assert starts_from(study(small, narrow=NARROW, sdp=plan), "sdp", "80") == "docs-corpus/seed42/narrow/50"


def test_sizes_chain_like_sparsities(small):
    narrow = NARROW | {"path": [{"parameters": "5M"}]}
    layout = study(small, narrow=narrow, cofi=cofi("narrow", {"parameters": "5M"}, ({"parameters": "1M"},)))
    assert starts_from(layout, "cofi", "1M-parameters") == "docs-corpus/seed42/narrow/5M-parameters"
    assert spec_of(layout, "cofi", "1M-parameters").before.parameters == 5_000_000
    with pytest.raises(ConfigError, match="got 6000000, which is not beyond 5000000"):
        study(small, narrow=narrow, cofi=cofi("narrow", {"parameters": "5M"}, ({"parameters": "6M"},)))
