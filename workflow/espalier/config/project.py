"""The whole configuration, checked and resolved before Snakemake plans a job."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from espalier.config.blocks import Block, Many, Name
from espalier.config.data import Base, Task
from espalier.config.deployment.settings import Deploy
from espalier.config.kinds import Kind
from espalier.config.methods import AnyPlan
from espalier.config.methods.ready_made import ReadyMadePlan
from espalier.config.teacher_outputs import TeacherOutputs
from espalier.config.training import Plan, Pretrain, Teacher

Settings = TypeVar("Settings", bound=Teacher | Pretrain | Plan)
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
Analysis = Literal["representations", "errors", "weights"]
"""Questions that can be asked about a student besides its quality and cost."""
RESERVED_BASES = ("bases", "prepared", "latency", "records", "teachers")
TEACHER = "teacher"
"""Name of the pseudo-plan under which teachers are stored; its percent is 0."""
LINEAR = "linear"
"""Name of the pseudo-plan, and of its method, under which a task's linear model stands in tables."""
READY_MADE = "ready-made"
"""Method of plans whose students are made from another base."""
RIVALS = (LINEAR, READY_MADE)
"""Methods whose models are no students of the base: what one could take instead of a smaller one."""


class Measure(Block):
    """How latency is measured. Every model is timed beside its dense teacher, in PyTorch eager and in onnxruntime; medians and
    quartiles are reported."""

    batch_sizes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Many, Field(min_length=1)] = (1, 32)
    """Batch sizes to time; the table has columns for 1 and 32. [rows; ours]"""
    length: Annotated[int, Field(ge=8)] = 128
    """Tokens of every timed row, without padding. [tokens; ours]"""
    repeats: Annotated[int, Field(ge=3)] = 10
    """Least number of timed forward passes of each model in each runtime. Student and dense teacher take turns. Short passes
    are made more often, until their medians are certain to half a percent or both models took two seconds. [passes; ours]"""


class Rivals(Block):
    """What one could take instead of a smaller model; each rival has a row in the table and stands in the pictures. A small
    encoder that others trained is a rival, too: a plan of method ready-made."""

    linear: bool = True
    """Fit a linear model on words and characters to the rows of every task of kind classification, regression,
    multilabel or ranking. On 20,000 sentences that takes some minutes of one core. [ours]"""


class Progress(Block):
    """How often a training run writes its history. The history is a result, so a change runs the training again."""

    log_every: Annotated[int, Field(ge=1)] = 20
    """Optimiser steps between two rows of the history; losses are checked for divergence at the same time. The state is saved
    with every tenth row, so a killed run loses at most ten times this number of steps. [steps; ours]"""


