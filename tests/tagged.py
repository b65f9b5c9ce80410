"""Sentences whose words tell their tags, and a tiny task of them through the real stages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import BertForTokenClassification

from espalier.__main__ import main
from espalier.config import Config, job_specs, parse
from espalier.data.tagged.sentences import sentence_columns
from espalier.data.tagged.windows import class_metadata, write_cut_sentences
from espalier.data.tokenizer import open_tokenizer
from tests import tiny

TASK, SEED = "names", 3
LENGTH = 16
CLASSES = ("B-PER", "I-PER", "B-LOC", "I-LOC", "O")
MODEL = ("config.json", "model.safetensors")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
TRAINED = {"config": "config.json", "weights": "model.safetensors", "history": "history.parquet", "record": "run.json"}
PRUNED = TRAINED | {"masks": "masks.safetensors", "structure": "structure.json"}
EXPORTED = {
    **{"config": "config.json", "weights": "model.safetensors", "code": "modeling_espalier.py", "onnx": "onnx/model.onnx"},
    **{"tokenizer-json": "tokenizer.json", "tokenizer-config": "tokenizer_config.json"},
}
FAST = {"batch_size": 16, "learning_rate": 5.0e-3}
GATES = {"prepruning_epochs": 0.0, "pruning_epochs": 2.0, "sparsity_warmup_epochs": 1.0, **FAST}
PLANS: dict[str, dict[str, Any]] = {
    "dense": {"method": "dense", "epochs": 1.0, **FAST},
    "random": {"method": "random", "path": [0.5], **FAST},
    "magnitude": {"method": "magnitude", "path": [0.5], **FAST},
    "movement": {"method": "movement", "path": [0.5], **FAST},
    "distil": {"method": "distil", "path": [0.5], **FAST},
    "sdp": {"method": "sdp", "path": [0.5], "objective": "cc+kld", **FAST},
    "sdp-kld": {"method": "sdp", "path": [0.5], "objective": "kld", **FAST},
    "sdp-cos": {"method": "sdp", "path": [0.5], "objective": "cos", **FAST},
    "spd": {"method": "spd", "path": [0.5], "sparsify_epochs": 1.0, "grafting_epochs": 1.0, "finetune_epochs": 1.0, **FAST},
    "heads": {"method": "heads", "path": [0.5], **FAST},
    "kwon": {"method": "kwon", "path": [0.5], "calibration_rows": 32},
    "kprune": {"method": "kprune", "path": [0.5], "calibration_rows": 32},
    "obs": {"method": "obs", "path": [0.5], "epochs": 1.0, "calibration_rows": 32, "search_rows": 16, **FAST},
    "grain": {"method": "grain", "path": [0.5], "head_rows": "unequal", "epochs": 2.0, **FAST},
    "small-dense": {"method": "small-dense", "path": [0.5], "epochs": 1.0, **FAST},
    "small-equal": {"method": "small-dense", "path": [0.5], "epochs": 1.0, "layers": "equal", **FAST},
    "l0": {"method": "l0", "path": [0.5], **GATES},
    "cofi": {"method": "cofi", "path": [0.5], **GATES},
}
"""A plan for every method that starts from the teacher."""


def sentences(count: int, seed: int) -> list[dict[str, list[str]]]:
    """Names of one to three words among others: the third of the vocabulary that a word is of tells its type."""
    generator, rows = np.random.default_rng(seed), []
    for _ in range(count):
        words: list[str] = []
        tags: list[str] = []
        for _ in range(generator.integers(2, 9)):
            third = int(generator.integers(3))
            run = int(generator.integers(1, 4))
            words += [tiny.WORDS[20 * third + int(generator.integers(20))] for _ in range(run)]
            kind = ("PER", "LOC", None)[third]
            # two names of one type may stand side by side, which the words do not tell
            begins = ["B", *"I" * (run - 1)] if not tags or not tags[-1].endswith(str(kind)) else ["I"] * run
            tags += ["O"] * run if kind is None else [f"{prefix}-{kind}" for prefix in begins]
        rows.append({"words": words, "tags": tags})
    return rows


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_task(folder: Path, rows: int = 64, seed: int = 0) -> Path:
    """Tokenised rows of 16 tokens, in which some sentences do not fit."""
    encoder = open_tokenizer([tiny.write_base(folder / "base") / "tokenizer.json"], LENGTH)
    for offset, (name, count) in enumerate((("train", rows), ("evaluation", rows // 2))):
        made = sentences(count, seed + offset)
        columns = sentence_columns([row["words"] for row in made])
        columns["tags"] = pa.array([[CLASSES.index(tag) for tag in row["tags"]] for row in made])
        table = pa.table(columns | ({"set": ["validation"] * count} if name == "evaluation" else {}))
        pq.write_table(table.replace_schema_metadata(class_metadata(CLASSES)), folder / f"{name}-rows.parquet")
        write_cut_sentences(encoder, LENGTH, folder / f"{name}-rows.parquet", folder / f"{name}.parquet")
    (folder / "task.json").write_text(json.dumps({"kind": "tokens", "classes": list(CLASSES), "sets": ["validation"]}))
    return folder


def tagger(seed: int = 0, **changes: object) -> BertForTokenClassification:
    torch.manual_seed(seed)
    return BertForTokenClassification(tiny.config(**{"num_labels": len(CLASSES), "initializer_range": 0.3, **changes}))


def task(folder: Path, **changes: object) -> dict[str, Any]:
    files = {"train": str(folder / "train.jsonl"), "validation": str(folder / "validation.jsonl")}
    block = {"kind": "tokens", "source": "files", **files, "metric": "entity-f1", "also": ["accuracy", "entity-f1-strict"]}
    return {**block, "classes": list(CLASSES), "max_length": LENGTH, **changes}


def study(folder: Path, **changes: object) -> Config:
    """A configuration with all plans of `PLANS`, each from the teacher."""
    return parse(
        {
            **{"project": "tagged", "device": "cpu", "precision": "fp32", "deploy": {"formats": []}},
            "bases": {"tiny": {"source": "local", "path": str(folder / "base")}},
            "tasks": {TASK: task(folder)},
            "teacher": {"epochs": 8.0, **FAST},
            "plans": {name: {"start": "teacher", **plan} for name, plan in PLANS.items()},
            **changes,
        }
    )


def inside(folder: Path, *names: str) -> list[Path]:
    return [folder / name for name in names]


def stage(name: str, spec: Any, lists: Mapping[str, Sequence[Path]], paths: Mapping[str, Path], *more: str) -> None:
    """Run a stage as its rule does."""
    options = [part for option, files in lists.items() for part in (f"--{option}", *map(str, files))]
    options += [part for option, path in paths.items() for part in (f"--{option}", str(path))]
    assert main([name, "--spec", spec.model_dump_json(), *options, *more]) == 0


class Study:
    """A tiny task, its teacher, and students of any plan, made by the real stages in this process."""

    task = TASK

    def __init__(self, folder: Path, rows: int = 96) -> None:
        self.folder = folder
        self.base = tiny.write_base(folder / "base")
        for seed, (name, count) in enumerate([("train", rows), ("validation", rows // 2)]):
            write_jsonl(folder / f"{name}.jsonl", sentences(count, seed))
        self.config = study(folder)
        self.lay_out()

    def lay_out(self) -> None:
        """Where prepared rows and tokens lie."""
        folder = self.folder
        self.card = folder / "prepared/task.json"
        self.rows = {name: folder / f"prepared/{name}.parquet" for name in ("train", "evaluation")}
        self.tokens = {name: folder / f"tokens/{name}.parquet" for name in self.rows}

    def prepare(self) -> None:
        stage("prepare", job_specs.prepare_spec(self.config, self.task), {}, self.rows | {"task": self.card})
        tokenizer = {"tokenizer": inside(self.base, "config.json", *TOKENIZER)}
        written = {f"tokens-{name}": path for name, path in self.tokens.items()}
        stage("tokenise", job_specs.tokenise_spec(self.config, self.task), tokenizer, self.rows | written)

    def teacher(self) -> None:
        written = {name: self.folder / "teacher" / file for name, file in TRAINED.items()}
        work = {"task": self.card, "work": self.folder / "work"}
        lists = {"base": inside(self.base, *MODEL), "tokens": list(self.tokens.values())}
        stage("finetune", job_specs.finetune_spec(self.config, self.task, SEED), lists, written | work)

    def teach(self, plan: str) -> Path:
        """The note on the teacher's stored outputs that a plan reads."""
        part = job_specs.readers(self.config, self.task)[plan].name
        note, files = self.folder / f"outputs/{part}.json", {"teacher": inside(self.folder / "teacher", *MODEL)}
        paths = {"tokens": self.tokens["train"], "work": self.folder / f"stored/{part}", "outputs": note}
        storing = job_specs.storing(self.config, self.task, part).model_copy(update={"store": "always"})
        stage("teach", job_specs.teach_spec(self.config, self.task, part), files, paths, "--storing", storing.model_dump_json())
        return note

    def compress(self, plan: str, outputs: Sequence[Path] = (), name: str | None = None) -> Path:
        """The folder of a plan's student."""
        target = self.folder / (name or plan)
        written = {option: target / file for option, file in PRUNED.items()}
        teacher = inside(self.folder / "teacher", *MODEL)
        lists = {"teacher": teacher, "start": teacher, "tokens": list(self.tokens.values())}
        lists |= {"latency": [], "outputs": list(outputs)}
        percent = "0" if plan == "dense" else "50"
        spec = job_specs.compress_spec(self.config, self.task, plan, SEED, percent)
        stage("compress", spec, lists, written | {"task": self.card, "work": self.folder / "work"})
        return target

    def export(self, student: Path) -> Path:
        """The compact folder of a student."""
        lists = {"student": inside(student, *MODEL), "tokenizer": inside(self.base, *TOKENIZER)}
        lists |= {"decisions": [], "sentences": []}
        written = {option: student / "compact" / file for option, file in EXPORTED.items()}
        stage("export", job_specs.export_spec(self.config, self.task), lists, written)
        return student / "compact"

    def evaluate(self, compact: Path) -> Path:
        """The folder with scores.json and predictions.parquet of a compact model."""
        scored = {"scores": compact.parent / "scores.json", "predictions": compact.parent / "predictions.parquet"}
        places = {"task": self.card, "tokens": self.tokens["evaluation"]}
        spec = job_specs.evaluate_spec(self.config, self.task)
        stage("evaluate", spec, {"model": inside(compact, *MODEL)}, scored | places)
        return compact.parent
