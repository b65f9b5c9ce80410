"""What a stage has to reach, from the configuration's words to what methods know: a fraction that goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from espalier.config.job_specs import CompressSpec
from espalier.config.targets import Parameters, Target, Timed
from espalier.models.encoder import count_weights
from espalier.models.files import empty_model
from espalier.pruning.latency import LatencyGoal, latency_goal, read_table
from espalier.runtime.errors import UserError


class Aim(NamedTuple):
    """Fractions to remove: of the encoder's weights, or of the dense model's latency where there is a latency."""

    before: float
    target: float
    latency: LatencyGoal | None = None
    gone: float = 0.0
    """Of the encoder's weights, what the student has no place for, where masks are over single weights."""


def aim_of(wanted: CompressSpec, teacher: Sequence[Path], tables: Sequence[Path]) -> Aim:
    """The aim of a stage.

    Args:
        wanted: with the stage's target and what the student that it starts from has reached.
        teacher: files of the dense model, read where the target is a number of parameters.
        tables: the table of sublayer times where the target is a latency or a speed-up.
    """
    items = [wanted.before, wanted.target]
    if isinstance(wanted.target, Timed):
        table = read_table(*tables)
        before, goal = (latency_goal(table, item) if item else None for item in items)
        return Aim(before.removed if before else 0.0, goal.removed, goal)
    matrices = 0
    if isinstance(wanted.target, Parameters):
        matrices = count_weights(empty_model(teacher, wanted.goal.kind))
    return Aim(*(0.0 if item is None else sparsity_target(item, matrices) for item in items))


def sparsity_target(target: Target, matrices: int) -> float:
    """The sparsity, in [0, 1), that a number or a size asks for.

    Args:
        target: a sparsity, or the number of weights to keep.
        matrices: weights in the dense encoder's matrices.

    Raises:
        UserError: the size is not below the dense model's.
    """
    if not isinstance(target, Parameters):
        return target
    if target.parameters >= matrices:
        raise UserError(f"parameters: got {target.parameters:,}; the dense encoder's matrices have {matrices:,}, ask for fewer")
    return 1.0 - target.parameters / matrices
