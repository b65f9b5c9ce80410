"""Docstrings → questions on parameters: numpydoc's "Parameters" sections, as text, with the place of what is asked for."""

from __future__ import annotations

import re
from typing import NamedTuple

from espalier.data.builtin.text import clean, first_sentence, prose

ENTRIES = (2, 8)
"""Fewest and most parameters of a context: one alone would leave no choice."""
CONTEXT_WORDS = 160
"""Most words of a context."""
MEANING_ANSWER_WORDS, TYPE_ANSWER_WORDS = 20, 8
"""Most words of an answer."""

_SECTION = re.compile(r"^Parameters\n-{5,}\n(.*?)(?=\n[^\n]+\n-{3,}\n|\Z)", re.MULTILINE | re.DOTALL)
_ENTRY = re.compile(r"^([A-Za-z_]\w*) ?: ([^\n]+)\n((?:[ \t]+[^\n]*(?:\n|\Z))+)", re.MULTILINE)
_NOT_THE_TYPE = re.compile(r",? *(?:\(?optional|\(?default|keyword|\(?required|=).*", re.IGNORECASE)
_NOT_PLAIN = re.compile(r"[{}<>|\\$`*]")


class Entry(NamedTuple):
    """One parameter: what is said of it, and what can be asked."""

    name: str
    text: str
    """`name : type. Description`, as it stands in the context."""
    type: str | None
    """What its values are, without what is said of defaults; None where that is no plain text."""
    meaning: str | None
    """First sentence of its description; None where it has fewer than five words, or too many."""


class Question(NamedTuple):
    """A row of the task."""

    question: str
    context: str
    answer: str
    start: int
    """Where the answer begins, in characters of the context."""


def entries(docstring: str) -> list[Entry]:
    """The parameters of a docstring whose descriptions are natural text, each name once."""
    section = _SECTION.search(docstring)
    by_name: dict[str, Entry] = {}

    for name, said, description in _ENTRY.findall(section[1] + "\n" if section else ""):
        text = prose(re.sub(r"\s+", " ", description.split("\n\n")[0]).strip(), words=(3, 60))
        said = clean(said).rstrip(".")
        if text and said and not _NOT_PLAIN.search(said) and name not in by_name:
            by_name[name] = Entry(name, f"{name} : {said}. {text}", _type(said), _meaning(text))
    return list(by_name.values())


def _type(said: str) -> str | None:
    plain = _NOT_THE_TYPE.sub("", said).strip(" ,")
    return plain if 1 <= len(plain.split()) <= TYPE_ANSWER_WORDS else None


def _meaning(text: str) -> str | None:
    sentence = first_sentence(text)
    return sentence if sentence and text.startswith(sentence) and len(sentence.split()) <= MEANING_ANSWER_WORDS else None


def context_of(parameters: list[Entry]) -> list[Entry]:
    """The first entries, as many as a context takes; none where they are too few."""
    kept: list[Entry] = []
    for entry in parameters[: ENTRIES[1]]:
        words = sum(len(other.text.split()) for other in (*kept, entry))
        if words <= CONTEXT_WORDS:
            kept.append(entry)
    return kept if len(kept) >= ENTRIES[0] else []


def ask_type(kept: list[Entry], entry: Entry) -> Question:
    """What the values of a parameter are; it has a type."""
    return _question(kept, entry, f"What type is {entry.name}?", entry.type, entry.text.index(" : ") + 3)


def ask_meaning(kept: list[Entry], entry: Entry) -> Question:
    """What a parameter stands for; it has a meaning."""
    return _question(kept, entry, f"What is {entry.name}?", entry.meaning, entry.text.rindex(entry.meaning))


def _question(kept: list[Entry], entry: Entry, question: str, answer: str, start: int) -> Question:
    # The context is all texts with a blank between them; the answer lies in its own entry.
    before = sum(len(other.text) + 1 for other in kept[: kept.index(entry)])
    return Question(question, " ".join(other.text for other in kept), answer, before + entry.text.index(answer, start))
