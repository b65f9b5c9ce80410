"""Means over all tasks of a base."""

import pandas as pd
import pytest

from espalier.results.summary import over_tasks

COLUMNS = ["base", "task", "plan", "seed", "stage", "metric", "score", "teacher_score", "sparsity_encoder"]


def table(*rows):
    """A row: base, task, plan, seed, stage, metric, score; the teacher has 0.9 everywhere."""
    found = pd.DataFrame([(*row, 0.9, float(row[4]) / 100) for row in rows], columns=COLUMNS)
    return found.assign(method=found["plan"], target=found["sparsity_encoder"])


def test_the_mean_is_taken_over_tasks_seed_by_seed():
    scores = {("rte", 1): 0.6, ("cola", 1): 0.2, ("rte", 2): 0.7, ("cola", 2): 0.3}
    rows = [("b", task, "cofi", seed, "60", "accuracy", score) for (task, seed), score in scores.items()]
    (found,) = over_tasks(table(*rows))
    score, gain = found.means["score"], found.means["gain"]
    assert (found.plan, found.percent, found.task, score.n) == ("cofi", "60", "rte, cola", 2)
    assert score.mean == pytest.approx(0.45) and score.sd == pytest.approx(0.1 / 2**0.5)
    assert gain.mean == pytest.approx(0.45 - 0.9) and found.means["sparsity_encoder"].mean == pytest.approx(0.6)


def test_only_what_every_task_has_counts():
    whole = [("b", task, "cofi", 1, "60", "accuracy", 0.6) for task in ("rte", "cola")]
    alone = [("b", "rte", "cofi", 1, "95", "accuracy", 0.9), ("b", "rte", "cofi", 2, "60", "accuracy", 0.9)]
    lost = [("b", "rte", "sdp", 1, "50", "accuracy", 0.9), ("b", "cola", "sdp", 1, "50", "accuracy", float("nan"))]
    (found,) = over_tasks(table(*whole, *alone, *lost))
    assert (found.percent, found.means["score"].mean, found.means["score"].n) == ("60", pytest.approx(0.6), 1)


def test_text_tasks_and_bases_with_one_task_are_left_out():
    text = [("b", "novels", "cofi", 1, "60", metric, 0.3) for metric in ("masked-accuracy", "perplexity")]
    assert over_tasks(table(("b", "rte", "cofi", 1, "60", "accuracy", 0.6), *text)) == []
    assert over_tasks(table(*(("b", task, "cofi", 1, "60", "accuracy", 0.6) for task in ("rte", "cola")), *text))


def test_tables_of_before_stages_had_names_are_read():
    old = table(*(("b", task, "sdp", 1, "50", "accuracy", 0.6) for task in ("rte", "cola"))).drop(columns="stage")
    assert [group.percent for group in over_tasks(old)] == ["50"]
