"""Scores of several languages: MLQA's words, XGLUE's nDCG, and the mean over sets, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from espalier.config.kinds.span import MLQA_LANGUAGES, OF_LANGUAGES, language_of
from espalier.evaluation.mlqa import MLQA_METRICS, best_mlqa_score, language_words, mlqa_exact_match, mlqa_f1
from espalier.evaluation.predict import selection_set, with_mean
from espalier.evaluation.ranking import groups_for, ranking_score, runs_of
from espalier.results.by_set import short_names
from espalier.results.quality import majority_of


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("en", "The “Eiffel” Tower.", ["eiffel", "tower"]),
        ("en", "das Haus", ["das", "haus"]),  # other languages' articles stay
        ("de", "Das Haus des Königs", ["haus", "königs"]),
        ("de", "dessen", ["dessen"]),
        ("es", "¿La casa de los Reyes?", ["casa", "de", "reyes"]),  # Unicode's punctuation, too
        ("vi", "những cái bàn", ["bàn"]),
        ("hi", "the घर।", ["the", "घर"]),
        ("ar", "البيت الكبير", ["بيت", "كبير"]),
        ("ar", "خالد", ["خ", "د"]),  # inside a word, too, as in the script
        ("zh", "北京、2008年 Olympic games", ["北", "京", "2008", "年", "olympic", "games"]),
        ("zh", "the 城", ["the", "城"]),
    ],
)
def test_words_are_those_of_the_language(language, text, words):
    assert language_words(text, language) == words


def test_f1_and_exact_match_in_chinese():
    """Two of three characters are shared: 2 · 2 / (2 + 3)."""
    assert mlqa_f1("北京", "北京市", "zh") == pytest.approx(0.8) and mlqa_exact_match("北京", "北京市", "zh") == 0.0
    assert mlqa_f1("北京", "北京市", "en") == 0.0, "one word each"
    assert best_mlqa_score("mlqa-exact-match", "Der Rhein", ["Elbe", "rhein!"], "de") == 1.0
    assert best_mlqa_score("mlqa-f1", "Der Rhein", ["Rhein bei Köln", "Elbe"], "de") == pytest.approx(2 / 4)


def test_the_language_is_the_end_of_a_set_s_name():
    assert [language_of(name) for name in ("test-de", "zh", "my-own-hi", "selection")] == ["de", "zh", "hi", "en"]
    assert set(OF_LANGUAGES) == set(MLQA_METRICS) and set(MLQA_LANGUAGES) > {"ar", "hi", "zh"}


def test_xglue_s_ndcg_takes_runs_of_two_and_more_rows():
    """The query `a` comes twice, and `b` has one text: two runs count."""
    queries = np.array(["a", "a", "b", "c", "c", "a"])
    assert [run.tolist() for run in runs_of(queries)] == [[0, 1], [2], [3, 4], [5]]
    assert [run.tolist() for run in groups_for("xglue-ndcg", queries)] == [[0, 1], [3, 4]]
    assert [group.tolist() for group in groups_for("ndcg", queries)] == [[0, 1, 5], [2], [3, 4]]


def test_xglue_s_ndcg_by_hand():
    """Gains are grades: 1 at place 1 and 4 at place 2 against 4 and 1; two equal scores share the mean of their gains."""
    scores, grades = np.array([0.9, 0.1, 0.5, 0.5]), np.array([1.0, 4.0, 3.0, 0.0])
    second = 1 / np.log2(3)
    wrong, shared = (1 + 4 * second) / (4 + second), 1.5 * (1 + second) / 3
    found = ranking_score("xglue-ndcg", scores, grades, [np.array([0, 1]), np.array([2, 3])])
    assert found == pytest.approx((wrong + shared) / 2)
    assert ranking_score("ndcg", scores, grades, [np.array([0, 1])]) == pytest.approx((1 + 15 * second) / (15 + second))
    assert ranking_score("xglue-ndcg", scores, grades, []) == 0.0


def test_xglue_s_ndcg_is_scikit_learn_s():
    generator = np.random.default_rng(0)
    scores, grades = generator.integers(0, 3, 30).astype(float), generator.integers(0, 5, 30).astype(float)
    groups = [np.arange(start, start + 5) for start in range(0, 30, 5)]
    expected = np.mean([ndcg_score(grades[rows][None], scores[rows][None]) for rows in groups])
    assert ranking_score("xglue-ndcg", scores, grades, groups) == pytest.approx(expected)


SCORES = {
    "validation-en": {"rows": 5, "loss": 9.0, "accuracy": 0.1},
    "test-en": {"rows": 10, "loss": 1.0, "accuracy": 0.9},
    "test-de": {"rows": 30, "loss": 2.0, "accuracy": 0.5},
}


def test_every_set_counts_the_same_whatever_its_size():
    found = with_mean(SCORES, ["test-en", "test-de"])
    assert list(found) == [*SCORES, "mean"] and found["mean"] == {"rows": 40, "loss": 1.5, "accuracy": pytest.approx(0.7)}
    assert selection_set(found) == "validation-en", "the mean chooses no checkpoint"
    assert with_mean(SCORES, None) is SCORES and with_mean(SCORES, []) is SCORES
    linear = {"a": {"f1": 0.5, "ndcg": 1.0}, "b": {"f1": 0.7}}
    assert with_mean(linear, ["a", "b"])["mean"] == {"f1": pytest.approx(0.6)}


def test_the_most_frequent_class_has_a_mean_as_well():
    task = {"majority": {"validation-en": 0.9, "test-en": 0.4, "test-de": 0.2}, "mean": ["test-en", "test-de"]}
    assert majority_of(task, "mean") == pytest.approx(0.3) and majority_of(task, "test-en") == 0.4
    assert majority_of({"majority": None, "mean": ["a"]}, "mean") is None and majority_of({}, "validation") is None


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["test-en", "test-de"], ["en", "de"]),
        (["my-test-zh-hans", "my-test-zh-hant"], ["hans", "hant"]),
        (["test-de"], ["de"]),
        (["test-de", "test-de-at"], ["de", "de-at"]),
    ],
)
def test_names_of_sets_are_shortened(names, short):
    assert short_names(names) == short
