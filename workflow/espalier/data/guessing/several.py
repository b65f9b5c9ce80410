"""Files whose rows say more than one thing: several labels in a cell, a column for each class, texts that answer a query."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from espalier.data.guessing.columns import ColumnLook

SIGNS = ("|", ";", ",")
"""What may stand between labels of a cell, the surest sign first."""
SET_NAMES = re.compile(r"(labels?|tags?|class(es)?|categor(y|ies)|topics?|genres?|emotions?|intents?|keywords?)", re.IGNORECASE)
"""What columns of several labels are called; only there a comma may divide labels."""
SEVERAL = 0.1
"""Share of cells that hold two labels or more, at least."""
MOST_LABELS = 200
"""So many different labels are a vocabulary of classes; more are texts."""
ROWS_OF_A_LABEL = 3
"""Rows that labels have on average, at least."""
WORDS_OF_A_LABEL = 4
QUERIES = ("query", "question", "search", "search_term", "keyword")
"""What columns of queries are called."""
QUERY_IDS = ("qid", "query_id", "queryid", "question_id", "topic_id", "search_id")
"""What columns are called that tell queries apart."""
GRADES = ("relevance", "grade", "rel", "relevance_label", "rank_label", "label", "score", "rating")
"""What columns are called that say how well a text answers."""
TEXTS_OF_A_QUERY = 2.0
"""Rows that queries have on average, at least."""


def separator_in(look: ColumnLook) -> str | None:
    """What divides the cells of a column into labels; None where they are one label each, or texts."""
    if look.form != "text":
        return None

    for sign in SIGNS[: None if SET_NAMES.fullmatch(look.name) else -1]:
        cells = [_labels(str(value), sign) for value in look.values]
        counts = Counter(label for cell in cells for label in cell)
        several = sum(len(cell) > 1 for cell in cells)
        short = all(0 < len(label.split()) <= WORDS_OF_A_LABEL for label in counts)
        often = sum(counts.values()) >= ROWS_OF_A_LABEL * len(counts)
        # labels of a cell are a set; words of a text come twice
        sets = all(len(set(cell)) == len(cell) for cell in cells)
        if several >= SEVERAL * len(cells) and short and often and sets and 2 <= len(counts) <= MOST_LABELS:
            return sign
    return None


def _labels(cell: str, sign: str) -> list[str]:
    return [part.strip() for part in cell.split(sign)]


def yes_or_no(looks: Sequence[ColumnLook]) -> list[str]:
    """Columns of 0 and 1, two at least, that are a class each."""
    columns = [look for look in looks if look.form == "number" and set(look.counts) == {0, 1} and not look.missing]
    return [look.name for look in columns] if len(columns) > 1 else []


def ranking_in(looks: Sequence[ColumnLook]) -> tuple[ColumnLook, ColumnLook, ColumnLook | None] | None:
    """The column of queries, the one of grades, and the one that tells queries apart, where texts of queries are graded."""
    by_name = {look.name.lower(): look for look in looks}
    query = next((by_name[name] for name in QUERIES if name in by_name), None)
    grade = next((by_name[name] for name in GRADES if name in by_name), None)
    number = next((by_name[name] for name in QUERY_IDS if name in by_name), None)
    if query is None or grade is None or query.form != "text" or grade.form != "number":
        return None

    # a pair such as a question and its answer is no ranking, unless a column tells queries apart, or queries come again
    counts = (number or query).counts
    again = len((number or query).values) >= TEXTS_OF_A_QUERY * len(counts)
    named = number is not None or query.name.lower() in ("query", "search", "search_term")
    return (query, grade, number) if again and named else None
