"""Plans that start from students of other plans: which student a stage starts from, and whether that is possible."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from espalier.config.blocks import nearest
from espalier.config.project import Config
from espalier.config.starts import Source, SourceAt
from espalier.config.targets import Target, number_of, percent_of, position, stage_of, target_key
from espalier.config.training import Plan


class Student(NamedTuple):
    """A stage of a plan's path on a task."""

    task: str
    plan: str
    percent: str

    def __str__(self) -> str:
        return "/".join(self)


def tasks_for(config: Config, plan: str) -> list[str]:
    """Tasks that a plan runs on: tasks of its kinds, and only tasks with a student to start from if it starts from one."""
    return [task for task in config.tasks if runs_on(config, plan, task)]


def runs_on(config: Config, plan: str, task: str) -> bool:
    """Whether a plan runs on a task."""
    return _runs_on(config, plan, task, ())


def students_of(config: Config) -> list[Student]:
    """Every stage of every plan on every task that it runs on."""
    return [
        Student(task, name, percent_of(target))
        for name, plan in config.plans.items()
        for task in tasks_for(config, name)
        for target in plan.path
    ]


def _runs_on(config: Config, plan: str, task: str, seen: tuple[str, ...]) -> bool:
    if plan in seen or config.tasks[task].kind not in config.plans[plan].kinds:
        return False
    start = config.plan_for(plan, task).start
    if not isinstance(start, Source):
        return True
    source = source_task(config, start, task)
    return source is not None and _runs_on(config, start.plan, source, (*seen, plan))


def source_task(config: Config, start: Source, task: str) -> str | None:
    """Task of the student that a plan starts from: the same task, or the text task; None if there is no such student."""
    kinds = config.plans[start.plan].kinds
    if config.tasks[task].kind in kinds:
        return task

    texts = config.tasks_of("text") if "text" in kinds else []
    if start.task is not None:
        return start.task if start.task in texts else None
    return texts[0] if len(texts) == 1 else None


def source_of(config: Config, student: Student) -> Student | None:
    """Student of another plan that a student's path began with; None if it began with the base or the teacher."""
    start = config.plan_for(student.plan, student.task).start
    if not isinstance(start, Source):
        return None
    at = percent_of(start.at) if isinstance(start, SourceAt) else student.percent
    return Student(source_task(config, start, student.task), start.plan, at)


def student_before(config: Config, student: Student) -> Student | None:
    """Student that a stage starts from, of the stage before or of another plan; None for the base and the teacher."""
    plan = config.plan_for(student.plan, student.task)
    _, before = stage_of(plan.path, student.percent)
    if before is not None and plan.chain:
        return student._replace(percent=percent_of(before))
    return source_of(config, student)


def epochs_to(config: Config, student: Student, *, included: bool) -> int:
    """Passes over the rows that a plan's path has begun when a stage begins, or, with `included`, when the stage ends."""
    plan = config.plan_for(student.plan, student.task)
    before = [percent_of(target) for target in plan.path].index(student.percent) if plan.chain else 0
    return math.ceil(sum(sum(plan.parts(first_stage=not stage)) for stage in range(before + included)))


def share_of(config: Config, task: str, plan: str) -> float | None:
    """Part of an epoch's rows that has no labels, for a plan on a task; None where the plan reads no such rows."""
    unlabelled = config.tasks[task].unlabelled
    return unlabelled.share if unlabelled and config.plan_for(plan, task).distils else None


def target_of(config: Config, student: Student) -> Target:
    """Target of a student."""
    return stage_of(config.plans[student.plan].path, student.percent)[0]


def chain_problems(config: Config) -> list[str]:
    """Problems of plans that start from students of other plans, one line for each."""
    problems: dict[str, None] = {}
    for name, plan in config.plans.items():
        for task in config.tasks_of(*plan.kinds):
            start = config.plan_for(name, task).start
            if isinstance(start, Source):
                problems |= dict.fromkeys(_start_problems(config, f"plans.{name}", plan, start, task))

    # shapes can be followed only if every plan has a student to start from
    return list(problems) or list(dict.fromkeys(_shape_problems(config)))


def _start_problems(config: Config, place: str, plan: Plan, start: Source, task: str) -> Iterator[str]:
    """Problems of one plan on one task. The first kind of problem hides the others, which may follow from it."""
    if start.plan not in config.plans:
        known = list(config.plans)
        yield f"{place}.start.plan: got '{start.plan}'; allowed: {', '.join(known)}{nearest(start.plan, known)}"
    elif config.plans[start.plan].rule == "adopt":
        yield f"{place}.start.plan: got '{start.plan}'; its students are made from another base, so nothing goes on from them"
    elif circle := _circle(config, place.removeprefix("plans."), task):
        yield f"{place}.start.plan: plans start from each other: {' → '.join(circle)}"
    elif problem := _task_problem(config, place, plan, start, task):
        yield problem
    else:
        yield from _target_problems(place, plan, start, config.plans[start.plan])


def _circle(config: Config, plan: str, task: str) -> list[str]:
    """The plans of a circle that begins and ends with this plan, or an empty list."""
    seen = [plan]
    start = config.plan_for(plan, task).start
    while isinstance(start, Source) and start.plan in config.plans:
        seen.append(start.plan)
        if start.plan == plan:
            return seen
        task = source_task(config, start, task)
        if task is None or start.plan in seen[:-1]:
            return []
        start = config.plan_for(start.plan, task).start
    return []


