"""Sentences → the same sentences with two neighbouring words swapped: what is changed is their order alone."""

from __future__ import annotations


def swappable(sentence: str) -> list[int]:
    """Positions of the words that may change places with the next word, counted from 0.

    Both words are different and consist of lower-case letters only, so case, punctuation and identifiers stay where they
    are; the first and the last word never move.
    """
    words = sentence.split()
    return [
        place
        for place in range(1, len(words) - 2)
        if words[place] != words[place + 1] and all(word.isalpha() and word.islower() for word in words[place : place + 2])
    ]


def swap(sentence: str, place: int) -> str:
    """The sentence with the words at `place` and `place + 1` in each other's place; words are separated by one blank."""
    words = sentence.split()
    words[place : place + 2] = reversed(words[place : place + 2])
    return " ".join(words)
