"""Which code, settings, inputs and versions made a result."""
