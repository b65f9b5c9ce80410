"""A text task of a few packed rows, and one loop run of HomoDistil on it, for any settings."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import torch
from transformers import BertForMaskedLM

from espalier.config.methods.homodistil import HomodistilPlan
from espalier.config.project import Progress
from espalier.data.packed import PackedRows, Vocabulary
from espalier.kinds.base import evaluator
from espalier.methods.homodistil import Homodistil
from espalier.training.history import History
from espalier.training.loop import Loop
from espalier.training.run import pruning_stage
from espalier.training.saves import Saves
from espalier.training.teachers import teacher_for
from tests import tiny

LENGTH, SPECIAL = 16, 5
VARIANTS = {
    "paper": {},
    "one-shot": {"removal": "one-shot", "prune_start": 0.25},
    "random-start": {"removal": "random-start"},
    "averaged-sensitivity": {"importance": "averaged-sensitivity", "prune_schedule": "linear"},
    "sensitivity": {"importance": "sensitivity", "prune_schedule": "step"},
    "magnitude": {"importance": "magnitude", "member_scores": "undivided"},
    "random": {"importance": "random"},
    "undivided": {"member_scores": "undivided"},
    "global": {"allocation": "global", "member_scores": "undivided"},
    "other comparisons": {"attention": "post-softmax", "embedding": "table", "projections": "random", "temperature": 2.0},
    "prediction alone": dict.fromkeys(("mlm_weight", "hidden_weight", "embedding_weight", "attention_weight"), 0.0),
    "multiples": {"multiple": 4},
    "without attention": {"attention_weight": 0.0},
}


def write_rows(path, rows, seed, named):
    """Packed rows in which a token says which one follows it."""
    generator = np.random.default_rng(seed)
    first = generator.integers(SPECIAL, 64, rows)
    steps = np.arange(LENGTH - 2)
    inner = SPECIAL + (first[:, None] - SPECIAL + 7 * steps) % (64 - SPECIAL)
    ids = np.concatenate([np.full((rows, 1), 2), inner, np.full((rows, 1), 3)], axis=1).astype(np.int32)
    ids[-1, 9:] = 0
    vocabulary = Vocabulary(64, 0, 4, tuple(range(SPECIAL)))
    column = pa.field("input_ids", pa.list_(pa.int32(), LENGTH))
    schema = pa.schema([column, *([pa.field("set", pa.string())] if named else [])], metadata=vocabulary.metadata())
    arrays = [pa.FixedSizeListArray.from_arrays(pa.array(ids.reshape(-1)), LENGTH), pa.array(["validation"] * rows)]
    with pa.ipc.new_file(str(path), schema) as writer:
        writer.write_batch(pa.record_batch(arrays[: 1 + named], schema=schema))
    return PackedRows(path, seed)


def write_task(folder):
    """The rows as the stages read them."""
    folder.mkdir(parents=True)
    write_rows(folder / "train.arrow", 64, 0, named=False)
    write_rows(folder / "evaluation.arrow", 16, 1, named=True)
    (folder / "task.json").write_text(json.dumps({"kind": "text", "classes": None, "sets": ["validation"]}))


def language_model(seed=2, **changes):
    torch.manual_seed(seed)
    return BertForMaskedLM(tiny.config(initializer_range=0.2, **changes))


class Harness:
    """Everything that one run needs, on 64 rows: four steps an epoch."""

    def __init__(self, folder):
        self.folder = folder
        self.train = write_rows(folder / "train.arrow", 64, 0, named=False)
        self.evaluation = write_rows(folder / "evaluation.arrow", 16, 1, named=True)

    def loop(self, settings, student=None, masks=None, before=0.0, work="work", seed=0, target=0.6):
        plan = {"method": "homodistil", "path": [target], "batch_size": 16, "epochs": 4.0, "decide_every": 2, "window": 2}
        plan["multiple"] = 1
        settings = HomodistilPlan.model_validate(plan | settings)
        stage = pruning_stage(settings, "text", seed, 4, masks is None, before, settings.path[0])
        method, accelerator = Homodistil(settings, stage), tiny.accelerator()
        (self.folder / work).mkdir(exist_ok=True)
        self.teacher = language_model()
        taught = teacher_for(method, self.teacher, self.train, accelerator)
        torch.manual_seed(seed)
        return Loop(
            student=student or language_model(),
            method=method,
            rows=self.train,
            settings=settings,
            learning_rate=3e-3,
            progress=Progress(log_every=3),
            accelerator=accelerator,
            evaluate=evaluator(self.evaluation, "text", ["masked-accuracy"], accelerator),
            metric="masked-accuracy",
            saves=Saves(self.folder / work, {"settings": settings.model_dump_json(), "seed": seed}),
            history=History(self.folder / work / "history.jsonl"),
            teacher=taught,
            masks=masks,
        )

    def run(self, settings, **arguments):
        loop = self.loop(settings, **arguments)
        loop.run()
        return loop
