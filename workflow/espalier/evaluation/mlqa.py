"""Exact match and F1 of answers in several languages, as MLQA's own script counts them; fractions in [0, 1], not per cent.

Source: Lewis et al. 2019, arXiv 1910.07475, and its script `mlqa_evaluation_v1.py`, which XGLUE's script calls. Where SQuAD's
script drops English articles and ASCII punctuation, this drops the articles of the language and all of Unicode's punctuation,
and counts the characters of Chinese as words.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

ARTICLES: Mapping[str, re.Pattern[str]] = {
    "en": re.compile(r"\b(a|an|the)\b"),
    "es": re.compile(r"\b(un|una|unos|unas|el|la|los|las)\b"),
    "vi": re.compile(r"\b(của|là|cái|chiếc|những)\b"),
    "de": re.compile(r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    # Written so in the script. Its first half matches nothing, and the second one any "al", inside words, too.
    "ar": re.compile(r"\sال^|ال"),
}
"""Language → its articles. Hindi and Chinese have none."""
HAN = re.compile(r"[\u4e00-\u9fa5]")
"""Characters that are words of their own."""


def language_words(text: str, language: str) -> list[str]:
    """The words that are compared: in lower case, without punctuation and articles.

    Args:
        text: an answer.
        language: a code, one of `config.kinds.span.MLQA_LANGUAGES`.
    """
    bare = "".join(sign for sign in text.lower() if not _is_punctuation(sign))
    if language in ARTICLES:
        bare = ARTICLES[language].sub(" ", bare)
    if language == "zh":
        bare = HAN.sub(lambda sign: f" {sign[0]} ", bare)
    return bare.split()


def _is_punctuation(sign: str) -> bool:
    return sign in string.punctuation or unicodedata.category(sign).startswith("P")


def mlqa_exact_match(prediction: str, gold: str, language: str) -> float:
    """1 where both answers have the same words in the same order, else 0."""
    return float(language_words(prediction, language) == language_words(gold, language))


def mlqa_f1(prediction: str, gold: str, language: str) -> float:
    """Harmonic mean of precision and recall over the words, counted with repetition; 0 where no word is shared."""
    predicted, wanted = language_words(prediction, language), language_words(gold, language)
    shared = sum((Counter(predicted) & Counter(wanted)).values())
    return 2.0 * shared / (len(predicted) + len(wanted)) if shared else 0.0


MLQA_METRICS: Mapping[str, Callable[[str, str, str], float]] = {"mlqa-f1": mlqa_f1, "mlqa-exact-match": mlqa_exact_match}
"""Name of a metric in the configuration → its function of a prediction, a gold answer and their language."""


def best_mlqa_score(metric: str, prediction: str, golds: Sequence[str], language: str) -> float:
    """The score of a prediction against the gold answer that it fits best."""
    return max(MLQA_METRICS[metric](prediction, gold, language) for gold in golds)
