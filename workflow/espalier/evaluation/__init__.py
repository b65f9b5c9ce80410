"""Scores, sizes and times of a finished model."""
