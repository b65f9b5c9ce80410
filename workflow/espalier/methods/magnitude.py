"""Iterative magnitude pruning, layer-wise or global, with the task loss alone (Han et al. 2015, arXiv 1506.02626)."""

from __future__ import annotations

from espalier.config.plans import MagnitudePlan
from espalier.core.method import Method


class Magnitude(Method):
    """Rows `mp-layer` and `mp-global` of the SDP specification, section 3.5, by `allocation`.

    Criterion and loss are what the contract gives when a method says nothing.
    """

    settings_class = MagnitudePlan
