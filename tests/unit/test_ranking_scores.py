"""nDCG and MRR, worked out by hand; queries without an answer, and equal scores."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from espalier.evaluation.ranking import by_score, dcg, groups_of, ndcg, ranking_score, reciprocal_rank

# gains 7, 3, 0, 1 over log2 of 2, 3, 4, 5
RANKED = np.array([3.0, 2.0, 0.0, 1.0])


def test_dcg_by_hand():
    assert dcg(RANKED) == pytest.approx(7.0 + 3.0 / 1.5849625 + 0.0 + 1.0 / 2.3219281, abs=1e-6)


@pytest.mark.parametrize(("cut", "expected"), [(None, 9.3234658 / 9.3927893), (2, 1.0), (3, 8.8927893 / 9.3927893)])
def test_ndcg_by_hand(cut, expected):
    """The best order has the gains 7, 3, 1, 0: 7 + 1.8927893 + 0.5."""
    assert ndcg(RANKED, cut) == pytest.approx(expected, abs=1e-6)


def test_with_grades_of_0_and_1_it_is_scikit_learn_s():
    generator = np.random.default_rng(0)
    for _ in range(20):
        grades, scores = generator.integers(0, 2, 7).astype(float), generator.random(7)
        ours = ndcg(by_score(scores, grades), 5)
        assert ours == pytest.approx(ndcg_score(grades[None], scores[None], k=5), abs=1e-12)


@pytest.mark.parametrize(("grades", "cut", "expected"), [([0, 0, 2, 1], None, 1 / 3), ([0, 0, 2, 1], 2, 0.0), ([1], 1, 1.0)])
def test_reciprocal_rank_by_hand(grades, cut, expected):
    assert reciprocal_rank(np.array(grades, float), cut) == expected


def test_means_are_over_queries_and_a_query_without_an_answer_counts_0():
    """First relevant texts at places 2 and 1; the third query has none."""
    queries = np.array(["b", "a", "b", "c", "a", "c"])
    scores = np.array([0.9, 0.7, 0.5, 0.1, 0.2, 0.3])
    grades = np.array([0.0, 2.0, 1.0, 0.0, 0.0, 0.0])
    groups = groups_of(queries)
    assert [group.tolist() for group in groups] == [[0, 2], [1, 4], [3, 5]]
    assert ranking_score("mrr", scores, grades, groups) == pytest.approx((0.5 + 1.0 + 0.0) / 3)
    assert ranking_score("mrr@1", scores, grades, groups) == pytest.approx(1 / 3)
    assert ranking_score("ndcg@10", scores, grades, groups) == pytest.approx((1 / np.log2(3) + 1.0 + 0.0) / 3)


def test_equal_scores_stand_in_the_worst_order_whatever_the_file_s():
    for grades in ([1.0, 0.0], [0.0, 1.0]):
        assert ranking_score("mrr", np.zeros(2), np.array(grades), [np.arange(2)]) == 0.5
