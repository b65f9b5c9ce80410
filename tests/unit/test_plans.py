"""What a plan's path may be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from espalier.config.methods import AnyPlan
from espalier.training.run import pruning_stage

PLAN = TypeAdapter(AnyPlan)


def plan(method: str, path: list[float]) -> Any:
    return PLAN.validate_python({"method": method, "path": path})


@pytest.mark.parametrize(
    "method",
    [
        *("random", "magnitude", "movement", "spd", "heads", "small-dense", "l0", "cofi", "homodistil", "sdp", "distil"),
        *("kwon", "kprune"),
    ],
)
def test_what_removes_begins_above_0(method):
    with pytest.raises(ValidationError, match=r"path must begin above 0, got 0\.0; the method 'dense' is the control"):
        plan(method, [0.0, 0.5])
    if method not in ("sdp", "distil"):
        with pytest.raises(ValidationError, match="path must begin above 0"):
            plan(method, [0.0])


@pytest.mark.parametrize("method", ["sdp", "distil"])
def test_what_distils_also_trains_without_removing(method):
    """Implicit sparsity (docs/methods/sdp.md §6.4) is that of such models."""
    pruned, whole = (pruning_stage(plan(method, [target]), "classification", 0, 10, True, 0.0, target) for target in (0.5, 0.0))
    assert pruned.removals == {10: 0.5} and pruned.removes
    assert whole.removals == {} and not whole.removes
    assert whole.bounds == pruned.bounds, "the same steps and learning rates"
