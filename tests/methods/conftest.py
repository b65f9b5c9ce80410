"""One loop run on a tiny model, for any method and settings."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from transformers import PreTrainedModel

from espalier.config.methods import AnyPlan
from espalier.config.project import Progress
from espalier.kinds.base import evaluator, open_rows
from espalier.training import loop as loop_module
from espalier.training.history import History
from espalier.training.loop import Loop
from espalier.training.run import method_class, pruning_stage
from espalier.training.saves import Saves
from espalier.training.teachers import teacher_for
from tests import tagged, tiny
from tests.methods import on_text

GATES = {
    "path": [0.6],
    "prepruning_epochs": 1.0,
    "pruning_epochs": 4.0,
    "sparsity_warmup_epochs": 2.0,
    "gate_learning_rate": 0.5,
    "multiplier_learning_rate": 0.5,
}
"""Sixteen steps with gates: high rates, as a run so short needs."""
SPD = {"path": [0.6], "sparsify_epochs": 2.0, "grafting_epochs": 1.0, "finetune_epochs": 1.0, "prune_steps": 3}
ALONE = {"hidden_weight": 0.0, "attention_weight": 0.0, "prediction_weight": 0.0}
OBS = {"path": [0.6], "epochs": 2.0, "calibration_rows": 48, "search_rows": 16, "search_random": 3, "search_mutations": 3}
GRAIN = {"path": [0.6], "epochs": 3.0, "prune_start": 0.2, "prune_end": 0.6, "smoothing": 0.8}
PLANS = {
    "dense": {"method": "dense", "epochs": 2.0},
    "random": {"method": "random", "path": [0.6]},
    "magnitude": {"method": "magnitude", "path": [0.6], "prune_steps": 2},
    "magnitude-global": {"method": "magnitude", "path": [0.6], "allocation": "global"},
    "movement": {"method": "movement", "path": [0.6]},
    "distil": {"method": "distil", "path": [0.6]},
    "sdp-kld": {"method": "sdp", "path": [0.6], "objective": "kld"},
    "sdp-cos": {"method": "sdp", "path": [0.6], "objective": "cos"},
    "sdp-cc": {"method": "sdp", "path": [0.6], "objective": "cc", "prune_steps": 2, "prune_schedule": "cubic"},
    "sdp-cc-kld": {"method": "sdp", "path": [0.6], "objective": "cc+kld", "representation": "mean"},
    "spd": {"method": "spd", **SPD},
    "spd-plain": {"method": "spd", **SPD, **ALONE, "hard_label_weight": 1.0, "initial_probability": 1.0},
    "spd-theseus": {"method": "spd", **SPD, **ALONE, "hard_label_weight": 1.0, "freeze_head": False},
    "spd-options": {
        **{"method": "spd", **SPD, "probability_schedule": "constant", "initial_probability": 0.5, "mask_padding": True},
        **{"pred": {"reduction": "batchmean", "regression_target": "teacher"}, "clip_scope": "all"},
    },
    "l0": {"method": "l0", **GATES},
    "cofi": {"method": "cofi", **GATES},
    "cofi-unrestricted": {"method": "cofi", **GATES, "matching": "unrestricted", "mask_padding": True},
    "cofi-fixed": {"method": "cofi", **GATES, "matching": "fixed", "deviation": "absolute"},
    "cofi-random": {"method": "cofi", **GATES, "matching": "random", "gates": ["heads", "units"]},
    "cofi-equal": {"method": "cofi", **GATES, "layers": "equal"},
    "l0-equal": {"method": "l0", **GATES, "layers": "equal", "deviation": "absolute"},
    "heads": {"method": "heads", "path": [0.6]},
    "kwon": {"method": "kwon", "path": [0.6], "calibration_rows": 32},
    "kwon-plain": {"method": "kwon", "path": [0.6], "calibration_rows": 32, "rearrange": False, "tune": False},
    "kprune": {"method": "kprune", "path": [0.6], "calibration_rows": 32},
    "kprune-plain": {"method": "kprune", "path": [0.6], "calibration_rows": 32, "refit": False},
    "small-dense-equal": {"method": "small-dense", "path": [0.6], "epochs": 2.0, "layers": "equal"},
    "heads-iterative": {"method": "heads", "path": [0.6], "prune_steps": 3, "normalise": False},
    "small-dense": {"method": "small-dense", "path": [0.6], "epochs": 2.0},
    "grain": {"method": "grain", **GRAIN},
    "grain-unequal": {"method": "grain", **GRAIN, "head_rows": "unequal"},
    "grain-whole-loss": {"method": "grain", **GRAIN, "separate_gradients": False, "regularisation": 0.0, "hidden_weight": 0.0},
    "obs": {"method": "obs", **OBS},
    "obs-alike": {"method": "obs", **OBS, "search_random": 0, "search_mutations": 0, "hidden_weight": 0.0},
    "small-dense-layers": {"method": "small-dense", "path": [0.6], "epochs": 2.0, "kind": "layers"},
}
"""Every row of the behaviour matrix."""
GATED = {"l0", "cofi"}
ON_TEXT = {"homodistil", "specialise"}
"""Methods that work on text alone, or start there: their own files hold the rows of the matrix."""
FROM_ANOTHER_BASE = {"ready-made"}
"""Methods whose students and teachers read other tokens: no row of the matrix."""
UNTRAINED = {"kwon", "kprune"}
"""Methods whose stages have no steps."""
STRUCTURED = GATED | UNTRAINED | {"heads", "small-dense", "obs", "grain"}

METRICS = {
    "classification": "accuracy",
    "regression": "spearman",
    "span": "squad-f1",
    "tokens": "entity-f1",
    "multilabel": "micro-f1",
    "ranking": "ndcg@10",
}
"""Kind → metric of its runs. `tiny.write_rows_task` makes the rows of the last two."""


class Harness:
    """Everything that one run needs, on 64 rows."""

    def __init__(self, folder: Path, kind: str = "classification", task: Path | None = None) -> None:
        self.folder, self.kind = folder, kind
        writers = {"span": tiny.write_span_task, "tokens": tagged.write_task}
        task = task or writers.get(kind, partial(tiny.write_task, kind=kind))(folder / f"task-{kind}")
        self.train, self.evaluation = (open_rows(task / f"{name}.parquet", kind, 0, 0) for name in ("train", "evaluation"))
        self.metric = METRICS[kind]
        self.classes = 3 if kind in ("classification", "multilabel") else 1

    def model(self, seed: int, **changes: object) -> PreTrainedModel:
        makers = {"span": tiny.answerer, "tokens": tagged.tagger}
        return makers.get(self.kind, partial(tiny.classifier, classes=self.classes))(seed, **changes)

    def loop(
        self, plan: dict, student=None, teacher=None, seed: int = 0, work: str = "work", masks=None, before=0.0, **changes
    ) -> Loop:
        settings = TypeAdapter(AnyPlan).validate_python({"batch_size": 16, **plan})
        per_epoch = -(-len(self.train) // settings.batch_size)
        stage = pruning_stage(settings, self.kind, seed, per_epoch, masks is None, before, settings.path[0])
        method = method_class(settings.method)(settings, stage)
        accelerator = tiny.accelerator()
        student = method.cut(student or self.model(1), masks)
        taught = None
        if method.needs_teacher:
            taught = teacher_for(method, teacher or self.model(2), self.train, accelerator)
        (self.folder / work).mkdir(exist_ok=True)
        torch.manual_seed(seed)
        arguments = {
            "student": student,
            "method": method,
            "rows": self.train,
            "settings": settings,
            "learning_rate": 1e-3,
            "progress": Progress(log_every=3),
            "accelerator": accelerator,
            "evaluate": evaluator(self.evaluation, self.kind, [self.metric], accelerator),
            "metric": self.metric,
            "saves": Saves(self.folder / work, {"plan": str(plan), "seed": seed}),
            "history": History(self.folder / work / "history.jsonl"),
            "teacher": taught,
            "masks": masks,
        }
        return Loop(**{**arguments, **changes})

    def run(self, plan: dict, **arguments) -> Loop:
        loop = self.loop(plan, **arguments)
        loop.run()
        return loop


def begun(harness: Harness, student=None, masks=None, **settings):
    """A CoFi method that is attached to its student and has drawn its gates, and its loop; nothing is trained."""
    before = 0.0 if masks is None else 0.3
    loop = harness.loop({"method": "cofi", **GATES, **settings}, student=student, masks=masks, before=before)
    loop.method.begin(loop.student, masks)
    loop.method.optimizer = loop._make_optimizer()
    loop.method.before_step(loop.method.prune_from)
    return loop, loop.method


@pytest.fixture
def harness(tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, "SAVE_EVERY", 1)
    return Harness(tmp_path)


@pytest.fixture
def text_harness(tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, "SAVE_EVERY", 1)
    return on_text.Harness(tmp_path)


@pytest.fixture(params=list(PLANS))
def plan(request):
    return PLANS[request.param]
