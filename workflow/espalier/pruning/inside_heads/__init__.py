"""Pruning of single dimensions of heads, and of FFN units: their weights, their importance, and which of them go."""