class Config(Block):
    """One study: every base on every task with every seed, its teacher and every plan."""

    project: Name
    """Name of the study, and of its folder under results/. [name]"""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Many, Field(min_length=1)] = (42,)
    """Seeds of the random numbers; every seed has its own teacher and its own run of every plan. [seeds; ours: SDP's
    specification asks for 42, 43, 44]"""
    device: Device = "auto"
    """Where models compute; auto takes a GPU if there is one, and the CPU otherwise. [ours]"""
    precision: Precision = "auto"
    """Number format of training, of the evaluations inside it and of analyses; auto takes bf16 if the device computes it
    natively, and fp32 otherwise. Scores of exported models are always computed in fp32. [ours]"""
    processes: Annotated[int, Field(ge=1)] = 1
    """Processes that share the batches of one training job, each with its own GPU if there are GPUs. Results depend on it only
    by rounding, so a change runs nothing again. [processes; ours]"""
    bases: Annotated[dict[Name, Base], Field(min_length=1)]
    """Pre-trained encoders, each under a name of your choice. May be left out where `teacher` names a fine-tuned checkpoint,
    which is then the only base, under the name `own`. [name → base]"""
    tasks: Annotated[dict[Name, Task], Field(min_length=1)]
    """Data sets; a known task may have an empty block. [name → task]"""
    teacher: Teacher = Teacher()
    """The teachers: fine-tuned here, or fine-tuned already. [ours]"""
    pretrain: Pretrain = Pretrain()
    """Training of the teachers of text tasks. [ours]"""
    teacher_outputs: TeacherOutputs = TeacherOutputs()
    """Whether teachers' outputs are stored once for all jobs that read them. [ours]"""
    plans: dict[Name, AnyPlan]
    """Compressions; a plan is a method with its settings and a path of targets. [name → plan]"""
    analyses: dict[Name, Annotated[tuple[Analysis, ...], Many, Field(min_length=1)]] = Field(default_factory=dict)
    """Further questions about the students of a plan, on tasks of kind classification and regression; each has a section in the
    report. representations: class separability and signal-to-noise ratio. errors: how errors of single layers add up, for
    students as deep and as wide as their teacher. weights: implicit sparsity and one-shot pruning. [plan → analyses; ours]"""
    measure: Measure = Measure()
    """How latency is measured. [ours]"""
    rivals: Rivals = Rivals()
    """What one could take instead of a smaller model. [ours]"""
    deploy: Deploy = Deploy()
    """In which formats models are served. [ours]"""
    progress: Progress = Progress()
    """How often a training run writes its history. [ours]"""

    @model_validator(mode="after")
    def _names(self) -> Self:
        for base in self.bases:
            if base in RESERVED_BASES:
                raise ValueError(f"bases.{base}: this name is taken by the project itself; choose another")
        if TEACHER in self.plans:
            raise ValueError(f"plans.{TEACHER}: this name is taken by the teacher itself; choose another")
        if LINEAR in self.plans:
            raise ValueError(f"plans.{LINEAR}: this name is taken by the linear model; choose another")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: a seed occurs twice, got {list(self.seeds)}")
        return self

    @property
    def is_analysed(self) -> bool:
        """Whether students are analysed, or training is watched for overfitting or for recovery from removals."""
        settings = [self.teacher, *(self.plan_for(plan, task) for plan in self.plans for task in self.tasks)]
        return bool(self.analyses) or any(run.evaluate_train or getattr(run, "evaluate_removals", False) for run in settings)

    def tasks_of(self, *kinds: Kind) -> list[str]:
        """Names of the tasks of these kinds."""
        return [name for name, task in self.tasks.items() if task.kind in kinds]

    @property
    def linear_tasks(self) -> list[str]:
        """Names of the tasks that have a linear model beside their students."""
        return [name for name, task in self.tasks.items() if self.rivals.linear and not task.rules.no_linear]

    @property
    def ready_made(self) -> dict[str, str]:
        """Plan → the other base that its students are made from, for the plans that have one."""
        return {name: plan.base for name, plan in self.plans.items() if isinstance(plan, ReadyMadePlan)}

    @property
    def compressed_bases(self) -> list[str]:
        """Names of the bases that have teachers and plans: all but those that students are made from."""
        others = self.ready_made.values()
        return [base for base in self.bases if base not in others]

    def teacher_for(self, task: str) -> Teacher:
        """The teacher's settings for a task, with `per_task` applied."""
        return for_task(self.teacher, task)

    def teacher_on(self, base: str, task: str) -> Teacher:
        """The teacher's settings for a base on a task, with `per_task` and then `per_base` applied."""
        return for_base(self.teacher_for(task), base)

    def pretrain_for(self, task: str) -> Pretrain:
        """The settings of a text task's teacher, with `per_task` applied."""
        return for_task(self.pretrain, task)

    def plan_for(self, plan: str, task: str) -> Plan:
        """A plan's settings for a task, with `per_task` applied."""
        return for_task(self.plans[plan], task)


def for_task(settings: Settings, task: str) -> Settings:
    """Settings for a task, with `per_task` applied and then emptied."""
    if task not in settings.per_task:
        return settings.model_copy(update={"per_task": {}})  # type: ignore[return-value]  # Settings is one class of three

    return _changed(settings, "per_task", task)


def for_base(teacher: Teacher, base: str) -> Teacher:
    """A teacher's settings for a base, with `per_base` applied and then emptied."""
    if base not in teacher.per_base:
        return teacher.model_copy(update={"per_base": {}})
    return _changed(teacher, "per_base", base)


def _changed(settings: Settings, key: str, name: str) -> Settings:
    """Settings with the changes that stand under a name in one of their blocks."""
    # through JSON, so that the block is validated again as if it came from the file
    fields = json.loads(settings.model_dump_json())
    changes = fields.pop(key)[name]

    if isinstance(settings, Teacher):
        fields |= _left_out(key, fields, changes)
    return type(settings).model_validate(_merge(fields, changes))  # type: ignore[return-value]  # Settings is one class of three


def _left_out(key: str, fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """What a teacher loses where a task or a base names a checkpoint: nothing that says where another one is goes with it."""
    lost: dict[str, Any] = {}
    if {"source", "path", "id", "revision"} & changes.keys():
        lost = dict.fromkeys(("path", "id", "revision", "sha256"))
        lost |= {"per_base": {}} if key == "per_task" else {}
    elif key == "per_task":
        lost = {"per_base": {base: own for base, own in fields["per_base"].items() if base not in changes.get("per_base", {})}}
    return lost


def _merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """`new` over `old`, block by block."""
    blocks = [key for key in old.keys() & new.keys() if isinstance(old[key], dict) and isinstance(new[key], dict)]
    return {**old, **new, **{key: _merge(old[key], new[key]) for key in blocks}}
