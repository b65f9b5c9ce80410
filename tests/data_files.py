"""Data files of many forms, as people have them: what `espalier new-task` must make of each."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

SENTENCE = "the garden has old trees and a wall where birds sing in spring while rain falls on stone"
WORDS = tuple(SENTENCE.split())


class DataFile(NamedTuple):
    """A file to write, and keys that its task must have."""

    name: str
    write: Callable[[Path], None]
    keys: dict[str, Any]
    doubts: tuple[str, ...] = ()
    """Keys that must be marked as uncertain."""


def sentence(row: int, length: int = 7) -> str:
    return " ".join(WORDS[(row * 3 + place * (1 + row % 5)) % len(WORDS)] for place in range(length)) + f" {row}"


def as_text(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text) and None


def as_csv(rows: Sequence[dict[str, Any]]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    return write


def as_tsv(rows: Sequence[dict[str, Any]]) -> Callable[[Path], None]:
    lines = ["\t".join(map(str, line)) for line in (rows[0], *(row.values() for row in rows))]
    return lambda path: path.write_text("\n".join(lines) + "\n") and None


def as_jsonl(rows: Sequence[dict[str, Any]]) -> Callable[[Path], None]:
    return lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in rows)) and None


def as_parquet(rows: Sequence[dict[str, Any]], names: Sequence[str] = ()) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        table = pa.Table.from_pylist(list(rows))
        if names:
            stored = {"info": {"features": {"label": {"names": list(names), "_type": "ClassLabel"}}}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(stored)})
        pq.write_table(table, path)

    return write


def beside(name: str, write: Callable[[Path], None], other: Callable[[Path], None]) -> Callable[[Path], None]:
    """Also write a file of another name in the same folder."""

    def both(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
        other(path.with_name(name))

    return both


def plain(count: int = 60) -> Iterator[dict[str, Any]]:
    for row in range(count):
        yield {"id": row, "review": sentence(row), "sentiment": ("good", "bad", "mixed")[row % 3]}


def answered(none_every: int) -> list[dict[str, Any]]:
    rows = []
    for row in range(40):
        context = sentence(row, 30)
        answers = {"text": [context[:10].strip()], "answer_start": [0]}
        if none_every and row % none_every == 0:
            answers = {"text": [], "answer_start": []}
        rows.append(
            {"id": str(row), "title": "Garden", "context": context, "question": f"what is in row {row}?", "answers": answers}
        )
    return rows


NLI = [{"premise": sentence(row), "hypothesis": sentence(row + 1, 4), "gold_label": row % 3} for row in range(60)]
SIMILAR = [
    {"sentence1": sentence(row), "sentence2": sentence(row + 2), "similarity": f"{(row % 37) / 7:.2f}"} for row in range(80)
]
STARS = [{"title": sentence(row, 2), "body": sentence(row, 20), "stars": 1 + row % 5} for row in range(60)]
SPAM = [{"message": sentence(row), "spam": row % 10 == 0} for row in range(80)]
NUMBERED = [{"sentence": sentence(row), "label": row % 2, "idx": row} for row in range(60)]
ODD = [{"note": sentence(row), "author": sentence(row, 1), "kept": ("yes", "no")[row % 2]} for row in range(60)]
SPLIT = [{"text": sentence(row), "label": ("a", "b")[row % 2]} for row in range(40)]
HIDDEN = [{"text": sentence(row), "label": -1} for row in range(20)]
NAMED = [{"tokens": sentence(row).split(), "ner_tags": ["B-PER", "I-PER", "O", "O", "O", "O", "O", "O"]} for row in range(40)]
CONLL = "Ada NNP B-PER\nwrote VBD O\n\nParis NNP B-LOC\n"
CONLLU = "# text = Birds sing\n1\tBirds\tbird\tNOUN\tNNS\t_\t2\tnsubj\t_\t_\n2\tsing\tsing\tVERB\tVBP\t_\t0\troot\t_\t_\n\n"
CORPUS = [{"text": sentence(row, 12)} for row in range(60)]

TAGGED = [
    {"text": sentence(row), "tags": "|".join(("sport", "art", "news")[place] for place in range(3) if row >> place & 1)}
    for row in range(80)
]
GENRES = [{"plot": sentence(row, 9), "genres": ("drama", "drama, war", "comedy")[row % 3]} for row in range(60)]
PLACES = [{"text": sentence(row), "town": ("Bath, England", "Nice, France")[row % 2]} for row in range(60)]
TOXIC = [
    {"comment": sentence(row), "toxic": row % 2, "rude": int(row % 3 == 0), "threat": int(row % 7 == 0)} for row in range(60)
]
SEARCHES = [{"query": sentence(row // 4, 3), "passage": sentence(row, 12), "relevance": row % 3} for row in range(80)]
RANKED = [
    {"qid": row // 5, "question": sentence(row // 5, 4), "answer": sentence(row, 9), "label": int(row % 5 == 0)}
    for row in range(60)
]
PAIRED = [{"query": sentence(row, 3), "document": sentence(row, 12), "label": row % 2} for row in range(60)]

FILES = [
    DataFile(
        "reviews.csv",
        as_csv(list(plain())),
        {"kind": "classification", "text": ["review"], "label": "sentiment", "metric": "accuracy", "max_length": 32},
    ),
    DataFile(
        "nli.tsv", as_tsv(NLI), {"kind": "classification", "text": ["premise", "hypothesis"], "label": "gold_label"}, ("kind",)
    ),
    DataFile(
        "similar.csv",
        as_csv(SIMILAR),
        {"kind": "regression", "text": ["sentence1", "sentence2"], "metric": "pearson"},
        ("metric",),
    ),
    DataFile(
        "stars.jsonl",
        as_jsonl(STARS),
        {"kind": "classification", "text": ["title", "body"], "label": "stars"},
        ("kind", "text"),
    ),
    DataFile(
        "spam.parquet", as_parquet(SPAM), {"label": "spam", "metric": "macro-f1", "also": ["accuracy"]}, ("label", "metric")
    ),
    DataFile(
        "named.parquet", as_parquet(NUMBERED, ("no", "yes")), {"kind": "classification", "text": ["sentence"], "label": "label"}
    ),
    DataFile("odd.csv", as_csv(ODD), {"kind": "classification", "text": ["note"], "label": "kept"}, ("text", "label")),
    DataFile(
        "split/train.csv",
        beside("dev.csv", as_csv(SPLIT), as_csv(SPLIT[:10])),
        {"train": "split/train.csv", "validation": "split/dev.csv", "label": "label"},
    ),
    DataFile(
        "hidden/train.csv",
        beside("test.csv", as_csv(SPLIT), as_csv(HIDDEN)),
        {"train": "hidden/train.train.csv", "validation": "hidden/train.validation.csv"},
        ("validation",),
    ),
    DataFile("asked.jsonl", as_jsonl(answered(0)), {"kind": "span", "text": ["question", "context"], "label": "answers"}),
    DataFile(
        "maybe.parquet",
        as_parquet(answered(4)),
        {"kind": "span", "no_answer": True, "holdout": 0.1, "metric": "squad-f1"},
        ("no_answer",),
    ),
    DataFile("corpus.jsonl", as_jsonl(CORPUS), {"kind": "text", "text": ["text"]}, ("kind",)),
    DataFile(
        "novel/train.txt",
        beside(
            "validation.txt",
            lambda path: path.write_text("One.\n\nTwo.\n") and None,
            lambda path: path.write_text("Three.\n") and None,
        ),
        {"kind": "text", "text": ["text"], "validation": "novel/validation.txt"},
    ),
    DataFile(
        "people.jsonl", as_jsonl(NAMED), {"kind": "tokens", "text": ["tokens"], "label": "ner_tags", "metric": "entity-f1"}
    ),
    DataFile(
        "ner/train.conll",
        beside("dev.conll", as_text(CONLL), as_text(CONLL)),
        {"kind": "tokens", "metric": "entity-f1", "validation": "ner/dev.conll", "text": None},
    ),
    DataFile(
        "ud/en_ewt-ud-train.conllu",
        beside("en_ewt-ud-dev.conllu", as_text(CONLLU), as_text(CONLLU)),
        {"kind": "tokens", "metric": "accuracy", "validation": "ud/en_ewt-ud-dev.conllu"},
    ),
    DataFile(
        "tagged.csv",
        as_csv(TAGGED),
        {"kind": "multilabel", "text": ["text"], "label": "tags", "separator": "|", "metric": "micro-f1"},
        ("separator", "metric"),
    ),
    DataFile(
        "genres.tsv",
        as_tsv(GENRES),
        {"kind": "multilabel", "text": ["plot"], "label": "genres", "separator": ","},
        ("separator", "metric"),
    ),
    DataFile("places.csv", as_csv(PLACES), {"kind": "classification", "text": ["text"], "label": "town"}, ("label",)),
    DataFile(
        "toxic.csv",
        as_csv(TOXIC),
        {"kind": "multilabel", "text": ["comment"], "label": None, "classes": ["toxic", "rude", "threat"]},
        ("classes", "metric"),
    ),
    DataFile(
        "searches.csv",
        as_csv(SEARCHES),
        {"kind": "ranking", "text": ["query", "passage"], "label": "relevance", "query": None, "metric": "ndcg@10"},
        ("kind",),
    ),
    DataFile(
        "ranked.jsonl",
        as_jsonl(RANKED),
        {"kind": "ranking", "text": ["question", "answer"], "label": "label", "query": "qid", "also": ["mrr@10"]},
        ("kind",),
    ),
    DataFile("paired.csv", as_csv(PAIRED), {"kind": "classification", "text": ["query", "document"], "label": "label"}),
]
"""Forms of files that people have."""
REAL = {
    "sst2/train.parquet": {"kind": "classification", "text": ["sentence"], "label": "label", "metric": "accuracy"},
    "cola/train.parquet": {"kind": "classification", "text": ["sentence"], "label": "label"},
    "rte/train.parquet": {"kind": "classification", "text": ["sentence1", "sentence2"], "label": "label"},
    "stsb/train.parquet": {"kind": "regression", "text": ["sentence1", "sentence2"], "label": "label"},
    "qqp_sample/train.parquet": {"kind": "classification", "text": ["question1", "question2"], "label": "label"},
    "subjqa/train.parquet": {"kind": "span", "text": ["question", "context"], "label": "answers"},
    "tydiqa_goldp_en/train.parquet": {"kind": "span", "text": ["question", "context"], "label": "answers"},
    "udpos/train.en.parquet": {"kind": "tokens", "text": ["tokens"], "label": "pos_tags", "metric": "accuracy"},
    "us_speeches/train.parquet": {"kind": "text", "text": ["text"]},
}
"""Real data sets in ../shared/data → keys that their tasks must have."""


def write(folder: Path, file: DataFile) -> Path:
    path = folder / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    file.write(path)
    return path
