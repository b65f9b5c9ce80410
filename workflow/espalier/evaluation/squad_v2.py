"""Exact match and F1 where questions may have no answer, by the definitions of SQuAD's evaluate-v2.0.py; fractions in [0, 1].

Source: Rajpurkar et al. 2018, arXiv 1806.03822, and its script. It counts an empty answer as right where a question has none,
and takes the best F1 or exact match over all thresholds of the null score besides those at one threshold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from espalier.evaluation.squad import SPAN_METRICS, normalise


def mark(metric: str, prediction: str, golds: Sequence[str]) -> float:
    """What an answer is worth against the gold answer that it fits best; an empty one against none is right.

    Gold answers of which nothing is left after normalising do not count, as in `get_raw_scores` of the script.
    """
    compared = [gold for gold in golds if normalise(gold)] or [""]
    return max(_against(metric, prediction, gold) for gold in compared)


def _against(metric: str, prediction: str, gold: str) -> float:
    """As in SQuAD v1.1, but that two texts of which one has no word are worth 1 where both have none (`compute_f1`)."""
    if not (normalise(prediction) and normalise(gold)):
        return float(normalise(prediction) == normalise(gold))
    return SPAN_METRICS[metric](prediction, gold)


def best_null_threshold(
    marks: Float[np.ndarray, " questions"],
    null_scores: Float[np.ndarray, " questions"],
    answered: Bool[np.ndarray, " questions"],
) -> tuple[float, float]:
    """The largest mean mark over all thresholds of the null score, and the threshold with which it is reached.

    Source: `find_best_thresh` of the script. With the threshold of the k-th lowest null score the k questions up to it are
    answered: those with an answer get their marks, those without one lose the mark of an empty answer.
    Differs from the authors' code: the threshold lies half way to the next null score, so that rounding moves no question
    over it, and 1 beyond the last one; where it is best to answer none the script says 0, which is right for probabilities.
    Questions with equal null scores are taken together, as one threshold does.

    Args:
        marks: of each question's best answer that is not empty.
        null_scores: of each question; larger means that it has rather no answer.
        answered: whether a question has an answer.
    """
    order = np.argsort(null_scores, kind="stable")
    ordered = null_scores[order].astype(np.float64)
    thresholds = np.concatenate([[ordered[0] - 1.0], (ordered[:-1] + ordered[1:]) / 2.0, [ordered[-1] + 1.0]])

    # sums[k]: the k questions with the lowest null scores are answered
    gains = np.where(answered, marks, -1.0)[order]
    sums = np.sum(~answered) + np.concatenate([[0.0], np.cumsum(gains)])
    reachable = np.concatenate([[True], ordered[:-1] < thresholds[1:-1], [True]])
    place = int(np.argmax(np.where(reachable, sums, -np.inf)))
    return float(sums[place] / len(marks)), float(thresholds[place])


def no_answer_scores(
    metrics: Sequence[str],
    marks: dict[str, Float[np.ndarray, " questions"]],
    raw: dict[str, Float[np.ndarray, " questions"]],
    null_scores: Float[np.ndarray, " questions"],
    answered: Bool[np.ndarray, " questions"],
) -> dict[str, float]:
    """Metrics of one evaluation set.

    Args:
        metrics: their names; `squad-f1` and `exact-match` are over all questions.
        marks: `squad-f1` and `exact-match` → of each question, with the threshold applied.
        raw: the same without a threshold: every question has an answer.
        null_scores: of each question.
        answered: whether a question has an answer.
    """
    values = {}
    for name in metrics:
        if name in SPAN_METRICS:
            values[name] = float(np.mean(marks[name]))
        elif name.startswith("best-"):
            values[name] = best_null_threshold(raw[_plain(name)], null_scores, answered)[0]
        else:
            # a sample of held-out rows may have no question of one sort; nothing of it is then right
            own = ~answered if name == "no-answer-accuracy" else answered
            values[name] = float(np.mean(marks[_plain(name)][own])) if own.any() else 0.0
    return values


def _plain(name: str) -> str:
    """The metric of single answers that a metric of a set is a mean of."""
    return "squad-f1" if name.endswith("-f1") else "exact-match"
