"""Reading a configuration: all problems are reported together, before Snakemake plans a job."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from espalier.config.blocks import ConfigError, nearest, printable, problem_lines
from espalier.config.chains import chain_problems
from espalier.config.kinds import ANALYSED, FINE_TUNED, KIND_RULES, PACKED, Kind
from espalier.config.kinds.checks import unlabelled_problems
from espalier.config.known_tasks import KNOWN, overlay
from espalier.config.project import Config, for_task
from espalier.config.targets import Timed
from espalier.config.teachers.checks import teacher_problems
from espalier.config.teachers.sources import with_base
from espalier.config.training import Plan, Pretrain, Teacher, Training

NUMBER = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d{1,3}")
"""Numbers that YAML 1.1 reads as text, such as 3e-5; `dvc exp run -S` writes them in this form."""


def parse(raw: dict[str, Any]) -> Config:
    """Check a configuration as read from YAML.

    Raises:
        ConfigError: all problems, one line for each.
    """
    raw = with_base(_numbers(json.loads(json.dumps(raw, default=str))))
    if unwritable := list(_unwritable(raw, "")):
        raise ConfigError(unwritable)

    problems = _unknown_tasks(raw)
    if isinstance(raw.get("tasks"), dict):
        blocks = {str(name): {} if block is None else block for name, block in raw["tasks"].items()}
        raw["tasks"] = {name: overlay(name, block) if isinstance(block, dict) else block for name, block in blocks.items()}

    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        reported = tuple(problem.split(":")[0] for problem in problems)
        raise ConfigError(
            problems + [line for line in problem_lines(error, Config) if not (reported and line.startswith(reported))]
        ) from None

    problems += _other_bases(config)
    problems += (
        _not_built_in(config) + _per_task_problems(config) + _plans_without_task(config) + _speeds_without_measure(config)
    )

    # these checks look settings up by task and plan, which must be right first
    problems += [] if problems else teacher_problems(config)
    problems += [] if problems else _train_scores_without_labels(config) + _padding_below_rows(config) + _torn_pairs(config)
    problems += _analyses_of_nothing(config)
    problems += [] if problems else chain_problems(config)
    problems += [] if problems else unlabelled_problems(config)
    if problems:
        raise ConfigError(problems)
    return config


def _numbers(value: Any) -> Any:
    """The value with texts such as 3e-5 turned into numbers."""
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    return float(value) if isinstance(value, str) and NUMBER.fullmatch(value) else value


def _unwritable(value: Any, place: str) -> Iterator[str]:
    """Problems of texts with half of a surrogate pair, such as "\\ud800": they can stand in no file and in no command."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _unwritable(key, place)
            yield from _unwritable(inner, f"{place}.{key}".removeprefix("."))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _unwritable(inner, f"{place}.[{number}]")
    elif isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
        yield printable(f"{place or 'the configuration'}: got {value!r}; allowed: whole Unicode characters")


def _unknown_tasks(raw: dict[str, Any]) -> list[str]:
    """Problems of tasks that are neither known nor described."""
    tasks = raw.get("tasks")
    if not isinstance(tasks, dict):
        return []
    return [
        f"tasks.{name}: not a known task{nearest(name, list(KNOWN))}; known: {', '.join(KNOWN)}; "
        "a task of your own needs kind, source, text, label and metric"
        for name, block in tasks.items()
        if name not in KNOWN and not (isinstance(block, dict) and "kind" in block)
    ]


def _not_built_in(config: Config) -> list[str]:
    """Problems of tasks with source builtin that are not built in."""
    known = [name for name, block in KNOWN.items() if block["source"] == "builtin"]
    return [
        f"tasks.{name}.source: there is no built-in task of this name{nearest(name, known)}; built in: {', '.join(known)}"
        for name, task in config.tasks.items()
        if task.source == "builtin" and name not in known
    ]


def _other_bases(config: Config) -> list[str]:
    """Problems of plans whose students are made from another base: there must be that one, and one to compress."""
    known, others = list(config.bases), config.ready_made
    problems = [
        f"plans.{name}.base: got '{base}'; allowed: {', '.join(known)}{nearest(base, known)}"
        for name, base in others.items()
        if base not in known
    ]
    if not config.compressed_bases:
        names = ", ".join(others)
        problems.append(f"bases: every base is the start of a ready-made plan ({names}), so there is none to compress")
    return problems


