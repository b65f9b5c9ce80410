"""A fine-tuned checkpoint as somebody brings it: a tiny encoder with a head, its tokenizer, and the rows that it knows."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, BertForSequenceClassification

from tests import tiny

CLASSES = ("low", "middle", "high")
"""The task's classes: a text's words come from the first, second or last third of the vocabulary."""
BROUGHT = ("high", "low", "middle")
"""The same in the order of the checkpoint's outputs."""


def rows(count: int, seed: int) -> list[dict[str, str]]:
    """Texts whose words come mostly from the third that their class names."""
    generator, made = np.random.default_rng(seed), []
    for number in range(count):
        third = number % 3
        thirds = [third if generator.random() < 0.6 else int(generator.integers(3)) for _ in range(generator.integers(3, 9))]
        words = [tiny.WORDS[20 * each + int(generator.integers(20))] for each in thirds]
        made.append({"text": " ".join(words), "label": CLASSES[third]})
    return made


def write_rows(path: Path, made: Sequence[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(made[0]))
        writer.writeheader()
        writer.writerows(made)
    return path


def write_checkpoint(folder: Path, names: Sequence[str] = BROUGHT, steps: int = 60, **changes: object) -> Path:
    """Train a tiny classifier on such rows with nothing but transformers, and save it as its Trainer would.

    Args:
        folder: where it goes, with a tokenizer.
        names: of the classes, in the order of the outputs; those of CLASSES, or others in the order of BROUGHT.
        steps: updates.
        changes: of the model's configuration.
    """
    tokenizer = AutoTokenizer.from_pretrained(tiny.write_base(folder))
    model = BertForSequenceClassification(tiny.config(num_labels=len(names), initializer_range=0.2, **changes))
    place = {name: index for index, name in enumerate(names if set(names) == set(CLASSES) else BROUGHT)}
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    torch.manual_seed(5)
    for step in range(steps):
        batch = rows(24, 100 + step)
        encoded = tokenizer([row["text"] for row in batch], padding=True, return_tensors="pt")
        labels = torch.tensor([place.get(row["label"], 0) for row in batch])
        model(**encoded, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: index for index, name in enumerate(names)}
    model.eval().save_pretrained(folder)
    return folder


@torch.no_grad()
def accuracy(folder: Path, made: Sequence[dict[str, str]]) -> float:
    """The checkpoint's accuracy by transformers alone, a row at a time."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), BertForSequenceClassification.from_pretrained(folder).eval()
    hits = 0
    for row in made:
        place = int(model(**tokenizer(row["text"], return_tensors="pt")).logits.argmax())
        hits += model.config.id2label[place] == row["label"]
    return hits / len(made)
