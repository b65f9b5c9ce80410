"""Linear maps that round as an int8 model does while they train: quantisation-aware training.

Source: Jacob et al. 2018 (arXiv 1712.05877), section 3: the forward pass rounds, the gradient passes as if it had not. The
grid is that of onnxruntime's dynamic int8, in which models are served (deployment/conversion.py): weights of 7 bits in 129
steps around 0, one scale for each output; activations in 256 steps from the smallest to the largest number of a forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LARGEST_STEP = 64
"""Largest weight on the grid of 7 bits, in steps. Weights that bear it bear 8 bits, too."""
STEPS = 255
"""Steps between the smallest and the largest activation."""
SMALLEST_SCALE = torch.finfo(torch.float32).tiny


def rounded_weight(weight: Float[Tensor, "outputs inputs"]) -> Float[Tensor, "outputs inputs"]:
    """A weight on the int8 grid of each output; zeros stay zeros. Its gradient is that of the weight."""
    exact = weight.detach()
    scale = (exact.abs().amax(dim=1, keepdim=True) / LARGEST_STEP).clamp(min=SMALLEST_SCALE)
    return weight + (torch.round(exact / scale) * scale - exact)


def rounded_states(states: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch inputs"]:
    """Activations on the uint8 grid of this forward pass, on which 0 lies, too. Their gradient is that of the activations."""
    exact = states.detach()
    low, high = exact.amin().clamp(max=0.0), exact.amax().clamp(min=0.0)
    scale = ((high - low) / STEPS).clamp(min=SMALLEST_SCALE)

    # Rounding the zero point moves the range by less than a step: what then lies outside goes to its end.
    zero = torch.round(-low / scale)
    steps = (torch.round(exact / scale) + zero).clamp(0, STEPS)
    return states + ((steps - zero) * scale - exact)


class RoundedLinear(nn.Linear):
    """A linear map on rounded weights and activations; the bias stays as it is."""

    def forward(self, states: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """The product, as it comes out of an int8 model."""
        return F.linear(rounded_states(states), rounded_weight(self.weight), self.bias)


@contextmanager
def rounded_linears(model: nn.Module) -> Iterator[None]:
    """Let every linear map of a model round in forward passes inside this block."""
    # Changing the class keeps modules, parameters and their names.
    linears = [module for module in model.modules() if type(module) is nn.Linear]
    for module in linears:
        module.__class__ = RoundedLinear

    try:
        yield
    finally:
        for module in linears:
            module.__class__ = nn.Linear
