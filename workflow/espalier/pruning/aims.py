"""What a stage has to reach: a target of the configuration, turned into the fraction that a method has to remove."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from espalier.config.job_specs import CompressSpec
from espalier.config.targets import Parameters, Target, Timed
from espalier.models.encoder import count_weights
from espalier.models.files import empty_model
from espalier.pruning.latency import LatencyTarget, latency_target, read_latency_table
from espalier.runtime.errors import UserError


class Aim(NamedTuple):
    """Fractions to remove: of the dense model's latency where the target is a time, else of the encoder's weights."""

    before: float
    """Fraction that the student lacks when the stage begins."""
    target: float
    """Fraction that it has to lack when the stage ends."""
    latency: LatencyTarget | None = None
    """The latency to reach; None where the target is a sparsity or a size."""
    gone: float = 0.0
    """Fraction of the dense encoder's weights whose rows, columns or layers were cut away; for masks over single weights."""


def aim_of(wanted: CompressSpec, teacher: Sequence[Path], tables: Sequence[Path]) -> Aim:
    """The aim of a stage.

    Args:
        wanted: the stage's target, and the target that the student it starts from has reached.
        teacher: files of the dense model, read where the target is a number of parameters.
        tables: the table of sublayer times where the target is a latency or a speed-up.
    """
    if isinstance(wanted.target, Timed):
        table = read_latency_table(*tables)
        before = latency_target(table, wanted.before).removed if wanted.before else 0.0
        latency = latency_target(table, wanted.target)

        # Both fractions are of the dense model's latency, so stages of a path follow one another.
        return Aim(before, latency.removed, latency)

    # The dense model is opened only where its size is needed.
    matrices = 0
    if isinstance(wanted.target, Parameters):
        matrices = count_weights(empty_model(teacher, wanted.goal.kind))

    before = 0.0 if wanted.before is None else sparsity_target(wanted.before, matrices)
    return Aim(before, sparsity_target(wanted.target, matrices))


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

    # s = 1 - weights to keep / M, with M the weights of the dense encoder's matrices.
    return 1.0 - target.parameters / matrices
