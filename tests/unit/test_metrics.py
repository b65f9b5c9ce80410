import numpy as np
import pytest

from espalier.evaluation.metrics import score

LABELS, GUESSES = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 0, 1])


@pytest.mark.parametrize(
    ("metric", "value"),
    [("accuracy", 3 / 5), ("f1", 2 / 3), ("macro-f1", (2 / 3 + 1 / 2) / 2), ("matthews", (2 * 1 - 1 * 1) / 6)],
)
def test_classification(metric, value):
    assert score(metric, LABELS, GUESSES) == pytest.approx(value)


def test_correlations():
    labels = np.array([0.0, 1.0, 2.0, 3.0])
    assert score("pearson", labels, 2 * labels + 1) == pytest.approx(1.0)
    assert score("spearman", labels, np.array([0.0, 1.0, 10.0, 9.0])) == pytest.approx(0.8)
    assert score("pearson", labels, np.ones(4)) == 0.0
    assert score("matthews", LABELS, np.ones(5, dtype=int)) == 0.0
