"""Benchmarks of several tasks, as data for the table of known tasks."""
