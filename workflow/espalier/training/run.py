"""From prepared files to a trained model and its record: what all training stages share."""

from __future__ import annotations

import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from espalier.config.data import TRAIN
from espalier.config.job_specs import Machine, TrainingSpec
from espalier.config.kinds import KINDS, Kind
from espalier.config.methods import METHODS, AnyPlan
from espalier.config.training import Plan, Training
from espalier.data.batches import TaskRows, TokenisedRows
from espalier.data.packed import FIXED_SEED
from espalier.evaluation.predict import Scores, with_mean
from espalier.kinds.base import evaluator, open_rows
from espalier.methods.base import Method, Stage
from espalier.models.files import open_base, open_student
from espalier.provenance.code_digest import code_digest
from espalier.provenance.job_records import git_commit, package_versions
from espalier.pruning.aims import Aim
from espalier.pruning.latency import LatencyTarget
from espalier.pruning.masks import Masks
from espalier.pruning.schedules import sparsity_steps
from espalier.runtime import distributed
from espalier.runtime.device import pick_device, pick_precision, seed_everything
from espalier.runtime.errors import UserError, WorkerDone
from espalier.runtime.files import check_writable, read_json, sha256, sha256_text, write_json
from espalier.runtime.process import exclusive, termination
from espalier.training.calibration import refit
from espalier.training.history import History
from espalier.training.loop import Loop
from espalier.training.saves import Saves
from espalier.training.schedule import interval_bounds, steps_of_epoch
from espalier.training.stored_outputs import NotStoredError, StoredOutputs, digests_of, open_outputs
from espalier.training.teachers import AnyTeacher, LiveTeacher, teacher_for

PACKAGES = ("torch", "transformers", "accelerate", "numpy", "espalier")
"""Packages whose versions a run depends on: with others, a saved state is not taken up."""


def accelerator_for(machine: Machine) -> Accelerator:
    """Accelerate, set up for the device and the precision."""
    device = pick_device(machine.device)
    precision = pick_precision(machine.precision, device)
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="bf16" if precision == "bf16" else "no")

    # fp32 is fp32 on every device: TF32, which keeps 10 bits of the fraction, stays off. Whoever wants speed has bf16.
    torch.set_float32_matmul_precision("highest")

    # Processes on one CPU share its threads.
    if device.type == "cpu" and accelerator.num_processes > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // accelerator.num_processes))
    return accelerator


def open_training_rows(files: Sequence[Path], kind: Kind, share: float | None, pad: int, seed: int) -> TaskRows:
    """Tokenised training rows, and after them the texts without labels, where there is a second file.

    Args:
        files: the training rows and, maybe, texts without labels.
        kind: of the task.
        share: part of an epoch's rows that is taken from the texts.
        pad: padding id of the tokenizer.
        seed: of the run.
    """
    train, *texts = files

    # Rows with labels come first: a row's number tells whether it has one.
    rows: Any = open_rows(train, kind, pad, seed)
    for path in texts:
        rows = rows.with_unlabelled(path, share)
    return rows


def check_finite(model: nn.Module, what: str) -> None:
    """See that all weights are numbers.

    Raises:
        UserError: some are not.
    """
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            count = int((~torch.isfinite(weight)).sum())
            raise UserError(f"{what}: {count} of {weight.numel()} values of {name} are infinite or not a number")


def method_class(name: str) -> type[Method]:
    """The class of a method; no other method is imported."""
    module, symbol = METHODS[name].split(":")
    return getattr(import_module(module), symbol)