def _per_task_problems(config: Config) -> list[str]:
    """Problems of settings for single tasks: every combination of settings and task is checked."""
    problems = []
    owners: list[tuple[str, Teacher | Pretrain | Plan, Iterable[Kind]]] = [
        ("teacher", config.teacher, FINE_TUNED),
        ("pretrain", config.pretrain, PACKED),
        *((f"plans.{name}", plan, plan.kinds) for name, plan in config.plans.items()),
    ]
    for place, settings, kinds in owners:
        for task in settings.per_task:
            where = f"{place}.per_task.{task}"
            if task not in config.tasks:
                problems.append(f"{where}: no such task{nearest(task, list(config.tasks))}; allowed: {', '.join(config.tasks)}")
                continue
            if (kind := config.tasks[task].kind) not in kinds:
                problems.append(f"{where}: {place} works on tasks of kind {', '.join(sorted(kinds))}; {task} is of kind {kind}")
                continue
            if fixed := ({"path", "method", "base"} if isinstance(settings, Plan) else set()) & settings.per_task[task].keys():
                problems.append(f"{where}: {', '.join(sorted(fixed))} cannot differ between tasks; make another plan")
                continue
            try:
                for_task(settings, task)
            except ValidationError as error:
                problems += problem_lines(error, type(settings), where)
    return problems


def _plans_without_task(config: Config) -> list[str]:
    """Problems of plans that fit no task."""
    kinds = sorted({task.kind for task in config.tasks.values()})
    problems = []
    for name, plan in config.plans.items():
        if not plan.kinds & set(kinds):
            reasons = dict.fromkeys(filter(None, map(plan.why_not_on, kinds)))
            said = f"method {plan.method} works on tasks of kind {', '.join(sorted(plan.kinds))}"
            problems.append("; ".join([f"plans.{name}: {said}", f"the tasks here are of kind {', '.join(kinds)}", *reasons]))
    return problems


def _analyses_of_nothing(config: Config) -> list[str]:
    """Problems of analyses that would never run."""
    known, problems = list(config.plans), []
    for name in config.analyses:
        if name not in config.plans:
            there = f"no such plan{nearest(name, known)}; allowed: {', '.join(known)}" if known else "there are no plans"
            problems.append(f"analyses.{name}: {there}")
        elif name in config.ready_made:
            problems.append(f"analyses.{name}: its students are made from another base; analyses compare layers of one base")
        elif not config.plans[name].kinds & set(ANALYSED) & {task.kind for task in config.tasks.values()}:
            problems.append(f"analyses.{name}: this plan runs on no task of kind {', '.join(ANALYSED)}")
    return problems


def _train_scores_without_labels(config: Config) -> list[str]:
    """Problems of evaluate_train on spans, whose training rows lack gold answers, and on text, masked anew each epoch."""
    problems = []
    for task in config.tasks_of(*(KIND_RULES.keys() - set(ANALYSED))):
        kind = config.tasks[task].kind
        settings: dict[str, Training] = {}
        if kind in PACKED:
            settings["pretrain"] = config.pretrain_for(task)
        elif kind in FINE_TUNED:
            settings["teacher"] = config.teacher_for(task)
        settings |= {f"plans.{name}": config.plan_for(name, task) for name, plan in config.plans.items() if kind in plan.kinds}
        problems += [
            f"{place}.evaluate_train: task {task} is of kind {kind}; allowed for {', '.join(ANALYSED)}"
            for place, run in settings.items()
            if run.evaluate_train
        ]
    return problems


def _torn_pairs(config: Config) -> list[str]:
    """Problems of micro-batches on tasks whose loss compares rows of a batch: part of the pairs would be lost."""
    problems = []
    for task, block in config.tasks.items():
        if block.loss != "pairwise":
            continue
        settings: dict[str, Training] = {"teacher": config.teacher_for(task)}
        plans = [name for name, plan in config.plans.items() if block.kind in plan.kinds]
        settings |= {f"plans.{name}": config.plan_for(name, task) for name in plans}
        for place, run in settings.items():
            size = run.micro_batch_size
            if size == "auto" or (size and size < run.batch_size):
                problems.append(
                    f"{place}.micro_batch_size: got {size}; loss pairwise of task {task} compares texts of a whole batch of "
                    f"{run.batch_size} rows; lower batch_size instead, use more processes, or write loss: pointwise"
                )
    return problems


def _padding_below_rows(config: Config) -> list[str]:
    """Problems of batches that are to be padded to fewer tokens than a row of the task may have."""
    problems = []
    for name, plan in config.plans.items():
        for task in config.tasks_of(*plan.kinds):
            length, most = getattr(config.plan_for(name, task), "pad_to", None), config.tasks[task].max_length
            if length is not None and length < most:
                problems.append(
                    f"plans.{name}.pad_to: got {length}, but rows of {task} have up to {most} tokens; allowed: {most} or more, "
                    f"or null; or lower tasks.{task}.max_length"
                )
    return problems


def _speeds_without_measure(config: Config) -> list[str]:
    """Problems of targets of speed that `measure` does not time at their batch size and length."""
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
