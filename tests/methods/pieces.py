"""The gradient of one step, computed from a batch as a whole and from unequal pieces of it."""

from __future__ import annotations

import numpy as np
import torch

from espalier.data.batches import epoch_order
from espalier.runtime.device import random_state, set_random_state
from espalier.training.loop import Loop
from tests import tiny
from tests.methods.conftest import Harness

BATCH = {"batch_size": 27}
"""Of 64 rows: in pieces of 8 the last one has 3."""
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
STOP = 5
"""The step to look at: in the second epoch, where gates are drawn, weights are removed and widths are narrow."""


def stopped(harness: Harness, plan: dict, **changes: object) -> Loop:
    """A run without dropout, at the beginning of a step; in double precision, so that rounding does not hide a difference."""
    loop = harness.loop({**plan, **BATCH, **changes}, student=harness.model(1, **STILL), teacher=harness.model(2).double())
    loop.student.double()
    return halted(loop, STOP)


def halted(loop: Loop, step: int) -> Loop:
    """The run at this step, whose method has done what comes before the batch."""
    tiny.halted(loop, step)
    loop.method.before_step(step)
    loop._to_training()
    return loop


def picked(loop: Loop) -> np.ndarray:
    """The rows of the step, the row of text among them that has padding."""
    epoch, place = divmod(loop.step, loop.steps_per_epoch)
    rows = epoch_order(loop.rows.lengths, loop.settings.batch_size, loop.method.stage.seed, epoch)[place]
    others = [row for row in rows if row != len(loop.rows) - 1]
    return np.array([*others[:26], len(loop.rows) - 1])


def gradient(loop: Loop, micro: int) -> dict[str, torch.Tensor]:
    """Gradients of all that is trained or read, and the loss terms; the loop is as before afterwards."""
    loop.micro = micro
    device = loop.accelerator.device
    random = random_state(device, loop.method.generator)
    totals = loop._gradients(picked(loop))
    set_random_state(random, device, loop.method.generator)

    found = {}
    for kind, tensors in (("trained", loop._trained()), ("read", loop.method.gradients_to_read())):
        for place, tensor in enumerate(tensors):
            if tensor.grad is not None:
                found[f"{kind}/{place}"], tensor.grad = tensor.grad.clone(), None
    return found | {f"loss/{name}": value for name, value in totals.items()}


def check(loop: Loop) -> None:
    """The same gradient to 1e-6 of its norm, whatever the pieces."""
    whole = gradient(loop, 27)
    for micro in (8, 1):
        same(whole, gradient(loop, micro))

    # A device that runs out of memory in the middle of a batch that it has begun.
    if isinstance(loop.settings.micro_batch_size, str | None):
        object.__setattr__(loop.settings, "micro_batch_size", "auto")
        run_out_once(loop, after=2)
        same(whole, gradient(loop, 9))
        assert loop.micro == 5


def run_out_once(loop: Loop, after: int) -> None:
    """Let the forward pass fail once, after so many that had gradients."""
    passes = []

    def refuse(module: torch.nn.Module, inputs: tuple) -> None:
        if torch.is_grad_enabled():
            passes.append(module)
        if len(passes) == after + 1:
            passes.append(module)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    loop.student.register_forward_pre_hook(refuse)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Both have the same names and, to rounding, the same numbers."""
    assert one.keys() == other.keys()
    for kind in ("trained", "read", "loss"):
        names = [name for name in one if name.startswith(kind)]
        if names:
            first, second = (torch.cat([found[name].double().flatten() for name in names]) for found in (one, other))
            assert float((first - second).norm()) <= 1e-6 * max(float(first.norm()), 1e-3), kind