def _task_problem(config: Config, place: str, plan: Plan, start: Source, task: str) -> str | None:
    """Problem if there is no task on which the student to start from is made, or more than one."""
    source, kind = config.plans[start.plan], config.tasks[task].kind
    texts = config.tasks_of("text")

    if plan.rule == "specialise" and "text" not in source.kinds:
        return f"{place}.start.plan: got '{start.plan}'; method {plan.method} starts from students of text tasks"
    if kind in source.kinds:
        return f"{place}.start.task: plan {start.plan} works on {task} itself; leave task out" if start.task else None

    if "text" not in source.kinds:
        if plan.kinds & source.kinds & {block.kind for block in config.tasks.values()}:
            return None  # the plan runs only on the other tasks
        kinds = ", ".join(sorted(source.kinds))
        return f"{place}.start.plan: plan {start.plan} works on tasks of kind {kinds}, not on {task}, which is of kind {kind}"

    if start.task is None and len(texts) > 1:
        return f"{place}.start.task: missing; plan {start.plan} works on several text tasks: {', '.join(texts)}"
    if start.task is not None and start.task not in texts:
        allowed = ", ".join(texts)
        return f"{place}.start.task: got '{start.task}'; allowed: {allowed}{nearest(start.task, texts)}"
    return None


def _target_problems(place: str, plan: Plan, start: Source, source: Plan) -> Iterator[str]:
    """Problems of targets that the other plan does not have, or that do not go on from its student."""
    there = {percent_of(target): target for target in source.path}
    said = ", ".join(str(number_of(target)) for target in source.path)
    if not isinstance(start, SourceAt):
        for target in plan.path:
            if percent_of(target) not in there or target_key(target) != target_key(source.path[0]):
                yield f"{place}.path: got {number_of(target)}; the path of plan {start.plan} has {said}"
        return
    if there.get(percent_of(start.at)) != start.at:
        yield f"{place}.start.at: got {number_of(start.at)}; the path of plan {start.plan} has {said}"
        return

    # the path goes on from one student: the same kind of target, and a smaller model
    first, reached = plan.path[0], start.at
    if number_of(reached) and target_key(first) != target_key(reached):
        own, other = target_key(first), target_key(reached)
        yield f"{place}.path: has targets of kind {own}, but plan {start.plan} has {other}; use one kind"
    elif target_key(first) == target_key(reached) and position(percent_of(first)) <= position(percent_of(reached)):
        yield (
            f"{place}.path: got {number_of(first)}, which is not beyond {number_of(reached)}, where plan {start.plan} ends; "
            "targets count against the base"
        )

    # masks of single weights go on, and the embeddings have a mask or not
    if source.removes == plan.removes == "weights" and getattr(plan, "prune_embeddings", False) != getattr(
        source, "prune_embeddings", False
    ):
        yield f"{place}.prune_embeddings: must be as in plan {start.plan}, whose masks go on"


def _shape_problems(config: Config) -> Iterator[str]:
    """Problems of plans that would never run, and of plans whose method cannot go on from a smaller student."""
    for name in config.plans:
        tasks = tasks_for(config, name)
        if not tasks:
            yield f"plans.{name}: no task has a student to start from"
        for task in tasks:
            plan, removed = config.plan_for(name, task), _removed(config, name, task)
            place = f"plans.{name}.start.plan"
            if plan.needs_whole and "structure" in removed:
                yield f"{place}: its students are smaller than the teacher, whose hidden states {_method_said(plan)} compares"
            if plan.removes == "structure" and {"weights", "structure"} <= removed:
                yield f"{place}: single weights were removed from a smaller model, so it is not known what is left of the base"
            if plan.removes == "structure" and plan.keeps_layers_alike and (unlike := _of_unlike_layers(config, name, task)):
                yield f"{place}: layers: equal goes on from layers that are alike; those of plan {unlike} may differ in size"
            if (
                plan.removes == "structure"
                and not plan.goes_on_from_rows
                and (narrowed := _of_narrowed_heads(config, name, task))
            ):
                yield f"{place}: heads of plan {narrowed} have lost single dimensions; only grain prunes further"


def _of_unlike_layers(config: Config, plan: str, task: str) -> str | None:
    """The plan among those whose students a plan starts from that gives every layer a size of its own."""
    while isinstance(start := config.plan_for(plan, task).start, Source):
        plan, task = start.plan, source_task(config, start, task)
        if not config.plan_for(plan, task).keeps_layers_alike:
            return plan
    return None


def _of_narrowed_heads(config: Config, plan: str, task: str) -> str | None:
    """The plan among those whose students a plan starts from that removes single dimensions of heads."""
    while isinstance(start := config.plan_for(plan, task).start, Source):
        plan, task = start.plan, source_task(config, start, task)
        if config.plan_for(plan, task).leaves_rows:
            return plan
    return None


def _method_said(plan: Plan) -> str:
    """A method, with its objective if it has several."""
    return f"method {plan.method}" + (f" with objective {plan.objective}" if hasattr(plan, "objective") else "")


def _removed(config: Config, plan: str, task: str) -> set[str]:
    """What was removed by the plans whose students a plan starts from, one after another."""
    removed: set[str] = set()
    while isinstance(start := config.plan_for(plan, task).start, Source):
        plan, task = start.plan, source_task(config, start, task)
        removed.add(config.plans[plan].removes)
    return removed
