"""Encoders: opening, running, changing and writing them."""
