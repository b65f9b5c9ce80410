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
    """1 where both are the same after normalising, else 0."""
    return float(normalise(prediction) == normalise(gold))


def f1(prediction: str, gold: str) -> float:
    """Harmonic mean of precision and recall over the words, counted with repetition; 0 where no word is shared."""
    own, wanted = normalise(prediction).split(), normalise(gold).split()
    shared = sum((Counter(own) & Counter(wanted)).values())
    return 2.0 * shared / (len(own) + len(wanted)) if shared else 0.0


METRICS: Mapping[str, Callable[[str, str], float]] = {"squad-f1": f1, "exact-match": exact_match}


def best(metric: str, prediction: str, golds: Sequence[str]) -> float:
    """A prediction's score against the gold answer that it fits best."""
    return max(METRICS[metric](prediction, gold) for gold in golds)
