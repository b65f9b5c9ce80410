"""From what columns look like to a task: kind, texts, label, metric and length, and what is uncertain about other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espalier.config.kinds import KIND_RULES
from espalier.config.kinds.tokens import BIO
from espalier.data.guessing.columns import TAGGED, TEXT_LINES, ColumnLook
from espalier.data.guessing.several import ranking_in, separator_in, yes_or_no
from espalier.runtime.errors import UserError

LABEL_NAMES = (
    *("label", "labels", "class", "category", "target", "sentiment", "topic", "intent", "gold_label", "gold", "y"),
    *(
        "stars",
        "rating",
        "score",
        "similarity",
        "similarity_score",
        "relevance",
        "emotion",
        "polarity",
        "language",
        "tag",
        "tags",
    ),
)
"""What columns of labels are called, the likeliest names first."""
PAIRS = (
    *(("sentence1", "sentence2"), ("question1", "question2"), ("premise", "hypothesis"), ("text_a", "text_b")),
    *(("question", "sentence"), ("sentence_a", "sentence_b"), ("text1", "text2"), ("query", "passage"), ("query", "document")),
    *(
        ("query", "text"),
        ("question", "answer"),
        ("first", "second"),
        ("title", "body"),
        ("title", "text"),
        ("title", "content"),
    ),
)
"""What two columns of a pair are called."""
TEXT_NAMES = ("text", "sentence", "review", "content", "body", "document", "comment", "message", "tweet", "question", "query")
"""What columns of text are called, the likeliest names first."""
NUMBERING = re.compile(r"(.*[_-])?(id|idx|index|uuid|guid|number|no|nr|url|date|time|timestamp)", re.IGNORECASE)
"""What columns are called that number rows or say when and where: no labels."""
MOST_CLASSES = 50
"""So many different values make a column one of classes; more make it one of numbers, or of texts."""
ROWS_OF_A_CLASS = 3
"""Rows that classes have on average, at least."""
MOST_FREQUENT = 0.8
"""Share of the largest class beyond which accuracy says little."""
AVERAGES = "micro-f1 counts every label alike; macro-f1 every class"
"""What is uncertain about the metric of several labels."""
TOKENS_OF_A_WORD = 1.5
"""About as many tokens a word has in English."""
LENGTHS = (32, 64, 128, 256)
"""Lengths that are proposed, in tokens; most encoders take 512."""


@dataclass
class Guess:
    """A task as its block would say it, and what is uncertain."""

    keys: dict[str, Any]
    """Key of the block → value, in the order in which they are written; files are left out."""
    doubts: dict[str, str] = field(default_factory=dict)
    """Key of the block → what is uncertain about it, and how to say otherwise."""


def guess(path: Path, looks: Sequence[ColumnLook]) -> Guess:
    """The task that a file most likely holds.

    Raises:
        UserError: no kind of task reads such columns.
    """
    if path.suffix in TAGGED:
        return _tokens(None, looks[0])
    answers = next((look for look in looks if look.form == "answers"), None)
    if answers is not None:
        return _span(path, looks, answers)
    lists = [look for look in looks if look.form == "words"]
    if lists:
        return _lists(path, looks, lists)

    if ranking := ranking_in(looks):
        return _ranking(path, looks, *ranking)
    if sets := _label_sets(path, looks):
        return sets

    guessed = Guess({})
    label = _label(looks, guessed)
    texts = _texts(path, looks, label, guessed)
    if label is None:
        return _text(path, texts, guessed)
    return _of_label(label, texts, guessed)


def _lists(path: Path, looks: Sequence[ColumnLook], lists: list[ColumnLook]) -> Guess:
    """Two lists of equal lengths are words and their tags; one beside a text is its labels."""
    for words in lists:
        for tags in lists:
            as_long = [len(value) for value in words.values] == [len(value) for value in tags.values]
            if words is not tags and as_long and all(isinstance(part, str) for value in words.values for part in value):
                return _tokens(words.name, tags)

    guessed = Guess({})
    texts = _texts(path, looks, lists[0], guessed)
    _need("multilabel", f"{path}: column '{lists[0].name}' holds several labels a row")
    guessed.doubts["metric"] = AVERAGES
    guessed.keys = {"kind": "multilabel", "text": texts, "label": lists[0].name, "metric": "micro-f1"}
    return guessed


def _ranking(path: Path, looks: Sequence[ColumnLook], query: ColumnLook, grade: ColumnLook, number: ColumnLook | None) -> Guess:
    """A query, the text that is said to answer it, and how well it does."""
    guessed = Guess({})
    others = _texts(path, [look for look in looks if look not in (query, number)], grade, guessed)
    guessed.doubts.pop("text", None)
    if len(others) > 1:
        guessed.doubts["text"] = "the query first, then what answers it; up to three columns make the answer"
    guessed.doubts["kind"] = (
        f"'{grade.name}' says how well a text answers its query; where each pair counts by itself, write kind: "
        "classification, metric: accuracy, and leave query and also out"
    )
    own = {"query": number.name} if number else {}
    keys = {
        "kind": "ranking",
        "text": [query.name, *others],
        "label": grade.name,
        **own,
        "metric": "ndcg@10",
        "also": ["mrr@10"],
    }
    return Guess(keys, guessed.doubts)


def _label_sets(path: Path, looks: Sequence[ColumnLook]) -> Guess | None:
    """Several labels a row: divided by a sign in one column, or a column of 0 and 1 for each."""
    guessed = Guess({})
    named = [look for look in looks if look.name.lower() in LABEL_NAMES]
    divided = [(look, sign) for look in looks if (sign := separator_in(look)) is not None]
    # a column of another name counts where none has a usual one
    for look, sign in sorted(divided, key=lambda pair: pair[0] not in named):
        if look in named or not named:
            texts = _texts(path, looks, look, guessed)
            guessed.doubts["separator"] = f"cells such as {_most_labels(look, sign)!r} are taken for several labels"
            guessed.doubts["metric"] = AVERAGES
            keys = {"text": texts, "label": look.name, "separator": sign, "metric": "micro-f1"}
            return Guess({"kind": "multilabel", **keys}, guessed.doubts)

    if named or not (classes := yes_or_no(looks)):
        return None
    texts = _texts(path, [look for look in looks if look.name not in classes], None, guessed)
    guessed.doubts["classes"] = "columns of 0 and 1 are taken for a class each; leave out those that are none"
    guessed.doubts["metric"] = AVERAGES
    return Guess({"kind": "multilabel", "text": texts, "classes": classes, "metric": "micro-f1"}, guessed.doubts)


def _most_labels(look: ColumnLook, sign: str) -> str:
    return str(max(look.values, key=lambda value: str(value).count(sign)))


def _tokens(words: str | None, tags: ColumnLook) -> Guess:
    """Words with a tag each; files of the CoNLL form name no columns, so the kind's own names are theirs."""
    _need("tokens", "the file has a tag for every word")
    columns = {} if words is None else {"text": [words], "label": tags.name}
    different = {str(tag) for row in tags.values for tag in row}
    if all(map(BIO.fullmatch, different)):
        return Guess({"kind": "tokens", **columns, "metric": "entity-f1", "also": ["accuracy"], "max_length": 128})

    doubts = {}
    if all(tag.isdecimal() for tag in different):
        doubts["metric"] = "tags are numbers; where they stand for BIO tags of entities, write metric: entity-f1"
    return Guess({"kind": "tokens", **columns, "metric": "accuracy", "max_length": 128}, doubts)


