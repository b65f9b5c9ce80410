"""Pruning and refitting from a look at training rows, without training."""
