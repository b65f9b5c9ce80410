"""Exact match and F1: the numbers of SQuAD's own script, evaluate-v1.1.py, worked by hand."""

from __future__ import annotations

import pytest

from espalier.evaluation.squad import best_score, exact_match, f1, normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Eiffel Tower.", "eiffel tower"),
        ("  an   apple a\tday ", "apple day"),
        ("theatre and another", "theatre and another"),  # articles are whole words
        ("$1,000.50", "100050"),
        ("well-known", "wellknown"),  # punctuation goes before articles and spaces
        ("'A-1' steak", "a1 steak"),
        ("Café “Zürich”", "café “zürich”"),  # ASCII punctuation alone
        ("the", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("prediction", "gold", "exact", "overlap"),
    [
        ("The Eiffel Tower", "eiffel tower!", 1.0, 1.0),
        ("in Paris, France", "Paris", 0.0, 2 * (1 / 3) * 1 / (1 / 3 + 1)),
        ("Paris", "London", 0.0, 0.0),
        ("new york new york", "New York", 0.0, 2 * 0.5 * 1 / 1.5),  # words count as often as they stand
        ("york new", "New York", 0.0, 1.0),  # in any order
        ("", "Paris", 0.0, 0.0),
        ("the", "a", 1.0, 0.0),  # nothing is left of either: no word in common
        ("1,000", "1000", 1.0, 1.0),
    ],
)
def test_exact_match_and_f1(prediction: str, gold: str, exact: float, overlap: float) -> None:
    assert exact_match(prediction, gold) == exact
    assert f1(prediction, gold) == pytest.approx(overlap)


def test_the_gold_answer_that_fits_best_counts() -> None:
    golds = ["in the year 1066", "1066", "October 1066"]
    assert best_score("exact-match", "1066", golds) == 1.0
    assert best_score("squad-f1", "the year 1066", golds) == pytest.approx(2 * 1 * (2 / 3) / (1 + 2 / 3))