def _need(kind: str, what: str) -> None:
    if kind not in KIND_RULES:
        raise UserError(f"{what}, which is kind {kind}; this version has the kinds {', '.join(KIND_RULES)}")


def _span(path: Path, looks: Sequence[ColumnLook], answers: ColumnLook) -> Guess:
    named = {look.name: look for look in looks if look.form == "text"}
    question, context = named.get("question"), named.get("context")
    doubts = {}
    if question is None or context is None:
        texts = sorted((look for look in named.values() if not NUMBERING.fullmatch(look.name)), key=lambda look: look.words)
        if len(texts) < 2:
            raise UserError(f"{path}: column '{answers.name}' has answers, but there are no two columns of text beside it")
        question, context = texts[-2], texts[-1]
        doubts["text"] = "the longest texts are taken for contexts, the next ones for questions"

    keys: dict[str, Any] = {"kind": "span", "text": [question.name, context.name], "label": answers.name}
    without = sum(not value["text"] for value in answers.values)
    if without:
        keys |= {"no_answer": True, "holdout": 0.1}
        doubts["no_answer"] = (
            f"{without:,} of {len(answers.values):,} questions have no answer; the threshold comes from holdout"
        )
    return Guess({**keys, "metric": "squad-f1", "also": ["exact-match"]}, doubts)


def _label(looks: Sequence[ColumnLook], guessed: Guess) -> ColumnLook | None:
    """The column of labels: by its name, else the one with the fewest different values."""
    possible = [look for look in looks if _may_be_label(look)]
    named = [look for name in LABEL_NAMES for look in possible if look.name.lower() == name]
    if named:
        if len(named) > 1:
            guessed.doubts["label"] = f"{_listed(named[1:])} could be the label, too"
        return named[0]

    numbered = [look for look in possible if not NUMBERING.fullmatch(look.name) and look.words < 4]
    few = [look for look in numbered if 2 <= len(look.counts) <= MOST_CLASSES and _fills(look)]
    few.sort(key=lambda look: len(look.counts))
    if few:
        others = f"; {_listed(few[1:])} could be the label, too" if len(few) > 1 else ""
        guessed.doubts["label"] = f"no column has a usual name for labels; '{few[0].name}' has few different values{others}"
        return few[0]
    return None


