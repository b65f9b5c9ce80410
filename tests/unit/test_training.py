"""Lengths in epochs become steps; what a record holds."""

import pytest
from pydantic import TypeAdapter

from espalier.config.methods import AnyPlan
from espalier.training.run import pruning_stage


def stage(first=True, before=0.0, target=0.9, steps_per_epoch=10, **settings):
    plan = TypeAdapter(AnyPlan).validate_python({"method": "magnitude", "path": [target], **settings})
    return pruning_stage(plan, "classification", 0, steps_per_epoch, first, before, target)


def test_the_default_stage_is_dense_then_removes_then_trains():
    assert stage().bounds == (10, 20) and stage().removals == {10: 0.9}


def test_a_later_stage_removes_at_once():
    later = stage(first=False, before=0.5)
    assert later.bounds == (10,) and later.removals == {0: 0.9}


def test_the_papers_single_run_is_a_path_of_one_target():
    run = stage(prune_steps=9)
    assert list(run.removals) == list(range(10, 100, 10)) and run.steps == 100
    assert list(run.removals.values()) == pytest.approx([0.1 * k for k in range(1, 10)])


def test_without_restarts_the_rate_has_one_interval():
    run = stage(prune_steps=3, restart_schedule=False)
    assert run.bounds == (40,) and len(run.removals) == 3


@pytest.mark.parametrize("dense_epochs", [0.0, 0.001, 0.26, 1.0])
@pytest.mark.parametrize("epochs_per_step", [0.001, 0.04, 0.33, 1.7])
@pytest.mark.parametrize("steps_per_epoch", [1, 3, 10])
def test_every_removal_happens_before_the_end_at_a_step_of_its_own(dense_epochs, epochs_per_step, steps_per_epoch):
    run = stage(dense_epochs=dense_epochs, epochs_per_step=epochs_per_step, prune_steps=4, steps_per_epoch=steps_per_epoch)
    assert len(run.removals) == 4 and max(run.removals) < run.steps
    assert run.removals[max(run.removals)] == 0.9
    assert set(run.removals) - {0} <= set(run.bounds), "a removal begins a learning-rate interval"


def gated(first=True, before=0.0, **settings):
    lengths = {"prepruning_epochs": 2.0, "pruning_epochs": 5.0, **settings}
    return stage(first, before, 0.6, method="cofi", **lengths)


def test_gates_train_after_a_part_without_them_in_the_first_stage_only():
    assert gated().bounds == (20, 70) and gated().removals == {} and gated().removes
    assert gated(first=False, before=0.3).bounds == (50,)
    assert gated(prepruning_epochs=0.0).bounds == (50,)


def test_pre_pruning_may_be_the_beginning_of_the_whole_run_s_schedule():
    assert gated().decay_ends == (20, 70) and gated(prepruning_schedule="whole").decay_ends == (70, 70)
    assert gated(first=False, before=0.3, prepruning_schedule="whole").decay_ends == (50,)


def test_recovery_takes_the_plan_s_rate_and_schedule_unless_it_has_its_own():
    """CoFi's final fine-tuning has 20 epochs at a constant rate; princeton-nlp/CoFiPruning#3 shows what it is worth."""
    common = {"method": "cofi", "path": [0.6], "learning_rate": 2e-5, "warmup": 0.1}
    plain, own = (
        TypeAdapter(AnyPlan).validate_python({**common, "recover": recover}).for_recovery()
        for recover in ({"epochs": 2.0}, {"epochs": 20.0, "learning_rate": 1e-5, "schedule": "constant", "warmup": 0.0})
    )
    assert (plain.learning_rate, plain.schedule, plain.warmup) == (2e-5, "linear", 0.1)
    assert (own.learning_rate, own.schedule, own.warmup, own.recover.epochs) == (1e-5, "constant", 0.0, 20.0)


def test_a_stage_that_removes_nothing_says_so():
    assert not stage(before=0.9).removes and stage(before=0.5).removes


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("method", ["movement", "heads"])
def test_methods_that_gather_scores_train_before_every_stage_s_first_removal(method, first):
    assert stage(first, before=0.0 if first else 0.5, method=method).removals == {10: 0.9}
