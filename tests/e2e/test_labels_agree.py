"""A report's score and the labels that the exported model gives agree on the user's own file, whatever its form.

Trained and deployed labels stood in another order: open-edge-platform/geti#2397, experiencor/keras-yolo3#82.
"""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import f1_score
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from espalier.__main__ import main
from espalier.config import job_specs, parse
from espalier.runtime.files import read_json
from tests import tiny
from tests.field.files import write

pytestmark = pytest.mark.slow
TRAINED = {"config": "config.json", "weights": "model.safetensors", "history": "history.parquet", "record": "run.json"}
EXPORTED = {
    **{"config": "config.json", "weights": "model.safetensors", "code": "modeling_espalier.py", "onnx": "onnx/model.onnx"},
    **{"tokenizer-json": "tokenizer.json", "tokenizer-config": "tokenizer_config.json"},
}
CASES = {
    "years in csv, the later one first": (".csv", ["2019", "2020"], ["2020", "2019"]),
    "codes in tsv": (".tsv", ["01", "02"], None),
    "truth values in json, true first": (".jsonl", [False, True], ["true", "false"]),
    "numbers in parquet, the larger one first": (".parquet", [1, 2], ["2", "1"]),
    "truth values in csv": (".csv", ["false", "true"], None),
    "truth values in parquet": (".parquet", [False, True], None),
    "places in parquet": (".parquet", [0, 1], ["yes", "no"]),
}
"""Form of the files, the labels of both kinds of text, and the classes as the user names them."""


def write_texts(path: Path, labels: list[Any], count: int, seed: int) -> None:
    """Texts of words that tell their label; every fourth tells the wrong one, and the second label is rarer."""
    generator = random.Random(seed)
    texts, given = [], []
    for row in range(count):
        second = row % 3 == 0
        shown = second != (row % 4 == 1)
        texts.append(" ".join(tiny.WORDS[30 * shown + generator.randrange(30)] for _ in range(6)))
        given.append(labels[second])
    write(path, {"text": texts, "label": given})


def read_rows(path: Path) -> tuple[list[str], list[Any]]:
    """Texts and labels as a user would read the file."""
    if path.suffix == ".parquet":
        table = pq.read_table(path).to_pydict()
        return table["text"], table["label"]
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t"))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def run(name: str, spec: Any, lists: dict[str, list[Path]], paths: dict[str, Path]) -> None:
    options = [part for option, files in lists.items() for part in (f"--{option}", *map(str, files))]
    options += [part for option, path in paths.items() for part in (f"--{option}", str(path))]
    assert main([name, "--spec", spec.model_dump_json(), *options]) == 0


def exported(folder: Path, form: str, classes: list[str] | None) -> Path:
    """Run the stages from the user's files to the exported teacher and its scores."""
    files = {"source": "files", "train": str(folder / f"train{form}"), "validation": str(folder / f"validation{form}")}
    task = {"kind": "classification", **files, "text": ["text"], "label": "label", "metric": "f1", "max_length": 16}
    config = parse(
        {
            **{"project": "mine", "device": "cpu", "precision": "fp32"},
            "bases": {"tiny": {"source": "local", "path": str(folder / "base")}},
            "tasks": {"mine": task | ({"classes": classes} if classes else {})},
            "teacher": {"epochs": 3.0, "batch_size": 16, "learning_rate": 5e-3},
            "plans": {},
        }
    )
    base, out = tiny.write_base(folder / "base"), folder / "out"
    model, tokenizer = ([base / name for name in names] for names in (list(TRAINED.values())[:2], list(EXPORTED.values())[-2:]))

    rows = {name: out / f"{name}.parquet" for name in ("train", "evaluation")}
    tokens = {f"tokens-{name}": out / f"tokens/{name}.parquet" for name in rows}
    card = out / "task.json"
    run("prepare", job_specs.prepare_spec(config, "mine"), {}, rows | {"task": card})
    run("tokenise", job_specs.tokenise_spec(config, "mine"), {"tokenizer": [base / "config.json", *tokenizer]}, rows | tokens)
    teacher = {name: out / "teacher" / file for name, file in TRAINED.items()} | {"task": card, "work": out / "work"}
    run("finetune", job_specs.finetune_spec(config, "mine", 1), {"base": model, "tokens": list(tokens.values())}, teacher)
    student = [out / "teacher" / file for file in list(TRAINED.values())[:2]]
    compact = {name: out / "compact" / file for name, file in EXPORTED.items()}
    files = {"student": student, "tokenizer": tokenizer, "decisions": [], "sentences": []}
    run("export", job_specs.export_spec(config, "mine"), files, compact)
    scored = {
        "task": card,
        "tokens": tokens["tokens-evaluation"],
        "scores": out / "scores.json",
        "predictions": out / "p.parquet",
    }
    run("evaluate", job_specs.evaluate_spec(config, "mine"), {"model": [compact["config"], compact["weights"]]}, scored)
    return out


@pytest.mark.parametrize("case", CASES)
def test_the_exported_model_names_the_user_s_labels(tmp_path: Path, case: str) -> None:
    form, labels, classes = CASES[case]
    for split, count, seed in (("train", 96, 0), ("validation", 60, 1)):
        write_texts(tmp_path / f"{split}{form}", labels, count, seed)
    out = exported(tmp_path, form, classes)

    texts, given = read_rows(tmp_path / f"validation{form}")
    model = AutoModelForSequenceClassification.from_pretrained(out / "compact").eval()
    tokenizer = AutoTokenizer.from_pretrained(out / "compact")
    with torch.no_grad():
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    answers = [model.config.id2label[int(place)] for place in logits.argmax(dim=-1)]

    # the order is the one that the user wrote, or the natural one
    names = classes or [str(label) for label in labels]
    assert [model.config.id2label[place] for place in (0, 1)] == names

    # a name stands for the label of the file
    truth = [names[label] for label in given] if case.startswith("places") else [str(label) for label in given]
    if case.startswith("truth values in json"):
        truth = [label.lower() for label in truth]
    assert set(truth) == set(names)
    own, other = (f1_score(truth, answers, pos_label=name) for name in (names[1], names[0]))
    assert read_json(out / "scores.json")["score"] == pytest.approx(own) and abs(own - other) > 0.01