def _may_be_label(look: ColumnLook) -> bool:
    return look.form in ("number", "truth") or (look.form == "text" and len(look.counts) <= MOST_CLASSES and _fills(look))


def _fills(look: ColumnLook) -> bool:
    """Whether values occur again and again."""
    return len(look.values) >= ROWS_OF_A_CLASS * len(look.counts)


def _texts(path: Path, looks: Sequence[ColumnLook], label: ColumnLook | None, guessed: Guess) -> list[str]:
    """The column of text, or the two of a pair."""
    possible = [look for look in looks if look.form == "text" and look is not label and not NUMBERING.fullmatch(look.name)]
    if not possible:
        raise UserError(f"{path}: no column of text; columns: {', '.join(f'{look.name} ({look.form})' for look in looks)}")

    by_name = {look.name.lower(): look.name for look in possible}
    if pair := next((pair for pair in PAIRS if set(pair) <= by_name.keys()), None):
        others = [look for look in possible if look.name.lower() not in pair]
        if others or "title" in pair:
            guessed.doubts["text"] = f"read as a pair; a list of one column reads that one alone{_besides(others)}"
        return [by_name[name] for name in pair]

    longest = max(possible, key=lambda look: look.words)
    first = next((by_name[name] for name in TEXT_NAMES if name in by_name), longest.name)
    others = [look for look in possible if look.name != first]
    if others:
        guessed.doubts["text"] = f"'{first}' alone is read{_besides(others)}; a pair is a list of two columns"
    return [first]


def _besides(others: Sequence[ColumnLook]) -> str:
    return f"; also there: {_listed(others)}" if others else ""


def _listed(looks: Sequence[ColumnLook]) -> str:
    return ", ".join(f"'{look.name}'" for look in looks)


def _text(path: Path, texts: list[str], guessed: Guess) -> Guess:
    """A corpus without labels."""
    if len(texts) > 1:
        texts = texts[:1]
        guessed.doubts["text"] = f"'{texts[0]}' alone is read; kind text has one column"
    if path.suffix != TEXT_LINES:
        guessed.doubts["kind"] = "no column looks like labels, so rows are taken for text without labels"
    guessed.keys = {"kind": "text", "text": texts, "max_length": 128}
    return guessed


def _of_label(label: ColumnLook, texts: list[str], guessed: Guess) -> Guess:
    """Classes, or numbers."""
    values = len(label.counts)
    if values < 2:
        raise UserError(
            f"column '{label.name}' has one value in all rows, {next(iter(label.counts))!r}; labels need two at least"
        )
    if label.missing:
        guessed.doubts["label"] = (
            f"{label.missing:,} rows have none; `prepare` refuses them: leave them out, or choose another column"
        )
    if -1 in label.counts and label.whole and values <= MOST_CLASSES:
        guessed.doubts["label"] = "-1 marks rows without a label in GLUE's test files; such rows are refused"

    measured = label.form == "number" and label.stored is None
    if measured and (not label.whole or values > MOST_CLASSES):
        guessed.doubts["metric"] = "spearman compares orders, pearson values"
        guessed.keys = {"kind": "regression", "text": texts, "label": label.name, "metric": "pearson", "also": ["spearman"]}
        return guessed
    if measured and values > 2:
        low, high = min(label.values), max(label.values)
        guessed.doubts["kind"] = (
            f"whole numbers from {low} to {high} are taken for {values} classes; where their size means something, write "
            "kind: regression, metric: pearson, and leave also out"
        )
    share = max(label.counts.values()) / len(label.values)
    metrics = ("macro-f1", "accuracy") if share > MOST_FREQUENT else ("accuracy", "macro-f1")
    if share > MOST_FREQUENT:
        guessed.doubts["metric"] = f"the largest class has {share:.0%} of the rows, so accuracy says little"
    guessed.keys = {"kind": "classification", "text": texts, "label": label.name, "metric": metrics[0], "also": [metrics[1]]}
    return guessed


def with_length(guessed: Guess, looks: Sequence[ColumnLook]) -> Guess:
    """The guess with the length of rows: the smallest usual one that cuts hardly any row."""
    if "max_length" in guessed.keys or guessed.keys["kind"] == "span":
        return guessed
    columns = [look for look in looks if look.name in guessed.keys["text"]]
    rows = zip(*(look.values for look in columns), strict=False)
    words = sorted(sum(len(str(value).split()) for value in row) for row in rows)
    most = words[int(0.95 * (len(words) - 1))] * TOKENS_OF_A_WORD + 3
    guessed.keys["max_length"] = next((length for length in LENGTHS if length >= most), LENGTHS[-1])
    if most > LENGTHS[-1]:
        guessed.doubts["max_length"] = f"about one row in twenty has more than {most:.0f} tokens, which are cut"
    return guessed
