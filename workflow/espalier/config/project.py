"""The whole configuration: read, checked and resolved before Snakemake sees a job."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from espalier.config.base import Block, ConfigError, Many, Name, describe, nearest
from espalier.config.data import Base, Kind, Task
from espalier.config.methods import AnyPlan
from espalier.config.plans import Plan, Pretrain, Teacher
from espalier.config.targets import Timed
from espalier.tasks import KNOWN, overlay

Settings = TypeVar("Settings", bound=Teacher | Pretrain | Plan)
RESERVED_BASES = ("bases", "prepared", "latency")
TEACHER = "teacher"
"""Name of the pseudo-plan under which teachers are stored; its percent is 0."""


class Measure(Block):
    """How latency is measured, in PyTorch eager and in onnxruntime; the median and the quartiles are reported."""

    batch_sizes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Many, Field(min_length=1)] = (1, 32)
    """Batches to time. The table has columns for 1 and 32."""
    length: Annotated[int, Field(ge=8)] = 128
    """Tokens a row, all real."""
    repeats: Annotated[int, Field(ge=3)] = 10
    """Timed forward passes of each model in each runtime, alternating between student and dense teacher."""


class Progress(Block):
    """How often a training run writes."""

    log_every: Annotated[int, Field(ge=1)] = 20
    """Optimiser steps between two rows of history; losses are checked for divergence at the same time, and the state is
    saved every tenth time, so a killed run loses at most ten times as many steps."""


class Config(Block):
    """One study: every base on every task with every seed, its teacher and every plan."""

    project: Name
    """Name of the folder under results/."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Many, Field(min_length=1)] = (42,)
    """One teacher and one run of every plan for each seed."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto takes bf16 where the device computes it natively."""
    bases: Annotated[dict[Name, Base], Field(min_length=1)]
    """Pre-trained encoders."""
    tasks: Annotated[dict[Name, Task], Field(min_length=1)]
    """Data sets; a known name may have an empty block."""
    teacher: Teacher = Teacher()
    """Fine-tuning of the teachers."""
    pretrain: Pretrain = Pretrain()
    """Making of the teachers of text tasks."""
    plans: dict[Name, AnyPlan]
    """A name for a method, its settings and a path of targets."""
    measure: Measure = Measure()
    """How latency is measured."""
    progress: Progress = Progress()
    """How often a training run writes."""

    @model_validator(mode="after")
    def _names(self) -> Self:
        for base in self.bases:
            if base in RESERVED_BASES:
                raise ValueError(f"bases.{base}: this name is taken by the project itself; choose another")
        if TEACHER in self.plans:
            raise ValueError(f"plans.{TEACHER}: this name is taken by the teacher itself; choose another")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: each seed once, got {list(self.seeds)}")
        return self

    def tasks_of(self, *kinds: Kind) -> list[str]:
        """Tasks of these kinds."""
        return [name for name, task in self.tasks.items() if task.kind in kinds]

    def teacher_for(self, task: str) -> Teacher:
        """The teacher's settings with what `per_task` says of this task."""
        return _for_task(self.teacher, task)

    def pretrain_for(self, task: str) -> Pretrain:
        """The settings of a text task's teacher with what `per_task` says of this task."""
        return _for_task(self.pretrain, task)

    def plan_for(self, plan: str, task: str) -> Plan:
        """A plan's settings with what `per_task` says of this task."""
        return _for_task(self.plans[plan], task)


def _for_task(settings: Settings, task: str) -> Settings:
    fields = json.loads(settings.model_dump_json())
    changes = fields.pop("per_task").get(task, {})
    return type(settings).model_validate(_merge(fields, changes))


def _merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """`new` over `old`, block by block."""
    both = {key: _merge(old[key], new[key]) for key in old.keys() & new.keys() if isinstance(old[key], dict)}
    return {**old, **new, **both}


def parse(raw: dict[str, Any]) -> Config:
    """Check a configuration as read from YAML.

    Raises:
        ConfigError: with every problem found, one line each.
    """
    raw = json.loads(json.dumps(raw, default=str))
    problems = _unknown_tasks(raw)
    if isinstance(raw.get("tasks"), dict):
        blocks = {str(name): {} if block is None else block for name, block in raw["tasks"].items()}
        raw["tasks"] = {name: overlay(name, block) if isinstance(block, dict) else block for name, block in blocks.items()}
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        reported = tuple(problem.split(":")[0] for problem in problems)
        raise ConfigError(
            problems + [line for line in describe(error, Config) if not (reported and line.startswith(reported))]
        ) from None
    problems += _per_task_problems(config) + _plans_without_task(config) + _speeds_without_measure(config)
    if problems:
        raise ConfigError(problems)
    return config


def _unknown_tasks(raw: dict[str, Any]) -> list[str]:
    tasks = raw.get("tasks")
    if not isinstance(tasks, dict):
        return []
    return [
        f"tasks.{name}: not a known task{nearest(name, list(KNOWN))}; known: {', '.join(KNOWN)}; "
        "a task of your own needs kind, source, text, label and metric"
        for name, block in tasks.items()
        if name not in KNOWN and not (isinstance(block, dict) and "kind" in block)
    ]


def _per_task_problems(config: Config) -> list[str]:
    """Check every combination of settings and task that will run."""
    problems = []
    owners: list[tuple[str, Block]] = [
        ("teacher", config.teacher),
        ("pretrain", config.pretrain),
        *((f"plans.{name}", plan) for name, plan in config.plans.items()),
    ]
    for place, settings in owners:
        for task in settings.per_task:
            where = f"{place}.per_task.{task}"
            if task not in config.tasks:
                problems.append(f"{where}: no such task{nearest(task, list(config.tasks))}; allowed: {', '.join(config.tasks)}")
                continue
            if fixed := {"path", "method"} & settings.per_task[task].keys():
                problems.append(f"{where}: {', '.join(sorted(fixed))} cannot differ between tasks; make another plan")
                continue
            try:
                _for_task(settings, task)
            except ValidationError as error:
                problems += describe(error, type(settings), where)
    return problems


def _plans_without_task(config: Config) -> list[str]:
    """A plan that would never run is a mistake."""
    kinds = {task.kind for task in config.tasks.values()}
    return [
        f"plans.{name}: method {plan.method} works on tasks of kind {', '.join(sorted(plan.kinds))}; "
        f"the tasks here are of kind {', '.join(sorted(kinds))}"
        for name, plan in config.plans.items()
        if not plan.kinds & kinds
    ]


def _speeds_without_measure(config: Config) -> list[str]:
    """A speed that a plan aims at must be measured on its students, at the same batch size and length."""
    measure, problems = config.measure, []
    for name, plan in config.plans.items():
        place, target = f"plans.{name}.path", plan.path[0]
        if isinstance(target, Timed) and target.batch_size not in measure.batch_sizes:
            sizes = sorted({*measure.batch_sizes, target.batch_size})
            problems.append(f"{place}: batch_size {target.batch_size} is not measured; write measure.batch_sizes: {sizes}")
        if isinstance(target, Timed) and target.length != measure.length:
            problems.append(
                f"{place}: length {target.length} is not measured; write measure.length: {target.length}, "
                f"or length: {measure.length} here"
            )
    return problems