def pruning_stage(
    plan: Plan,
    kind: Kind,
    seed: int,
    steps_per_epoch: int,
    first: bool,
    before: float,
    target: float,
    latency: LatencyTarget | None = None,
    gone: float = 0.0,
) -> Stage:
    """A stage of a plan's path: lengths in epochs become steps, the schedule becomes sparsities.

    Args:
        plan: the method's settings; `kind` and `seed` are the task's and the run's.
        steps_per_epoch: optimiser steps in one pass over the rows.
        first: whether this is the path's first stage.
        before: fraction that the stage before has removed; `target` is the fraction to remove.
        latency: the latency to reach, where the path aims at a speed.
        gone: fraction of the base's weights that the student comes without, where masks are over single weights.
    """
    # The intervals of the learning rate, in steps; removals happen inside them. A method that does not train has none.
    bounds = interval_bounds(plan.parts(first_stage=first), steps_per_epoch) or [0]

    removals: dict[int, float] = {}
    starts = plan.removal_steps(bounds=bounds, first_stage=first)
    if starts and target > before:
        removals = dict(zip(starts, sparsity_steps(before, target, len(starts), plan.removal_schedule), strict=True))

    return Stage(
        kind=kind,
        seed=seed,
        sparsity_before=before,
        target=target,
        bounds=tuple(plan.schedule_ends(bounds)),
        decay_ends=tuple(plan.decay_ends(bounds)),
        removals=removals,
        latency=latency,
        gone=gone,
    )


@dataclass(frozen=True)
class Files:
    """Input files of a training stage, and where it keeps what it needs to resume."""

    task: Path
    tokens: Sequence[Path]
    """train.parquet, evaluation.parquet and, where texts without labels are read, unlabelled.parquet; packed rows end in
    .arrow."""
    work: Path
    models: Sequence[Path] = ()
    """Files of the teacher and the starting model, and the latency table, for the record."""
    _: KW_ONLY
    outputs: Sequence[Path] = ()
    """The note on the teacher's stored outputs, where the job reads any."""
    teacher_tokens: Sequence[Path] = ()
    """train.parquet, and unlabelled.parquet, in the teacher's own tokens, where the student reads others; else nothing."""


