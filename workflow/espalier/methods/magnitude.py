"""Iterative magnitude pruning, layer-wise or global, with the task loss alone (Han et al. 2015, arXiv 1506.02626)."""

from __future__ import annotations

from espalier.config.methods.pruning import MagnitudePlan
from espalier.methods.pruning import WeightPruning


class Magnitude(WeightPruning):
    """Rows `mp-layer` and `mp-global` of the docs/methods/sdp.md §3.5, by `allocation`.

    Criterion and loss are what the contract gives when a method says nothing.
    """

    settings: MagnitudePlan
