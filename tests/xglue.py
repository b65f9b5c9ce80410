"""XGLUE in small: a folder in the form of the hub's data set, and its tasks through the real stages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import yaml

from espalier.config import parse
from espalier.config.benchmarks.xglue import ENTITY_TAGS, PARTS_OF_SPEECH, TOPICS, XGLUE
from tests import tagged, tiny

ID = "hgissbkh/xglue"
TRAIN_ROWS, ROWS = 20, 6
"""Rows of the training split and of each other one."""
LONG_TRAIN = {"nc": 2}
"""Tasks whose classes need more training rows → how many times as many."""
TEXT = datasets.Value("string")
SPANS = datasets.Features({"answer_start": datasets.List(datasets.Value("int32")), "text": datasets.List(TEXT)})


def _words(generator: np.random.Generator, third: int, count: int = 4) -> str:
    """Words of a third of the vocabulary, which a model can tell apart."""
    return " ".join(tiny.WORDS[20 * third + int(place)] for place in generator.integers(0, 20, count))


def _classes(*columns: str, label: str, classes: tuple[str, ...]) -> tuple[datasets.Features, Callable[..., dict[str, Any]]]:
    """Rows of texts with one class each, which their words tell where there are few."""
    features = datasets.Features({**dict.fromkeys(columns, TEXT), label: datasets.ClassLabel(names=list(classes))})

    def row(generator: np.random.Generator, number: int) -> dict[str, Any]:
        index = number % len(classes)
        return {name: _words(generator, index % 3) for name in columns} | {label: index}

    return features, row


def _tags(label: str, classes: tuple[str, ...]) -> tuple[datasets.Features, Callable[..., dict[str, Any]]]:
    features = datasets.Features({"words": datasets.List(TEXT), label: datasets.List(datasets.ClassLabel(names=list(classes)))})

    def row(generator: np.random.Generator, number: int) -> dict[str, Any]:
        thirds = generator.integers(0, 3, 5).tolist()
        return {"words": [_words(generator, third, 1) for third in thirds], label: thirds}

    return features, row


def _answer(generator: np.random.Generator, number: int) -> dict[str, Any]:
    context = [*_words(generator, 0).split(), _words(generator, 2, 1), *_words(generator, 0).split()]
    start = len(" ".join(context[:4])) + 1
    answers = {"answer_start": [start], "text": [context[4]]}
    return {"context": " ".join(context), "question": _words(generator, 2, 2), "answers": answers}


def _ranked(generator: np.random.Generator, number: int) -> dict[str, Any]:
    """Runs of three rows of a query, one of them with a grade above 0 at least; a row has no snippet."""
    grade = int(generator.integers(0, 5)) or int(number % 3 == 0)
    texts = {"web_page_title": _words(generator, grade // 2), "web_page_snippet": "" if number == 1 else _words(generator, 1)}
    return {"query": f"word1 word{number // 3}", **texts, "relavance_label": grade}


PAGES = datasets.Features(
    {
        **dict.fromkeys(("query", "web_page_title", "web_page_snippet"), TEXT),
        "relavance_label": datasets.ClassLabel(names=["Bad", "Fair", "Good", "Excellent", "Perfect"]),
    }
)
PARTS: dict[str, tuple[datasets.Features, Callable[..., dict[str, Any]]]] = {
    "ner": _tags("ner", ENTITY_TAGS),
    "pos": _tags("pos", PARTS_OF_SPEECH),
    "nc": _classes("news_title", "news_body", label="news_category", classes=TOPICS),
    "mlqa": (datasets.Features({"context": TEXT, "question": TEXT, "answers": SPANS}), _answer),
    "xnli": _classes("premise", "hypothesis", label="label", classes=("entailment", "neutral", "contradiction")),
    "paws-x": _classes("sentence1", "sentence2", label="label", classes=("different", "same")),
    "qadsm": _classes("query", "ad_title", "ad_description", label="relevance_label", classes=("Bad", "Good")),
    "wpr": (PAGES, _ranked),
    "qam": _classes("question", "answer", label="label", classes=("False", "True")),
}
"""Configuration of the data set → its features, and the maker of a row."""


def part_of(task: str) -> str:
    return task.removeprefix("xglue-")


def splits_of(task: str) -> list[str]:
    return ["train", *XGLUE[task]["validation"].values()]


def split(part: str, name: str) -> datasets.Dataset:
    """A few rows, the same every time."""
    features, row = PARTS[part]
    generator = np.random.default_rng(sum(map(ord, part + name)))
    count = TRAIN_ROWS * LONG_TRAIN.get(part, 1) if name == "train" else ROWS
    return datasets.Dataset.from_list([row(generator, number) for number in range(count)], features=features)


def write_hub(folder: Path, *tasks: str) -> Path:
    """A data set of these tasks; `datasets` reads it by its name, without a script, where `folder` is the working folder."""
    root = folder / ID
    configs = []
    for task in tasks or XGLUE:
        part, files = part_of(task), []
        for name in splits_of(task):
            path = root / part / f"{name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            split(part, name).to_parquet(path)
            files.append({"split": name, "path": str(path.relative_to(root))})
        configs.append({"config_name": part, "data_files": files})
    (root / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
    return folder


def work_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `datasets` find the data set in this folder, and keep nothing of it elsewhere."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")


def files(folder: Path, task: str) -> dict[str, Any]:
    """The same rows as files of the user's."""
    known = XGLUE[task]["validation"]
    paths = {name: str(folder / ID / part_of(task) / f"{part}.parquet") for name, part in {"train": "train", **known}.items()}
    return {"source": "files", "train": paths.pop("train"), "validation": paths}


class Study(tagged.Study):
    """A task of XGLUE, or one that `changes` says, on a tiny model, through the real stages in this process."""

    def __init__(self, folder: Path, task: str, objective: str = "kld", **changes: Any) -> None:
        self.folder, self.task = folder, task
        self.base = tiny.write_base(folder / "base")
        block = {"max_length": 24, **({"stride": 4} if task == "xglue-mlqa" else {}), **changes}
        self.config = parse(
            {
                **{"project": "xglue", "device": "cpu", "precision": "fp32", "deploy": {"formats": []}},
                "bases": {"tiny": {"source": "local", "path": str(self.base)}},
                "tasks": {task: block},
                "teacher": {"epochs": 2.0, **tagged.FAST},
                "plans": {"sdp": {**tagged.PLANS["sdp"], "start": "teacher", "objective": objective}},
            }
        )
        self.lay_out()
