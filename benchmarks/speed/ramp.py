"""Gates on their way to a target, without training a model: where each gate stands when the expected sparsity is so high.

The gates are the method's own, under its own Lagrangian and with its rate; what the losses of a real run would say is replaced
by a random pull on each gate that wants to stay open. Pulls are in proportion to the weights that a gate stands for, times a
log-normal factor, so that some parts are worth more than others; hidden dimensions are pulled harder, because real runs close
few of them (764 of 768 stay in the authors' released model for MNLI).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from espalier.methods.gated import FASTEST, PAPER_RATE, TRAVEL
from espalier.pruning.budget import SizeBudget
from espalier.pruning.hard_concrete import HardConcreteGates
from espalier.pruning.lagrangian import lagrangian, ramped
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, SUBLAYERS, full_masks, prunable_shape

KINDS = ("heads", "units", "attention", "ffn", "hidden")
STEPS = 400
"""Updates of the gates on the way; the target is reached after most of them."""
RAMP = 0.8
SPREAD = 1.0
"""Standard deviation of the logarithm of a pull."""
HARDER = {HIDDEN: 8.0, **dict.fromkeys(SUBLAYERS, 2.0)}

Values = Mapping[str, Tensor]
"""Log alpha of each vector of gates."""


def standing(student: PreTrainedModel, masks: Masks | None, points: Sequence[float], seed: int = 0) -> dict[float, Values]:
    """Expected sparsity → log alphas, at the first update at which it is reached.

    Args:
        student: the stage's student, without gates.
        masks: what earlier stages have left of the path's first model.
        points: expected sparsities in ascending order; a point that the student has already reached is its start.
        seed: of the pulls and of the first log alphas.

    Raises:
        ValueError: the gates do not come as far as the last point.
    """
    shape = prunable_shape(student.config)
    before = full_masks(shape) if masks is None else masks
    budget = SizeBudget.of(student, before, points[-1])
    gates = HardConcreteGates(shape, KINDS, 10.0, 10.0, torch.Generator().manual_seed(seed))
    pulls = _pulls(gates, budget, seed)

    multipliers = nn.Parameter(torch.zeros(2))
    settings = {"lr": min(FASTEST, max(PAPER_RATE, TRAVEL / STEPS)), "weight_decay": 0.0}
    groups = [{"params": list(gates.parameters())}, {"params": [multipliers], "maximize": True}]
    optimizer = torch.optim.AdamW(groups, **settings)

    start, reached = budget.saved(gates.probabilities()).item(), {}
    for step in range(2 * STEPS):
        probabilities = gates.probabilities()
        saved = budget.saved(probabilities)
        for point in points:
            if point not in reached and saved.item() >= max(point - 0.005, start):
                reached[point] = {name: vector.detach().clone() for name, vector in gates.items()}
        if len(reached) == len(points):
            return reached

        # What a closed gate costs, against the Lagrangian.
        target = ramped(start, points[-1], step, round(RAMP * STEPS))
        cost = sum((pulls[name] * (1.0 - kept)).sum() for name, kept in probabilities.items())
        (cost + lagrangian(saved - target, multipliers[0], multipliers[1], "signed")).backward()
        optimizer.step()
        optimizer.zero_grad()
        gates.clamp()
    raise ValueError(f"gates reached {sorted(reached)} of {list(points)} in {2 * STEPS} updates")


def _pulls(gates: HardConcreteGates, budget: SizeBudget, seed: int) -> dict[str, Tensor]:
    """What closing each gate costs: the fraction of the weights that closes with it, times chance."""
    probabilities = {name: kept.detach().requires_grad_() for name, kept in gates.probabilities().items()}
    budget.saved(probabilities).backward()
    generator = torch.Generator().manual_seed(seed + 1)
    pulls = {}
    for name, kept in probabilities.items():
        chance = torch.exp(SPREAD * torch.randn(kept.shape, generator=generator))
        pulls[name] = -kept.grad * chance * HARDER.get(name, 1.0)
    return pulls
