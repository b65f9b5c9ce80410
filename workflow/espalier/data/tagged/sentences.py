"""Sentences of words with a tag each, as the user's table has them, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from espalier.config.blocks import shortened
from espalier.config.data import Task
from espalier.config.kinds.tokens import ENTITY_METRICS
from espalier.data.files import Column, half_a_character, python_values
from espalier.data.labelled import SourceTable, column_of, distinct_classes, label_problem, outside_classes, same_order
from espalier.data.labels import Label, find_places, stated
from espalier.data.tagged.bio import broken, mended, with_beginnings
from espalier.data.tagged.conll import LINE_NUMBERS
from espalier.runtime.errors import UserError

Problem = tuple[int | None, str]
"""The word that it is about, if it is one, and what is wrong."""


def words_of(source: SourceTable, name: str, *, split: bool = False) -> list[list[str]]:
    """The words of each sentence.

    Args:
        source: the table.
        name: of its column of words.
        split: take a text for the words between its blanks.

    Raises:
        UserError: the table is empty, or a row is no list of words.
    """
    values = python_values(source.place, name, column_of(source, name))
    if not values:
        raise UserError(f"{source.place}: got 0 rows; at least 1 is needed")
    if split:
        values = [value.split() if isinstance(value, str) else value for value in values]

    _refuse(source, name, map(_sentence_problem, values))
    return values


def sentence_columns(words: Sequence[Sequence[str]]) -> dict[str, Column]:
    """Sentences in the form that other stages read: each as one text and as a list of words, with its number, from 1."""
    return {
        "text_a": pa.array([" ".join(sentence) for sentence in words], pa.string()),
        "words": pa.array(words, pa.list_(pa.string())),
        "sentence": pa.array(range(1, len(words) + 1), pa.int64()),
    }


def classes_of(source: SourceTable, task: Task) -> tuple[str, ...]:
    """Names of the tags in order: those of the configuration, those that the file declares, or those of the rows.

    Raises:
        UserError: there are fewer than two, or they do not fit the metrics.
    """
    place = f"{source.place}, column '{task.label}'"
    names = task.classes or source.names
    if names is None:
        names = distinct_classes(place, chain.from_iterable(_tags(source, task)))
        # what mending makes must be among the classes
        names = with_beginnings(names) if task.bio == "mend" else names

    if source.table.num_rows and len(names) < 2:
        raise UserError(f"{place}: got {len(names)} class ({', '.join(names)}); at least 2 are needed")
    if problem := task.rules.class_problem(task.metrics, names):
        raise UserError(f"{place}: {problem}")
    return names


def tag_indices(source: SourceTable, task: Task, words: Sequence[Sequence[str]], classes: Sequence[str]) -> pa.Array:
    """The class of every word of every sentence, as an index.

    Raises:
        UserError: a sentence has not as many tags as words, a tag is missing or none of the classes, or an I- tag continues no
            entity where that matters.
    """
    same_order(source, task, classes)
    tags = _tags(source, task)
    counts = [
        None if len(own) == len(sentence) else (None, f"got {len(own)} tags for {len(sentence)} words; each word needs one")
        for own, sentence in zip(tags, words, strict=True)
    ]
    _refuse(source, task.label, counts)
    _refuse(source, task.label, _first_bad(tags, lambda tag: "the tag is missing" if tag is None else None))

    # one look-up for all words, because whether numbers are places depends on all of them
    flat = list(chain.from_iterable(tags))
    places, counted = find_places(flat, classes, ordered=bool(task.classes or source.names), stored=bool(source.names))
    indices = _like(places, tags)
    unknown = _first_bad(indices, lambda index: "" if index is None else None)
    outside = [
        None if bad is None else (bad[0], outside_classes(tags[row][bad[0]], classes, counted))
        for row, bad in enumerate(unknown)
    ]
    _refuse(source, task.label, outside)
    return pa.array(_entities_whole(source, task, indices, classes), pa.list_(pa.int64()))


def _entities_whole(
    source: SourceTable, task: Task, indices: list[list[int]], classes: Sequence[str]
) -> Iterable[Sequence[int]]:
    """The indices, in which every entity begins with a B- tag where that matters."""
    if task.bio is None and not set(ENTITY_METRICS).intersection(task.metrics):
        return indices

    names = [[classes[index] for index in sentence] for sentence in indices]
    if task.bio != "mend":
        breaks = [next(broken(sentence), None) for sentence in names]
        said = "continues no entity of its type, so it must be a B- tag; correct it, or let bio: mend do so"
        problems = [
            None if place is None else (place, f"the tag {shortened(names[row][place])} {said}")
            for row, place in enumerate(breaks)
        ]
        _refuse(source, task.label, problems)
        return indices

    whole = [mended(sentence) for sentence in names]
    known = {name: index for index, name in enumerate(classes)}
    missing = _first_bad(whole, lambda name: None if name in known else f"mending needs the class {name!r}, which is not named")
    _refuse(source, task.label, missing)
    changed = sum(one != other for own, new in zip(names, whole, strict=True) for one, other in zip(own, new, strict=True))
    print(f"{source.place}: {changed:,} of {sum(map(len, names)):,} tags mended: an I- that continued no entity begins one")
    return [[known[name] for name in sentence] for sentence in whole]


def _tags(source: SourceTable, task: Task) -> list[list[Label | None]]:
    """The tags of each sentence, as the file has them; None where one is missing."""
    values = python_values(source.place, task.label, column_of(source, task.label))
    lists = [value if isinstance(value, list) else None for value in values]
    no_lists = [
        (None, f"got {shortened(value)}; a list of tags is needed") if value is None or own is None else None
        for value, own in zip(values, lists, strict=True)
    ]
    _refuse(source, task.label, no_lists)

    tags: list[list[Any]] = [[stated(tag) for tag in sentence] for sentence in values]
    _refuse(source, task.label, _first_bad(tags, label_problem))
    return tags


def _sentence_problem(sentence: object) -> Problem | None:
    """What is wrong with the words of a sentence, if anything."""
    if not isinstance(sentence, list):
        return None, f"got {shortened(sentence)}; a list of words is needed"
    if not sentence:
        return None, "got an empty sentence; every row needs a word"
    return next(((place, problem) for place, word in enumerate(sentence) if (problem := _word_problem(word))), None)


def _word_problem(word: object) -> str | None:
    if not isinstance(word, str):
        return f"got {shortened(word)}; a word is a text"
    if half_a_character(word):
        return f"got half of a character (a lone surrogate): {shortened(word)}; a text is needed"
    return None if word.strip() else f"got the empty word {shortened(word)}; leave it out together with its tag"


def _first_bad(sentences: Iterable[Sequence[Any]], problem: Callable[[Any], str | None]) -> list[Any]:
    """For each sentence the first value that has a problem, with the problem."""
    firsts = []
    for sentence in sentences:
        problems = ((place, problem(value)) for place, value in enumerate(sentence))
        firsts.append(next(((place, said) for place, said in problems if said is not None), None))
    return firsts


def _like(flat: list[Any], sentences: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Values one after another, as lists of the lengths of these sentences."""
    values = iter(flat)
    return [[next(values) for _ in sentence] for sentence in sentences]


def _refuse(source: SourceTable, name: str | None, problems: Iterable[Problem | None]) -> None:
    """Refuse the split for its first problem, with the line of the file where it has lines, else with row and word."""
    every = list(problems)
    row = next((row for row, problem in enumerate(every) if problem is not None), None)
    if row is None:
        return

    word, said = every[row]
    if LINE_NUMBERS in source.table.column_names:
        where = f"line {source.table[LINE_NUMBERS][row].as_py()[word or 0]}"
    else:
        where = f"data row {row + 1}, column '{name}'" + ("" if word is None else f", word {word + 1}")
    more = sum(problem is not None for problem in every) - 1
    also = f" ({more:,} more such sentence{'s' if more > 1 else ''})" if more else ""
    raise UserError(f"{source.place}, {where}: {said}{also}")
