"""CoNLL and CoNLL-U files: a word a line, its columns beside it, sentences apart by blank lines.

CoNLL (Tjong Kim Sang and De Meulder 2003, the shared task's data format): columns are separated by tabs where a line has one,
else by blanks; lines that begin with `-DOCSTART-` stand between documents. CoNLL-U (universaldependencies.org/format.html):
ten columns with tabs between them; comments begin with `#`, `1-2` is a range of words that is written as one, `1.1` is an empty
node. Both are skipped: words are what is counted 1, 2, 3 …
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from espalier.config.blocks import shortened
from espalier.data.files import check_column, utf8_text
from espalier.runtime.errors import UserError

UNIVERSAL = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
"""Columns of CoNLL-U."""
WORDS, TAGS = "words", "tags"
"""Names by which both formats know the column of words and that of tags."""
LINE_NUMBERS = "# lines"
"""Column with the number of each word's line, for messages."""
BETWEEN_DOCUMENTS = "-DOCSTART-"
BLANKS = re.compile("[ \t]+")
SKIPPED = re.compile(r"[0-9]+(-|\.)[0-9]+")
"""The ID of a range of words, or of an empty node."""


class Word(NamedTuple):
    """A word with its columns, and the line that it stands in, counted from 1."""

    line: int
    columns: list[str]


def read_conll(path: Path, columns: Sequence[str]) -> pa.Table:
    """The sentences of a file: for each of these columns a list of texts, and the numbers of their lines.

    Raises:
        UserError: there is no sentence, no such column, or a line that is not as it must be.
    """
    universal = path.suffix == ".conllu"
    sentences = list(_universal(path) if universal else _plain(path))
    if not sentences:
        raise UserError(f"{path}: got 0 sentences; at least 1 is needed")

    # without names, columns are counted from 1
    width = len(sentences[0][0].columns)
    names = {name: place for place, name in enumerate(UNIVERSAL if universal else map(str, range(1, width + 1)))}
    names |= {WORDS: 1, TAGS: 3} if universal else {WORDS: 0, TAGS: width - 1}
    for name in columns:
        check_column(str(path), list(names), name)

    def value(word: Word, place: int) -> str | None:
        # CoNLL-U writes what is not annotated as _, which is a word like any other
        text = word.columns[place]
        return None if universal and text == "_" and UNIVERSAL[place] != "FORM" else text

    values = {name: [[value(word, names[name]) for word in sentence] for sentence in sentences] for name in columns}
    lines = [[word.line for word in sentence] for sentence in sentences]
    return pa.table({**values, LINE_NUMBERS: lines})


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, and a blank one at the end."""
    yield from enumerate([*(line.rstrip("\r") for line in utf8_text(path).split("\n")), ""], start=1)


def _plain(path: Path) -> Iterator[list[Word]]:
    """Sentences of a CoNLL file, none of them empty."""
    sentence: list[Word] = []
    width = 0
    for number, line in _lines(path):
        text = line.strip(" \t")
        if not text or BLANKS.split(text)[0] == BETWEEN_DOCUMENTS:
            if sentence:
                yield sentence
            sentence = []
            continue

        # a word may hold a blank where tabs separate
        fields = [field.strip(" ") for field in line.split("\t")] if "\t" in line else BLANKS.split(text)
        width = width or len(fields)
        if len(fields) != width or len(fields) < 2:
            wanted = f"{width}, as the first line has" if width > 1 else "a word and its tag at least"
            raise UserError(f"{path}, line {number}: got {len(fields)} columns in {shortened(line)}; needed: {wanted}")
        sentence.append(Word(number, fields))


def _universal(path: Path) -> Iterator[list[Word]]:
    """Sentences of a CoNLL-U file, none of them empty."""
    sentence: list[Word] = []
    for number, line in _lines(path):
        if not line.strip(" \t"):
            if sentence:
                yield sentence
            sentence = []
            continue
        if line.startswith("#"):
            continue

        fields = line.split("\t")
        if len(fields) != len(UNIVERSAL):
            wanted = f"{len(UNIVERSAL)}, with tabs between them"
            raise UserError(f"{path}, line {number}: got {len(fields)} columns in {shortened(line)}; needed: {wanted}")
        if SKIPPED.fullmatch(fields[0]):
            continue
        if fields[0] != str(len(sentence) + 1):
            said = f"got the ID {shortened(fields[0])}; needed: {len(sentence) + 1}, or a range 1-2, or an empty node 1.1"
            raise UserError(f"{path}, line {number}: {said}")
        sentence.append(Word(number, fields))
