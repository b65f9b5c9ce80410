"""Our side: a method's own training loop on random weights, as a stage would run it."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from pydantic import TypeAdapter
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, PreTrainedModel

from espalier.config.job_specs import Machine
from espalier.config.methods import AnyPlan
from espalier.config.project import Precision, Progress
from espalier.config.training import Plan
from espalier.data.batches import TaskRows
from espalier.methods.base import Method, Stage
from espalier.pruning.masks import Masks
from espalier.runtime.device import seed_everything
from espalier.training.history import History
from espalier.training.loop import Loop
from espalier.training.run import accelerator_for, method_class
from espalier.training.saves import Saves
from espalier.training.stored_outputs import Places, layer_numbers, map_outputs, write_outputs
from espalier.training.teachers import AnyTeacher, teacher_for

MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
BERT_BASE: dict[str, int] = {}
"""Transformers' defaults."""
TINY = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 130,
}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
"""What a configuration says to have no dropout."""
PLANS: dict[str, dict[str, Any]] = {
    "sdp": {"path": [0.5]},
    "spd": {"path": [0.5], "probability_schedule": "constant"},
    "cofi": {"path": [0.8], "gate_learning_rate": 1e-6, "multiplier_learning_rate": 1e-6},
    "l0": {"path": [0.8], "gate_learning_rate": 1e-6, "multiplier_learning_rate": 1e-6},
    # Cuts come after all measured steps; scores are gathered in each.
    "homodistil": {"path": [0.9], "prune_start": 0.98, "prune_end": 0.99},
}
"""Each method as its defaults have it. SDP and SPD remove half of the weights before the first step; SPD stays in its first
part, where four of five layers are the student's; CoFi's gates stay where they are put."""
RATE = 1e-5


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    shape: Mapping[str, int]
    """What BertConfig is given."""
    batch: int = 32
    classes: int = 2
    device: str = "cpu"

    @property
    def vocabulary(self) -> int:
        """Number of word ids."""
        return self.shape.get("vocab_size", BertConfig().vocab_size)

    def model(self, kind: str, seed: int, **changes: Any) -> PreTrainedModel:
        """A model with random weights, for classification or for text."""
        torch.manual_seed(seed)
        config = BertConfig(**{**self.shape, "num_labels": self.classes, **changes})
        return (BertForMaskedLM if kind == "text" else BertForSequenceClassification)(config)


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    scale: Scale
    batches: int = 4
    """In the table of a task: each is measured once, and they cover its lengths."""
    every: int = 2
    """Our steps to one of the reference, where the reference takes long and its batches are all alike."""
    points: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8)
    """Expected sparsities of CoFi's first stage; the last one is the target of the whole stage."""
    path: tuple[float, ...] = (0.6, 0.8, 0.95)
    """Targets of CoFi's whole path; the first one is among the points."""
    text_length: int = 128
    """Tokens of a row of text."""

    def every_of(self, task: str) -> int:
        """Our steps to one of the reference; short rows cost little."""
        return 1 if task == "cola" else self.every


QUICK = Effort(Scale(TINY, batch=8), batches=2, points=(0.0, 0.6, 0.8), text_length=16)
"""For tests."""
FULL = Effort(Scale(MINILM))


def kind_of(method: str) -> str:
    """The kind of task that a method is measured on."""
    return "text" if method == "homodistil" else "classification"


def stage_for(method: str, steps: int, seed: int, target: float, before: float) -> Stage:
    """A stage of so many steps; what removes single weights does so before the first step."""
    removals = {0: target} if method in ("sdp", "spd") else {}
    kind = kind_of(method)
    return Stage(kind, seed, before, target, (steps,), removals)


def method_for(
    name: str, steps: int, *, seed: int = 0, target: float | None = None, before: float = 0.0, **settings: Any
) -> Method:
    """A method by its defaults and by PLANS, in a stage of so many steps.

    Args:
        name: of the method.
        steps: of the stage.
        seed: of the order of the batches, and of the method's own draws.
        target: to remove, 0 for steps before pruning; else the one in PLANS.
        before: what earlier stages have removed.
        settings: other settings of the plan.
    """
    content = {"method": name, "evaluate_every": 0.0, **PLANS[name], **settings}
    goal = content["path"][0] if target is None else target

    # A stage that removes nothing belongs to a plan that does.
    plan: Plan = TypeAdapter(AnyPlan).validate_python(content | ({"path": [goal]} if goal else {}))
    return method_class(name)(plan, stage_for(name, steps, seed, goal, before))


def teacher_of(
    method: Method, model: PreTrainedModel, rows: TaskRows, accelerator: Accelerator, folder: Path
) -> AnyTeacher | None:
    """The teacher as a stage has it: with the outputs that the stage `teach` stores, where the method reads any."""
    if not method.needs_teacher:
        return None

    reads = method.settings.reads
    # The stage `teach` is one process; several of them, as in `divided`, compute the teacher anew.
    if reads is None or not rows.same_every_epoch or accelerator.num_processes > 1:
        return teacher_for(method, model, rows, accelerator)

    # As stages/models/teach.py does, whose one pass over the rows no clock of ours counts.
    model.requires_grad_(False).eval().to(accelerator.device)
    work = Path(tempfile.mkdtemp(dir=folder))
    depth = model.config.num_hidden_layers
    layers = [] if reads.layers is None else layer_numbers(reads.layers, depth)
    write_outputs(model, rows, accelerator, work, reads, layers, "fp32")
    stored = map_outputs(work, reads, layers, Places(rows.lengths, reads.pad_to), depth, "fp32")
    return teacher_for(method, model, rows, accelerator, stored)


def loop_for(
    method: Method,
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    rows: TaskRows,
    folder: Path,
    *,
    precision: Precision = "fp32",
    device: str = "cpu",
    masks: Masks | None = None,
) -> Loop:
    """A training loop whose evaluation costs nothing; it trains the student in place.

    Args:
        folder: for what the loop keeps.
        masks: what was removed from the student before.
    """
    # Accelerate allows one precision in a process, a stage has one; here another loop may follow in another precision.
    AcceleratorState._reset_state()
    accelerator = accelerator_for(Machine(device=device, precision=precision))
    with redirect_stderr(io.StringIO()):
        taught = teacher_of(method, teacher, rows, accelerator, folder)
    work = Path(tempfile.mkdtemp(dir=folder))
    seed_everything(method.stage.seed)
    return Loop(
        student=student,
        method=method,
        rows=rows,
        settings=method.settings,
        learning_rate=RATE,
        progress=Progress(),
        accelerator=accelerator,
        evaluate=lambda model: {"validation": {"rows": 0, "loss": 0.0, "score": 0.0}},
        metric="score",
        saves=Saves(work, {}),
        history=History(work / "history.jsonl"),
        teacher=taught,
        masks=masks,
    )


def run(loop: Loop) -> None:
    """Run a loop without its progress bar."""
    with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        loop.run()


def put_gates(method: Any, values: Mapping[str, Tensor], multipliers: tuple[float, float] = (0.0, 0.0)) -> None:
    """Let a method with gates begin with these log alphas and Lagrange multipliers."""
    begin = method.begin

    def begun(student: PreTrainedModel, masks: Masks | None) -> None:
        begin(student, masks)
        with torch.no_grad():
            for name, vector in method.gates.items():
                vector.copy_(values[name])
            method.multipliers.copy_(torch.tensor(multipliers))

    method.begin = begun
