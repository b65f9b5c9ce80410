"""Guesses about a data file: which kind of task it holds, and how the configuration would say so."""
