"""Entities and their F1, by examples that were worked out by hand from conlleval's rules."""

from __future__ import annotations

import pytest

from espalier.data.tagged.bio import broken, mended, with_beginnings
from espalier.evaluation.entities import Entity, entities, entity_f1

EXAMPLES = {
    "two names and a place": (["B-PER", "I-PER", "O", "B-LOC"], [("PER", 0, 2), ("LOC", 3, 4)], None),
    "neighbours of one type": (["B-PER", "B-PER", "I-PER"], [("PER", 0, 1), ("PER", 1, 3)], None),
    "an orphan begins one": (["O", "I-PER", "I-PER", "O"], [("PER", 1, 3)], []),
    "another type goes on": (["B-PER", "I-LOC", "I-LOC"], [("PER", 0, 1), ("LOC", 1, 3)], [("PER", 0, 1)]),
    "an orphan at the end": (["B-LOC", "O", "I-LOC"], [("LOC", 0, 1), ("LOC", 2, 3)], [("LOC", 0, 1)]),
    "an orphan, then a name": (["I-PER", "B-PER", "I-PER"], [("PER", 0, 1), ("PER", 1, 3)], [("PER", 1, 3)]),
    "a type with a hyphen": (["B-work-of-art", "I-work-of-art"], [("work-of-art", 0, 2)], None),
    "nothing": (["O", "O"], [], None),
}
"""Tags, the entities by default, and those in strict mode where they differ."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_entities(name):
    tags, lenient, strict = EXAMPLES[name]
    assert list(entities(tags)) == [Entity(*each) for each in lenient]
    assert list(entities(tags, strict=True)) == [Entity(*each) for each in (lenient if strict is None else strict)]


GOLD = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
PREDICTED = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]


def test_f1_of_seqeval_s_own_example():
    """From seqeval's README: of two entities in each, one is shared, so F1 = 2 * 1 / (2 + 2)."""
    assert entity_f1(GOLD, PREDICTED) == 0.5


def test_f1_counts_over_all_sentences_and_not_by_sentence():
    # 3 gold, 2 predicted, 2 shared: precision 1, recall 2 / 3, F1 4 / 5; the mean of sentences would be (1 + 2 / 3) / 2
    gold = [["B-A"], ["B-A", "B-A", "O"]]
    predicted = [["B-A"], ["B-A", "O", "O"]]
    assert entity_f1(gold, predicted) == pytest.approx(4 / 5)


def test_strict_f1_gives_orphans_nothing():
    gold, predicted = [["O", "B-PER", "I-PER", "B-LOC"]], [["O", "I-PER", "I-PER", "B-LOC"]]
    assert entity_f1(gold, predicted) == 1.0
    # 2 gold, 1 predicted, 1 shared
    assert entity_f1(gold, predicted, strict=True) == pytest.approx(2 / 3)


def test_nothing_to_find_gives_0():
    assert entity_f1([["O"]], [["O"]]) == 0.0


def test_tags_that_continue_nothing():
    tags = ["I-PER", "I-PER", "O", "I-LOC", "B-LOC", "I-PER", "I-PER"]
    assert list(broken(tags)) == [0, 3, 5]
    assert mended(tags) == ["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "B-PER", "I-PER"]
    assert list(broken(mended(tags))) == []


def test_mending_adds_the_tags_that_it_makes():
    assert with_beginnings(["I-LOC", "O"]) == ("B-LOC", "I-LOC", "O")
    assert with_beginnings(["O", "B-LOC", "I-LOC"]) == ("O", "B-LOC", "I-LOC"), "an order that is whole stays"
