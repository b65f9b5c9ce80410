"""Exact match and F1 of answers in words, as SQuAD's own script counts them; fractions in [0, 1], not per cent."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without ASCII punctuation and English articles, single spaces.

    Source: Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1; the order of the steps is that of evaluate-v1.1.py.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, gold: str) -> float:
    """1 where both answers are equal after normalising, else 0."""
    return float(normalise(prediction) == normalise(gold))


def f1(prediction: str, gold: str) -> float:
    """Harmonic mean of precision and recall over the words, counted with repetition; 0 where no word is shared."""
    predicted_words = normalise(prediction).split()
    gold_words = normalise(gold).split()

    # Precision is shared / predicted, recall shared / gold; their harmonic mean is 2 shared / (predicted + gold).
    shared = sum((Counter(predicted_words) & Counter(gold_words)).values())
    return 2.0 * shared / (len(predicted_words) + len(gold_words)) if shared else 0.0


SPAN_METRICS: Mapping[str, Callable[[str, str], float]] = {"squad-f1": f1, "exact-match": exact_match}
"""Name of a metric in the configuration → its function of a prediction and a gold answer."""


def best_score(metric: str, prediction: str, golds: Sequence[str]) -> float:
    """The score of a prediction against the gold answer that it fits best."""
    return max(SPAN_METRICS[metric](prediction, gold) for gold in golds)