@dataclass
class Run:
    """One training stage: opens the data, drives the loop, writes history and record."""

    module: str
    """Module of the stage, such as `espalier.stages.training.compress`."""
    spec: TrainingSpec
    settings: Training
    files: Files

    def __post_init__(self) -> None:
        seed_everything(self.spec.seed)
        self.accelerator = accelerator_for(self.spec.machine)
        self.is_main = self.accelerator.is_main_process
        self.task: dict[str, Any] = read_json(self.files.task)

    def open_rows(self, pad: int) -> None:
        """Read the tokenised rows; behind training and evaluation rows there may be a file of texts without labels."""
        train, evaluation, *texts = self.files.tokens
        self.train_rows = open_training_rows([train, *texts], self.spec.goal.kind, self.spec.goal.share, pad, self.spec.seed)
        self.evaluation_rows = open_rows(evaluation, self.spec.goal.kind, pad, FIXED_SEED)

    def fixed_stage(self, epochs: float, gone: float = 0.0) -> Stage:
        """A run of so many epochs in which nothing is removed, of a student that came without a fraction of its base."""
        bounds = interval_bounds([epochs], self._steps_per_epoch) if epochs else [0]
        return Stage(
            kind=self.spec.goal.kind,
            seed=self.spec.seed,
            sparsity_before=0.0,
            target=0.0,
            bounds=tuple(bounds),
            removals={},
            gone=gone,
            first_epoch=self.spec.first_epoch,
        )

    def pruning_stage(self, plan: Plan, first: bool, aim: Aim) -> Stage:
        """A stage of a plan's path."""
        stage = pruning_stage(
            plan=plan,
            kind=self.spec.goal.kind,
            seed=self.spec.seed,
            steps_per_epoch=self._steps_per_epoch,
            first=first,
            before=aim.before,
            target=aim.target,
            latency=aim.latency,
            gone=aim.gone,
        )
        return replace(stage, first_epoch=self.spec.first_epoch)

    @property
    def _steps_per_epoch(self) -> int:
        return steps_of_epoch(self.train_rows.epoch_rows, self.settings.batch_size)

    def train(
        self,
        student: PreTrainedModel,
        method: Method,
        *,
        teacher: Sequence[Path] | None = None,
        masks: Masks | None = None,
        history: Path,
        int8_last: bool = False,
    ) -> dict[str, Any]:
        """Train the student in place, write its history, and return the record.

        Args:
            student, method: what to train, and under whose losses.
            teacher: its files; none where the method needs no teacher.
            masks, history: what was removed from the student before, and where its history goes.
            int8_last: whether linear maps round as in int8 in the last epoch.
        """
        check_writable(history.parent)

        with self._alone():
            distributed.mains(None)  # all processes wait here until the main one holds the folder
            saves = Saves(self.files.work, self._fingerprint(method) if self.is_main else {})
            taught = self._teacher(method, teacher)
            check_finite(student, "the model to start from")

            # Opening models draws random numbers, so the seed is set again before the first step.
            seed_everything(self.spec.seed)
            loop = self._loop(student, method, taught, masks, saves, int8_last)
            with termination() as loop.stop:
                loop.run()
            check_finite(student, "the trained model")

            # From here on the main process works alone.
            distributed.finish()
            if not self.is_main:
                raise WorkerDone

            loop.history.write(history)
            return self._record(loop, method)

    def fine_tune(
        self, plan: AnyPlan, start: Sequence[Path], *, teacher: Sequence[Path], history: Path
    ) -> tuple[PreTrainedModel, Method, dict[str, Any]]:
        """Train an encoder with a new head for all epochs of a plan; nothing is removed. Returns student, method and record."""
        student = open_base(start, self.spec.goal.kind, self.task["classes"])
        self.open_rows(student.config.pad_token_id)
        method = method_class(plan.method)(plan, self.fixed_stage(sum(plan.parts(first_stage=True))))
        return student, method, self.train(student, method, teacher=teacher, history=history)

    def refit(self, small: PreTrainedModel, method: Method, teacher: Sequence[Path]) -> dict[str, Any]:
        """Let the method improve the student that a stage has made, in place; returns what the record says of it."""
        if not (method.refit_rows and method.stage.removes):
            return {"refit": None}

        dense = open_student(teacher, self.spec.goal.kind).requires_grad_(False).eval().to(self.accelerator.device)
        size = self.settings.micro_batch_size
        size = size if isinstance(size, int) else self.settings.batch_size
        return {"refit": refit(method, small, dense, self.train_rows, size)}

    def _teacher(self, method: Method, files: Sequence[Path] | None) -> AnyTeacher | None:
        """The teacher, where the method needs one and there is one."""
        if not method.needs_teacher or not files:
            return None
        model = open_student(files, self.spec.goal.kind)
        rows = self._rows_of_teacher(model.config.pad_token_id)
        return teacher_for(method, model, rows, self.accelerator, self._stored(files))

    def _stored(self, teacher: Sequence[Path]) -> StoredOutputs | None:
        """The teacher's stored outputs, where the job reads any and they are there; says where they come from, and why not."""
        reads = self.settings.reads
        if reads is None or not self.files.outputs:
            return None

        train, _, *texts = self.files.tokens
        note, tokens = self.files.outputs[0], [train, *texts]
        try:
            stored = open_outputs(note, reads, self.train_rows.lengths, digests_of(teacher, tokens))
            said = f"read as {note} says"
        except NotStoredError as error:
            stored, said = None, f"computed by this job: {error}"
        if self.is_main:
            print(f"teacher's outputs: {said}", flush=True)
        return stored

    def _rows_of_teacher(self, pad: int) -> TaskRows:
        """The training rows as the teacher reads them: the same rows in the same order, maybe in other tokens.

        Raises:
            UserError: the other tokens are not of the same rows.
        """
        if not self.files.teacher_tokens:
            return self.train_rows
        goal = self.spec.goal
        rows: Any = open_training_rows(self.files.teacher_tokens, goal.kind, goal.share, pad, self.spec.seed)
        own: Any = self.train_rows
        if not np.array_equal(rows.labels, own.labels):
            path = self.files.teacher_tokens[0]
            raise UserError(f"{path}: its {len(rows)} rows are not the {len(own)} rows of {self.files.tokens[0]}")
        return rows

    def _loop(
        self,
        student: PreTrainedModel,
        method: Method,
        taught: AnyTeacher | None,
        masks: Masks | None,
        saves: Saves,
        int8_last: bool,
    ) -> Loop:
        return Loop(
            student=student,
            method=method,
            rows=self.train_rows,
            settings=self.settings,
            learning_rate=self.settings.learning_rate,
            progress=self.spec.progress,
            accelerator=self.accelerator,
            evaluate=self._evaluator(taught),
            metric=self.spec.goal.metric,
            saves=saves,
            history=History(self.files.work / "history.jsonl"),
            teacher=taught,
            masks=masks,
            int8_last=int8_last,
        )

    def _alone(self) -> AbstractContextManager[None]:
        """The main process holds the work folder for all; where it is refused, the launcher ends the others."""
        return exclusive(self.files.work) if self.is_main else nullcontext()

    def _evaluator(self, taught: AnyTeacher | None) -> Callable[[nn.Module], Scores]:
        """A function that scores a model on the evaluation rows and, if asked for, on a sample of the training rows."""
        goal = self.spec.goal
        # Only a teacher that runs beside the student can be compared with it on evaluation rows.
        teacher = taught.logits if isinstance(taught, LiveTeacher) else None
        tables = [self.evaluation_rows, *self._train_sample()]
        scorers = [evaluator(rows, goal.kind, [goal.metric], self.accelerator, teacher) for rows in tables]

        def scores(model: nn.Module) -> Scores:
            own = {name: values for scorer in scorers for name, values in scorer(model).items()}
            # behind all sets: the first one still selects checkpoints
            return with_mean(own, self.task.get("mean"))

        return scores

    def _train_sample(self) -> list[TokenisedRows]:
        """A fixed part of the training rows, as large as the set that gives the score, where it is to be scored, too.

        Source: docs/methods/spd.md §6.1.
        """
        if not self.settings.evaluate_train:
            return []
        rows: Any = self.train_rows
        return [rows.sample(int((self.evaluation_rows.sets == self.task["sets"][0]).sum()), TRAIN)]

    def finish(self, path: Path, record: dict[str, Any]) -> None:
        """Write the record, last of all outputs, and drop what was kept for resuming."""
        write_json(path, record)
        # The fingerprint goes first: a run that is killed in between leaves no state that a later run would take up.
        self.files.work.joinpath("fingerprint.json").unlink()
        shutil.rmtree(self.files.work)

    def _fingerprint(self, method: Method) -> dict[str, Any]:
        """What the run is; a saved state with another fingerprint is not taken up.

        Device and threads are left out: a run that moves to another machine goes on, if not to the same last bit.
        """
        inputs = [self.files.task, *self.files.tokens, *self.files.models, *self.files.teacher_tokens]

        return {
            "spec_sha256": sha256_text(self.spec.model_dump_json()),
            "code_sha256": code_digest(
                self.module,
                f"{type(method).__module__}:{type(method).__name__}",
                KINDS[self.spec.goal.kind],
            ),
            "inputs": {str(path): sha256(path) for path in inputs},
            "versions": package_versions(PACKAGES),
        }

    def _record(self, loop: Loop, method: Method) -> dict[str, Any]:
        """The content of run.json."""
        selected = {
            "checkpoint": self.settings.checkpoint,
            "set": loop.best.get("set"),
            "step": loop.best.get("step", loop.step),
        }
        return {
            "stage": self.module.rpartition(".")[2],
            "spec": self.spec.model_dump(mode="json"),
            "seed": self.spec.seed,
            **loop.saves.fingerprint,
            "device": str(self.accelerator.device),
            "precision": "bf16" if self.accelerator.mixed_precision == "bf16" else "fp32",
            "processes": self.accelerator.num_processes,
            "threads": torch.get_num_threads(),
            "calibration": loop.calibration or None,
            "train_seconds": round(loop.seconds + loop.calibration.get("seconds", 0.0), 3),
            "samples_per_second": round(loop.step * self.settings.batch_size / loop.seconds, 2) if loop.step else 0.0,
            "steps": loop.step,
            "unlabelled_rows": getattr(self.train_rows, "unlabelled", 0),
            "resumed_at": loop.saves.resumed_at,
            **_used(),
            "selected": selected,
            "git_commit": git_commit(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def _used() -> dict[str, float]:
    """Memory of this process at its peak, shared pages included, and its processor time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    mebibyte = 2**20 if sys.platform == "darwin" else 2**10  # Linux counts in KiB
    return {
        "peak_memory_mib": round(used.ru_maxrss / mebibyte, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 3),
    }
