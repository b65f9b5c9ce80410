"""Removing weights, heads, units, columns and layers."""
