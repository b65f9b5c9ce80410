"""F1 of sets of labels and their thresholds, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from espalier.evaluation.label_sets import as_sets, best_threshold, chosen_thresholds, label_set_score

LABELS = np.array([[1, 0], [1, 0], [1, 1]])
SETS = np.array([[True, False], [True, True], [False, True]])


@pytest.mark.parametrize(
    ("metric", "expected"),
    # class 0: 2 right, 1 missed; class 1: 1 right, 1 too many; one row of three is right as a whole
    [("micro-f1", 6 / 8), ("macro-f1", (4 / 5 + 2 / 3) / 2), ("subset-accuracy", 1 / 3)],
)
def test_scores_by_hand(metric, expected):
    assert label_set_score(metric, LABELS, SETS) == pytest.approx(expected)


def test_a_class_without_labels_and_predictions_counts_0():
    empty = np.zeros((2, 2), int)
    assert label_set_score("macro-f1", np.array([[1, 0], [1, 0]]), np.array([[True, False]] * 2)) == 0.5
    assert label_set_score("micro-f1", empty, empty.astype(bool)) == 0.0


def test_the_best_threshold_by_hand():
    """F1 after one, two, three and four predictions: 2/3, 1/2, 4/5, 2/3."""
    assert best_threshold(np.array([0.2, 0.9, 0.3, 0.8]), np.array([0, 1, 1, 0])) == pytest.approx(0.25)


def test_equal_probabilities_are_predicted_together():
    threshold = best_threshold(np.array([0.6, 0.6, 0.1]), np.array([1, 0, 0]))
    assert threshold == pytest.approx(0.35)
    assert as_sets(np.array([[0.6], [0.1]]), np.array([threshold])).tolist() == [[True], [False]]


def test_no_threshold_beats_the_chosen_one():
    generator = np.random.default_rng(3)
    for _ in range(20):
        probabilities, labels = generator.random((30, 3)).astype(np.float32), generator.integers(0, 2, (30, 3))
        found = chosen_thresholds(probabilities, labels, "global")
        best = label_set_score("micro-f1", labels, as_sets(probabilities, found))
        others = [as_sets(probabilities, np.full(3, value)) for value in np.linspace(0, 1, 201)]
        assert best >= max(label_set_score("micro-f1", labels, sets) for sets in others) - 1e-12


def test_one_threshold_a_class_and_the_common_one_for_a_class_that_no_row_has():
    probabilities = np.array([[0.9, 0.2, 0.4], [0.1, 0.1, 0.3]])
    labels = np.array([[1, 0, 0], [0, 1, 0]])
    found = chosen_thresholds(probabilities, labels, "class")
    assert found[0] == pytest.approx(0.5) and found[1] == pytest.approx(0.05)
    assert found[2] == chosen_thresholds(probabilities, labels, "global")[0]


def test_where_nothing_tells_it_is_a_half():
    nothing = np.empty((0, 2)), np.empty((0, 2), int)
    assert chosen_thresholds(*nothing, "class").tolist() == [0.5, 0.5]
    assert chosen_thresholds(np.array([[0.9, 0.8]]), np.array([[0, 1]]), "half").tolist() == [0.5, 0.5]
    assert chosen_thresholds(np.array([[0.9, 0.8]]), np.array([[0, 0]]), "global").tolist() == [0.5, 0.5]
