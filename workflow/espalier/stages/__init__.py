"""One module a stage; each has a `run` whose keyword arguments are its paths."""
