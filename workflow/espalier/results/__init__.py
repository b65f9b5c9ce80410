"""The files that runs left behind, read as tables."""
