"""What plans and tasks of a study cannot do together where rows have no labels, and what is left aside."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.chains import runs_on
from espalier.config.methods.sdp import SdpPlan
from espalier.config.methods.spd import SpdPlan
from espalier.config.project import Config
from espalier.config.training import Plan


def unlabelled_problems(config: Config) -> list[str]:
    """Problems of plans on tasks whose rows, or some of whose rows, have no labels."""
    problems: list[str] = []
    for task, block in config.tasks.items():
        plans = _plans_on(config, task)
        if block.rules.vectors:
            problems += [problem for name, plan in plans.items() if (problem := _of_vectors(name, plan, task))]
        if block.unlabelled:
            problems += _of_mixed(config, task, plans)
    return problems


def left_aside(config: Config) -> list[str]:
    """A line for every plan that leaves texts without labels, or a whole task without labels, aside."""
    lines = []
    for task, block in config.tasks.items():
        if block.unlabelled:
            said = "nothing in its loss compares with the teacher, so it trains on the rows with labels alone"
            idle = [name for name, plan in _plans_on(config, task).items() if not plan.distils]
            lines += [f"plans.{name} leaves tasks.{task}.unlabelled aside: {said}" for name in idle]
        if block.rules.vectors:
            others = [name for name, plan in config.plans.items() if block.kind not in plan.kinds]
            lines += [
                f"plans.{name} does not run on {task}, of kind {block.kind}: {config.plans[name].no_vectors}" for name in others
            ]
    return lines


def _plans_on(config: Config, task: str) -> dict[str, Plan]:
    """The plans that run on a task, with its own settings."""
    return {name: config.plan_for(name, task) for name in config.plans if runs_on(config, name, task)}


def _of_vectors(name: str, plan: Plan, task: str) -> str | None:
    """Problem of a plan that would learn nothing of vectors, or another vector than the models give."""
    if not plan.distils:
        return (
            f"plans.{name}: method {plan.method} compares with no output of the teacher as it is set, and rows of {task} have "
            "no labels, so nothing would be learned; give a term on the teacher's outputs a weight"
        )
    if isinstance(plan, SdpPlan) and plan.needs_whole and plan.representation != "mean":
        return (
            f"plans.{name}.representation: got {plan.representation}; models of {task} give the mean over all tokens; allowed: "
            f"mean (for this task alone: per_task: {{{task}: {{representation: mean}}}})"
        )
    return None


def _of_mixed(config: Config, task: str, plans: dict[str, Plan]) -> Iterator[str]:
    """Problems of texts without labels that nobody would read, or that a term would compare with labels."""
    if not any(plan.distils for plan in plans.values()):
        named = ", ".join(plans) or "none"
        yield (
            f"tasks.{task}.unlabelled: no plan on this task compares with the teacher's outputs, so nothing would read these "
            f"texts; plans here: {named}"
        )
    for name, plan in plans.items():
        gold = isinstance(plan, SpdPlan) and plan.prediction_weight > 0 and plan.pred.regression_target == "gold"
        if gold and config.tasks[task].kind in ("regression", "ranking"):
            yield (
                f"plans.{name}.pred.regression_target: got gold, the labels, which the texts of tasks.{task}.unlabelled lack; "
                "allowed: teacher"
            )
